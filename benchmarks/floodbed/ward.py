"""An edge node as a process, with a broker, in a round that stays open; the region is played here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.results_file import REPOSITORY
from common import topics, wire
from common.digest import tensors_digest
from common.errors import PulseRingError
from common.health import announced_url
from common.link import Link
from common.mailbox import Mailbox, message_path
from common.messages import HospitalStatus, ModelHeader, RegionState, RoundSpec
from common.signing import Keyring, Signer
from edge import reports
from simulators.broker import EmbeddedBroker
from simulators.broker_process import Kind
from tests.faults.attacked_desk import BEATS, DEVICES, UNINVITED
from tests.faults.hostile import Target

REGION, HOSPITAL = "county", "north"
OPEN_S = 24 * 3600.0
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 15.0
POLL_S = 0.05
MIB = 1 << 20


class Ward:
    """``python -m edge run`` with wristbands `names` and the hostile ones, all invited.

    ::

        with Ward(folder, "mosquitto", names, mute_after=0) as ward:
            attack(ward.broker.host, ward.broker.port, ward.target)
    """

    def __init__(self, folder: Path, kind: Kind, names: Sequence[str], mute_after: int) -> None:
        self.folder = folder
        self.broker = EmbeddedBroker(kind=kind)
        self._roster = (*names, *DEVICES, "silent")  # who never delivers keeps the round open
        self._invited: set[str] = set()
        self._mute_after = mute_after
        self._status: HospitalStatus | None = None
        model = {name: np.zeros(shape, np.float32) for name, shape in BEATS.items()}
        self._model = wire.encode(
            ModelHeader(region=REGION, task="dummy", digest=tensors_digest(model), made_by_round=0),
            model,
        )
        spec = _spec(tensors_digest(model))
        self.target = Target(spec, BEATS, HOSPITAL, DEVICES, UNINVITED)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.broker.stop)
            self.broker.start()
            self._process = self._start()
            stack.callback(self._end)
            link = self._play_region()
            stack.callback(link.stop)
            self._wait(self._is_open, "the open round")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def spec(self) -> RoundSpec:
        """The open round."""
        return self.target.spec

    @property
    def rss_mib(self) -> float:
        """Resident memory of the edge node, without its rank."""
        return float(psutil.Process(self._process.pid).memory_info().rss / MIB)

    @property
    def state_dir(self) -> Path:
        """Where the node's ledger lies."""
        return self.folder / "edge"

    def results(self) -> dict[str, int]:
        """Messages so far by result, as its ``/metrics`` says."""
        with urllib.request.urlopen(f"{announced_url(self.state_dir)}/metrics", timeout=10) as page:  # noqa: S310 (its own)
            families = text_string_to_metric_families(page.read().decode())
        results: dict[str, int] = {}
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == "pulsering_edge_messages_total":
                result = sample.labels["result"]
                results[result] = results.get(result, 0) + int(sample.value)
        return results

    def stored_updates(self) -> list[str]:
        """Whose updates are in the ledger, one entry a row."""
        return [row["device"] for row in reports.updates(self.state_dir)]

    def wait_for_results(self, num: int, timeout_s: float) -> dict[str, int]:
        """Results, when there are `num` of them.

        Raises
        ------
        PulseRingError
            When there are fewer within `timeout_s`.
        """
        self._wait(lambda: sum(self.results().values()) >= num, f"{num} messages judged", timeout_s)
        return self.results()

    def _start(self) -> subprocess.Popen[bytes]:
        config = self._configure()
        with (self.folder / "edge.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "edge", "run", "--config", str(config)],
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _configure(self) -> Path:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        mailbox = Mailbox(
            str(folder / "mailbox"), Signer.at("region", folder / "region"), Keyring({})
        )
        mailbox.put(self.spec.locations[self.spec.base_digest], self._model)
        (folder / "roster.txt").write_text("\n".join(self._roster))
        values: dict[str, Any] = {
            "region": REGION,
            "hospital": HOSPITAL,
            "region_broker": self.broker.url,
            "hospital_broker": self.broker.url,
            "state_dir": str(self.state_dir),
            "mailbox": str(folder / "mailbox"),
            "coordinator_key": str(folder / "region" / "signing.pub"),
            "roster_file": str(folder / "roster.txt"),
            "mute_after": self._mute_after,
        }
        path = folder / "edge.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path

    def _play_region(self) -> Link:
        state = wire.encode_json(
            RegionState(region=REGION, revision=1, phase="open", spec=self.spec)
        )
        link: Link

        def say() -> None:
            link.publish(topics.round_state(REGION), state, retain=True)

        link = Link(
            self.broker.url,
            "played-region",
            on_connect=say,
            on_message=lambda topic, data, _message: self._hear(topic, data),
            subscriptions=[
                topics.hospital_status(REGION, HOSPITAL),
                topics.device(REGION, HOSPITAL, "+", "invite"),
            ],
        )
        link.start()
        return link

    def _hear(self, topic: str, data: bytes) -> None:
        if topic.endswith("/invite"):
            self._invited.add(topic)
        else:
            self._status = wire.decode_json(data, HospitalStatus)

    def _is_open(self) -> bool:
        status = self._status
        is_open = bool(status and status.phase == "collecting" and status.rank == "warm")
        return is_open and len(self._invited) == len(self._roster)

    def _wait(
        self, reached: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "edge.log").read_text(errors="replace")
                raise PulseRingError(f"the edge node did not come to {what}: {log[-2000:]}")
            time.sleep(POLL_S)

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _spec(base: str) -> RoundSpec:
    now = time.time()
    return RoundSpec.model_validate(
        {
            "region": REGION,
            "day": 1,
            "cycle": 1,
            "round_id": 1,
            "task": "dummy",
            "base_digest": base,
            "state_digest": tensors_digest({}),
            "server": {},
            "local": {"learning_rate": 0.1, "num_steps": 1, "batch_size": 1},
            "fixed_point": {"clip_norm": 1.0, "exponents": dict.fromkeys(BEATS, -14)},
            "evaluate": (base,),
            "evaluation_shapes": {"confusion": (5, 5), "scores": (5, 2, 20)},
            "locations": {base: message_path(REGION, "ring", 0, f"{base}.safetensors")},
            "opened_at": now,
            "closes_at": now + OPEN_S,
        }
    )
