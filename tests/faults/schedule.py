"""Random schedules: what happens to whom and when, all of it from a seed and a number.

Nothing here touches a region, so that a schedule can be printed, and made again from its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.faultbed.bed import ROSTER
from simulators.local_region import edge_name
from tests.faults.brokers import FORGETFUL, IOTCORE, NARROW, PERSISTENT
from tests.faults.region import Surroundings
from tests.faults.table import POINTS
from tests.faults.wristbands import Habits

Kind = Literal[
    "kill",
    "point",
    "stop",
    "cut",
    "reset",
    "stall",
    "delay",
    "throttle",
    "half-close",
    "clock",
    "storm",
    "rubbish",
    "revoke",
    "fill disk",
    "overflow",
]
GROUP = 20
"""Schedules that share one region, one after the other."""
SPAN_S = 1.5
MAX_FAULTS = 4
HOSPITALS = tuple(sorted(ROSTER))
KINDS: dict[Kind, float] = {
    "kill": 3,
    "point": 4,
    "stop": 2,
    "cut": 1,
    "reset": 1,
    "stall": 1,
    "delay": 0.5,
    "throttle": 0.5,
    "half-close": 1,
    "clock": 1,
    "storm": 1,
    "rubbish": 0.5,
    "revoke": 1,
}
CLOCK_STEPS_S = (3.0, 30.0, 600.0, 7200.0)
NUM_STORM = 60
_DISK, _OVERFLOW = 4.0, 4.0


@dataclass(frozen=True)
class Fault:
    """One thing that happens.

    Attributes
    ----------
    target : str
        A process, a link, or a hospital.
    at_s : float
        Since the schedule began.
    for_s : float
        Until it is undone; 0 when there is nothing to undo.
    value : float or str
        Seconds, bytes a second, or the name of a point.
    """

    kind: Kind
    target: str
    at_s: float
    for_s: float = 0.0
    value: float | str = 0.0

    def __str__(self) -> str:
        value = f" {self.value}" if self.value else ""
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:.2f} s: {self.kind} {self.target}{value}{lasting}"


@dataclass(frozen=True)
class Schedule:
    """What happens in a region, and how its wristbands behave meanwhile."""

    number: int
    faults: tuple[Fault, ...]
    habits: Habits


def surroundings(seed: int, group: int, *, disk: bool, mosquitto: bool) -> Surroundings:
    """What a group of schedules runs in.

    Parameters
    ----------
    disk, mosquitto : bool
        Whether this machine can mount a small disk, and has a mosquitto.
    """
    rng = np.random.default_rng([seed, 1, group])
    brokers = (IOTCORE, PERSISTENT, FORGETFUL, NARROW, IOTCORE)
    place = group % len(brokers)
    parts = int(rng.choice([1, 1, 1, 4]))
    learning: dict[str, Any] = {
        "weighting": str(rng.choice(["uniform", "examples"])),
        "bits": int(rng.choice([8, 16])),
        "parts": parts,
    }
    if parts == 1 and rng.random() < 0.3:
        learning["algorithm"] = "fedadam"
    rounds = {
        "deadline_s": float(rng.choice([2.0, 5.0])),
        "sample_fraction": float(rng.choice([1.0, 1.0, 0.6])),
        "round_pause_s": float(rng.choice([0.0, 0.1, 0.3])),
        "max_generations": int(rng.choice([2, 3])),
        "rejoin_s": float(rng.choice([3.0, 6.0])),
        "max_staleness": int(rng.choice([0, 1, 2, 3])) if parts == 1 else 0,
    }
    return Surroundings(
        broker=brokers[place] if mosquitto else IOTCORE,
        small_disk=HOSPITALS[int(rng.integers(3))] if place == 2 and disk else "",
        rounds=rounds,
        learning=learning,
    )


def schedule(seed: int, number: int, around: Surroundings) -> Schedule:
    """The schedule of that number, from 0."""
    rng = np.random.default_rng([seed, 2, number])
    weights: dict[Kind, float] = dict(KINDS)
    if around.small_disk:
        weights["fill disk"] = _DISK
    if around.broker is NARROW:
        weights["overflow"] = _OVERFLOW
    num = int(rng.integers(1, MAX_FAULTS + 1))
    faults = (_fault(rng, _pick(rng, weights), around) for _ in range(num))
    return Schedule(number, tuple(sorted(faults, key=lambda f: f.at_s)), _habits(rng))


def _habits(rng: np.random.Generator) -> Habits:
    """Half of the time well-behaved, else each bad habit up to three times in ten."""
    if rng.random() < 0.5:
        return Habits()
    return Habits(*(float(share) for share in rng.uniform(0, 0.3, 5)))


def _fault(rng: np.random.Generator, kind: Kind, around: Surroundings) -> Fault:
    at_s, for_s = float(rng.uniform(0, SPAN_S)), float(rng.uniform(0.2, 2.0))
    hospital = HOSPITALS[int(rng.integers(len(HOSPITALS)))]
    edge = edge_name(hospital)
    links = ("region", f"{edge}-up", f"{edge}-down", f"bands-{hospital}")
    victims: tuple[str, ...]
    match kind:
        case "kill":
            victims = (edge, edge, f"rank-{hospital}", f"keeper-{hospital}", "region", "broker")
            away_s = float(rng.choice([0.0, 0.0, for_s]))
            return Fault(kind, _of(rng, victims), at_s, away_s)
        case "point":
            point = POINTS[int(rng.integers(len(POINTS)))]
            process = {"edge": edge, "rank": f"rank-{hospital}", "coordinator": "region"}
            return Fault(kind, process[point.process], at_s, 0.0, point.name)
        case "stop":
            victims = (edge, edge, f"rank-{hospital}", "region", "broker")
            return Fault(kind, _of(rng, victims), at_s, for_s)
        case "cut" | "stall":
            return Fault(kind, _of(rng, links), at_s, for_s)
        case "reset" | "rubbish" | "storm":
            targets = links if kind == "reset" else (hospital,)
            return Fault(kind, _of(rng, targets), at_s, 0.0, NUM_STORM if kind == "storm" else 0.0)
        case "revoke":
            devices = [device for device, _ in ROSTER[hospital]]
            return Fault(kind, hospital, at_s, for_s, _of(rng, devices))
        case "half-close":
            return Fault(kind, _of(rng, links), at_s, 0.0, _of(rng, ("to broker", "from broker")))
        case "delay":
            return Fault(
                kind, _of(rng, links), at_s, for_s, round(float(rng.uniform(0.02, 0.5)), 3)
            )
        case "throttle":
            return Fault(kind, _of(rng, links), at_s, for_s, float(rng.choice([2e3, 2e4])))
        case "clock":
            step_s = float(rng.choice(CLOCK_STEPS_S)) * float(rng.choice([-1, 1]))
            return Fault(kind, _of(rng, (edge, "region")), at_s, for_s, step_s)
        case "fill disk":
            return Fault(kind, edge_name(around.small_disk), at_s, for_s)
        case "overflow":
            return Fault(kind, hospital, at_s, for_s, NUM_STORM)


def _pick(rng: np.random.Generator, weights: dict[Kind, float]) -> Kind:
    kinds, shares = list(weights), np.array(list(weights.values()))
    return kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]


def _of(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]
