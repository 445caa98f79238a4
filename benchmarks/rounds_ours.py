"""Our side: a whole region of this machine, with wristbands that answer at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import loopback, process_memory
from benchmarks.rounds_learning import TASK, Lesson
from benchmarks.rounds_trail import Trail
from benchmarks.rounds_watch import Watch
from benchmarks.rounds_wristbands import Wristband, start_around, start_broker
from common.digest import Tensors
from common.errors import PulseRingError
from common.messages import RoundSpec
from simulators.local_region import LocalRegion, RegionPlan, edge_name
from simulators.supervisor import ProcessError

START_TIMEOUT_S, ROUND_TIMEOUT_S = 180.0, 120.0
NUM_TRIES = 3
ROUNDS = {"rounds_per_day": 10_000, "num_days": 1, "round_pause_s": 0.0}


@dataclass(frozen=True)
class Ours:
    """What a run of the region gave; `specs` and `models` by round, counted from 1."""

    trail: Trail
    specs: dict[int, RoundSpec]
    models: dict[int, Tensors]
    bytes_at: dict[int, int]
    memory: dict[str, float]


def run(lesson: Lesson, num_rounds: int, root: Path) -> Ours:
    """Go through `num_rounds` rounds and see the next model out; then weigh the hospitals.

    Raises
    ------
    PulseRingError
        When a round does not end, or an update was refused.
    """
    for attempt in range(1, NUM_TRIES + 1):
        try:
            return _run(lesson, num_rounds, root / f"try-{attempt}")
        except ProcessError as fault:  # a port that was free was taken before it was bound
            if "in use" not in fault.message or attempt == NUM_TRIES:
                raise
    raise AssertionError


def _run(lesson: Lesson, num_rounds: int, root: Path) -> Ours:
    region, trail = _region(lesson, root), Trail()
    with ExitStack() as stack:
        stack.callback(region.stop)
        region.configure()
        watch = Watch(region, trail)
        wristbands = _wristbands(region, lesson, trail)
        _start(region, stack, watch, wristbands)
        bytes_at = _follow(region, trail, wristbands, num_rounds)
        memory = _memory(region)
    faults = [fault for wristband in wristbands for fault in wristband.faults]
    if faults:
        raise PulseRingError(f"the updates did not arrive as they were made: {faults[:3]}")
    return Ours(trail, wristbands[0].specs, wristbands[0].models, bytes_at, memory)


def _region(lesson: Lesson, root: Path) -> LocalRegion:
    num_hospitals = lesson.updates.shape[1]
    roster = {f"hospital-{k:02d}": [(f"wb-{k:02d}", str(k))] for k in range(num_hospitals)}
    rounds: dict[str, Any] = {**ROUNDS, "quorum": num_hospitals}
    return LocalRegion(
        RegionPlan(root=root, roster=roster, task=TASK, rounds=rounds, heartbeat_s=5.0)
    )


def _wristbands(region: LocalRegion, lesson: Lesson, trail: Trail) -> list[Wristband]:
    last = lesson.updates.shape[0]
    return [
        Wristband(
            region.broker_url,
            region.plan.region,
            hospital,
            devices[0][0],
            partial(_update, lesson, last, k),
            trail,
        )
        for k, (hospital, devices) in enumerate(region.plan.roster.items())
    ]


def _update(lesson: Lesson, last: int, hospital: int, round_id: int) -> Tensors:
    return lesson.update(min(round_id, last), hospital)


def _start(
    region: LocalRegion, stack: ExitStack, watch: Watch, wristbands: list[Wristband]
) -> None:
    start_broker(region)
    stack.enter_context(watch)
    start_around(region, wristbands, stack)


def _follow(
    region: LocalRegion, trail: Trail, wristbands: list[Wristband], num_rounds: int
) -> dict[int, int]:
    """Wait for the model of each round; bytes sent so far when all wristbands had it."""
    bytes_at = {}
    for round_id in range(1, num_rounds + 2):
        timeout_s = START_TIMEOUT_S if round_id <= 2 else ROUND_TIMEOUT_S
        all_have_it = partial(_have_model, trail, round_id, len(wristbands))
        region.wait(all_have_it, timeout_s, f"the model of round {round_id}")
        bytes_at[round_id] = loopback.num_bytes()
    return bytes_at


def _have_model(trail: Trail, round_id: int, num: int) -> bool:
    return trail.count("model", round_id) >= num


def _memory(region: LocalRegion) -> dict[str, float]:
    """Of the largest hospital: its edge node and its rank, which waits between two rounds."""
    supervisor = region.supervisor
    return process_memory.largest(
        [
            process_memory.of_sessions([supervisor[edge_name(hospital)].pid])
            for hospital in region.plan.roster
        ]
    )
