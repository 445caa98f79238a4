"""Hospitals that speak real bytes over MQTT and mailbox; their sums are made in numpy."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from common import topics
from common.digest import tensors_digest
from common.errors import ContractError
from common.fold import Sums, mean_update, server_step
from common.link import Link
from common.mailbox import Mailbox, message_path
from common.messages import (
    HospitalStatus,
    ModelHeader,
    RankResult,
    RegionState,
    RingPlan,
    RingSumHeader,
    RoundSpec,
)
from common.round_sums import Counts
from common.signing import Keyring, Signer
from common.wire import decode, decode_json, encode, encode_json, with_prefix, without_prefix

REGION = "county"
HOSPITALS = ("east", "north", "west")
WEIGHT = 4

Arrays = dict[str, npt.NDArray[Any]]


class FakeHospital:
    """Says what an edge node says; its sums are made in numpy from a seed that names the update."""

    def __init__(
        self, name: str, folder: Path, broker: str, group: dict[str, FakeHospital]
    ) -> None:
        self.name = name
        self.group = group
        self.signer = Signer.at(name, folder / name)
        keys = {"region": folder / "region" / "signing.pub"}
        self.mailbox = Mailbox(str(folder / "mailbox"), self.signer, Keyring(keys))
        self.aggregate: Arrays = {}
        self.models: dict[str, Arrays] = {}
        self.round_before_was_told: dict[int, bool] = {}
        self.generations: list[int] = []
        self.last_answered = math.inf  # the last round in whose ring it takes part
        self.lock = RLock()
        self.ended = Event()
        self.status = HospitalStatus(
            region=REGION, hospital=name, rank="warm", rank_pid=1000, num_devices=2
        )
        self.link = Link(
            broker,
            f"fake-{name}",
            on_connect=self.say,
            on_message=self.hear,
            subscriptions=[topics.round_state(REGION)],
        )
        self.beats = Thread(target=self.beat, name=f"beats-{name}", daemon=True)

    def start(self) -> None:
        self.link.start()
        self.beats.start()

    def stop(self) -> None:
        self.ended.set()
        self.link.stop()

    def beat(self) -> None:
        while not self.ended.wait(0.5):
            with self.lock:
                self.say()

    def say(self, **changes: Any) -> None:
        self.status = self.status.model_copy(
            update={**changes, "revision": self.status.revision + 1}
        )
        topic = topics.hospital_status(REGION, self.name)
        self.link.publish(topic, encode_json(self.status), retain=True)

    def hear(self, _topic: str, payload: bytes, _token: object) -> None:
        state = decode_json(payload, RegionState)
        # The mailbox may be away; the state comes again.
        with self.lock, suppress(OSError, ContractError):
            if self.status.rank == "joined" and self.status.generation < state.min_generation:
                self.say(rank="warm", rank_pid=self.status.rank_pid + 1, generation=0)
            if self.status.min_generation < state.min_generation:
                self.say(min_generation=state.min_generation)
            if state.phase == "open" and state.spec:
                self.collect(state.spec)
            answers = state.plan and state.plan.round_id <= self.last_answered
            if state.phase == "ring" and state.plan and state.spec and answers:
                self.join(state.spec, state.plan)

    def collect(self, spec: RoundSpec) -> None:
        if self.status.round_id == spec.round_id:
            return
        base = self.base_of(spec)
        before = message_path(REGION, "ring", spec.round_id - 1, "outcome.json")
        self.round_before_was_told[spec.round_id] = self.mailbox.exists(before)
        self.aggregate = make_aggregate(self.name, spec, base)
        weight = int(self.aggregate["counts"][0])
        self.say(
            round_id=spec.round_id,
            phase="ready",
            aggregate_digest=tensors_digest(self.aggregate),
            weight=weight,
            num_invited=2,
            num_stored=2 if weight else 0,
            num_evaluated=2,
            complete=True,
            result=None,
            failure=None,
        )

    def base_of(self, spec: RoundSpec) -> Arrays:
        """The base model, kept since it was first read."""
        if spec.base_digest not in self.models:
            data = self.mailbox.get(spec.locations[spec.base_digest], signer="region")
            _, base = decode(data, ModelHeader)
            assert tensors_digest(base) == spec.base_digest
            self.models[spec.base_digest] = base
        return self.models[spec.base_digest]

    def join(self, spec: RoundSpec, plan: RingPlan) -> None:
        if self.name not in plan.members or (
            self.status.result and self.status.result.generation == plan.generation
            and self.status.result.round_id == plan.round_id
        ):  # fmt: skip
            return
        self.generations.append(plan.generation)
        self.say(rank="joined", generation=plan.generation)
        aggregates = [self.group[member].aggregate for member in plan.members]
        sums = {n: np.sum([a[n] for a in aggregates], axis=0) for n in self.aggregate}
        if plan.members[0] == self.name:
            self.put_sums(spec, plan, sums)
        model, state, weight = next_model(self.base_of(spec), spec, sums)
        result = RankResult(
            round_id=spec.round_id,
            generation=plan.generation,
            sums_digest=tensors_digest(sums),
            model_digest=model,
            state_digest=state,
            **(Counts.of(sums)._asdict() | {"weight": weight}),
        )
        self.say(result=result)

    def put_sums(self, spec: RoundSpec, plan: RingPlan, sums: Arrays) -> None:
        weight, num_updates, num_evaluations, num_saturated = map(int, sums["counts"])
        header = RingSumHeader(
            region=REGION,
            round_id=spec.round_id,
            generation=plan.generation,
            base_digest=spec.base_digest,
            members=plan.members,
            weight=weight,
            num_updates=num_updates,
            num_evaluations=num_evaluations,
            num_saturated=num_saturated,
        )
        name = f"{tensors_digest(sums)}.safetensors"
        path = message_path(REGION, "ring", spec.round_id, name)
        if not self.mailbox.exists(path):
            self.mailbox.put(path, encode(header, sums))


def make_aggregate(hospital: str, spec: RoundSpec, base: Arrays) -> Arrays:
    rng = np.random.default_rng(spec.round_id)
    train = spec.purpose == "train"
    update = make_update(hospital, spec.base_digest, base)
    tensors: Arrays = with_prefix("update", update) if train else {}
    for digest in spec.evaluate:
        for name, shape in spec.evaluation_shapes.items():
            tensors[f"evaluation/{digest}/{name}"] = rng.integers(0, 9, shape, dtype=np.int64)
    tensors["counts"] = np.array([WEIGHT if train else 0, 2 if train else 0, 2, 0], np.int64)
    return tensors


def make_update(hospital: str, base_digest: str, base: Arrays) -> Arrays:
    rng = np.random.default_rng(int(base_digest[:8], 16) + HOSPITALS.index(hospital))
    return {n: rng.integers(-4000, 4000, t.shape, dtype=np.int64) for n, t in sorted(base.items())}


def next_model(base: Arrays, spec: RoundSpec, sums: Arrays) -> tuple[str, str, int]:
    weight = int(sums["counts"][0])
    if spec.purpose == "evaluate":
        return spec.base_digest, spec.state_digest, weight
    summed = Sums(without_prefix("update", sums), weight)
    mean = mean_update(summed, spec.fixed_point.exponents)
    model, state = server_step(base, {}, mean, spec.server)
    return tensors_digest(model), tensors_digest(state), weight
