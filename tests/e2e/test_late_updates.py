"""A wristband that misses its round in a region of real processes is counted in the next, by age."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import MQTTMessage

from common import topics, wire
from common.digest import tensors_digest
from common.link import Link
from common.messages import Invite, Receipt, RoundSpec, UpdateHeader
from simulators.local_region import LocalRegion, edge_name
from tests.builders.regions import ROSTER, Witness, make_region

ROOT = Path(__file__).resolve().parents[2]
PUNCTUAL = {hospital: [w for w in bands if w[0] != "wb-07"] for hospital, bands in ROSTER.items()}


class SlowBand:
    """Wristband wb-07 by hand: it hears its invites and sends when the test wants."""

    def __init__(self, region: LocalRegion) -> None:
        self.invites: dict[int, RoundSpec] = {}
        self.receipts: list[Receipt] = []
        self._tried: set[int] = set()
        self._region = region.plan.region
        self._link = Link(
            region.broker_url,
            "slow-band",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[self._topic("invite"), self._topic("receipt")],
        )

    def __enter__(self) -> SlowBand:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def send(self, spec: RoundSpec, base_digest: str, integers: dict[str, np.ndarray]) -> None:
        header = UpdateHeader(
            region=self._region,
            hospital="valley",
            device="wb-07",
            round_id=spec.round_id,
            base_digest=base_digest,
            num_examples=10,
            num_saturated=0,
        )
        assert self._link.publish(self._topic("update"), wire.encode(header, integers))

    def spec_after(self, first: RoundSpec) -> RoundSpec | None:
        """The last training round that takes an update for the first one's base late."""
        fits = [
            spec
            for spec in self.invites.values()
            if first.base_digest in spec.late_bases and spec.purpose == "train"
        ]
        return max(fits, key=lambda spec: spec.round_id, default=None)

    def delivers(self, first: RoundSpec, integers: dict[str, np.ndarray]) -> bool:
        """Send in a round that was not tried yet; whether the last receipt was ``stored``."""
        spec = self.spec_after(first)
        if spec and spec.round_id not in self._tried:
            self._tried.add(spec.round_id)
            self.send(spec, first.base_digest, integers)
        return bool(self.receipts) and self.receipts[-1].status == "stored"

    def _topic(self, leaf: topics.DeviceLeaf) -> str:
        return topics.device(self._region, "valley", "wb-07", leaf)

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        if payload and topic.endswith("invite"):
            spec = wire.decode_json(payload, Invite).spec
            self.invites[spec.round_id] = spec
        elif payload:
            self.receipts.append(wire.decode_json(payload, Receipt))


@pytest.fixture
def region(tmp_path: Path) -> Iterator[LocalRegion]:
    rounds = {"rounds_per_day": 3, "deadline_s": 5.0, "max_staleness": 2}
    region = make_region(tmp_path, rounds=rounds)
    region.configure()
    region.write_fleet("fleet", PUNCTUAL)
    try:
        region.start_broker()
        yield region
    finally:
        region.stop()


def members_of(region: LocalRegion, hospital: str, spec: RoundSpec) -> list[str]:
    """Whose update for the round's own base is in the hospital's aggregate."""
    with closing(sqlite3.connect(region.state_dir(edge_name(hospital)) / "ledger.sqlite")) as db:
        query = "SELECT device FROM aggregate_members WHERE round_id = ?"
        return [device for (device,) in db.execute(query, (spec.round_id,))]


def test_a_late_update_moves_the_next_model_as_its_age_says(region: LocalRegion) -> None:
    with Witness(region) as witness, SlowBand(region) as band:
        for name in region.processes:
            region.start_process(name)
        region.wait(lambda: band.invites, 60, "the first invite")
        first = min(band.invites.values(), key=lambda spec: spec.round_id)
        region.wait(lambda: band.spec_after(first), 90, "a round that takes the base late")
        base = witness.models[first.base_digest]
        rng = np.random.default_rng(7)
        late = {n: rng.integers(-500, 500, v.shape).astype(np.int16) for n, v in base.items()}
        region.wait(lambda: band.delivers(first, late), 30, "a receipt for the late update")
        spec = band.invites[band.receipts[-1].round_id]
        region.wait(lambda: region.status().get("phase") == "finished", 120, "the day's end")

        ended = next(r for r in region.rounds() if r["round_id"] == spec.round_id)
        assert ended["end"] == "committed"
        members = [name for hospital in ROSTER for name in members_of(region, hospital, spec)]
        fresh = [witness.updates[spec.round_id][device][1] for device in members]
        assert fresh
        old, new = first.fixed_point.exponents, spec.fixed_point.exponents
        age = 1 + spec.late_bases.index(first.base_digest)
        factor = int(256 / math.sqrt(1 + age))
        weight = 256 * len(fresh) + factor
        moved = {}
        for name, value in witness.models[spec.base_digest].items():
            shifted = np.clip(late[name].astype(np.int64) << (old[name] - new[name]), -32767, 32767)
            total = 256 * sum(each[name].astype(np.int64) for each in fresh) + factor * shifted
            mean = total * 2.0 ** new[name] / weight
            moved[name] = (value.astype(np.float64) + mean).astype(np.float32)
        assert ended["model_digest"] == tensors_digest(moved)

    with closing(sqlite3.connect(region.state_dir(edge_name("valley")) / "ledger.sqlite")) as db:
        given = db.execute("SELECT fate, round_id FROM fates WHERE device = 'wb-07'").fetchall()
    assert given == [("counted", spec.round_id)]
    config = str(region.config_path("region"))
    command = [sys.executable, "-m", "regional", "replay", "-c", config]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
