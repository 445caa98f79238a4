"""A clinic's figures from what was measured of it: a round's share, an idle day, a day of rounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.clinicbed.body import ROLES, Body, largest
from common.errors import QuorumError

Measured = Mapping[str, Any]
ROUNDS_A_DAY = 24
DAY_S = 24 * 3600.0
SETTLED = 2
MB = 1e6


def figures(measured: Measured) -> dict[str, Any]:
    """Seconds, memory, processor time and bytes of one run.

    What a round costs is what the time from the first settled round's opening to that of the
    day's evaluation cost over an idle time of that length.

    Raises
    ------
    QuorumError
        When too few rounds were committed.
    """
    trained = [r for r in measured["rounds"] if r["purpose"] == "train" and r["end"] == "committed"]
    settled = trained[SETTLED:]
    if not settled:
        raise QuorumError(f"{len(trained)} rounds were committed: too few to measure")
    course, idle = measured["course"], measured["idle"]
    rest = _rates(course, idle["began"], idle["ended"])
    start, last = settled[0]["opened_at"], settled[-1]["opened_at"]
    end = min(r["opened_at"] for r in measured["rounds"] if r["opened_at"] > last)
    work = _rates(course, start, end)
    a_round = {n: (work[n] - rest[n]) * (end - start) / len(settled) for n in work}
    return {
        "rounds_committed": len(trained),
        "rounds_not_committed": sum(r["end"] != "committed" for r in measured["rounds"]),
        "round_s": round(median(r["seconds"] for r in settled), 3),
        "rounds_s": [round(r["seconds"], 2) for r in settled],
        "ring_s": round(median(r["ring_seconds"] for r in settled), 3),
        "memory_mib": dict(largest(Body(**reading["body"]) for reading in course)),
        "memory_charged_mib": round(measured["peak_bytes"] / 2**20, 1),
        "killed_for_memory": measured["num_killed"],
        "cpu_s": _day(a_round, rest, "cpu_s", 1.0),
        "mb": {name: _day(a_round, rest, name, MB) for name in sorted(rest) if name != "cpu_s"},
        "idle_said": _said(idle),
    }


def total(of_ways: Mapping[str, Mapping[str, float]], what: str) -> float:
    """Sum of one figure over all ways of the link."""
    return round(sum(of_way[what] for of_way in of_ways.values()), 3)


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median of each number over runs, in the form of the first; lists are joined."""
    first = runs[0]
    found: dict[str, Any] = {}
    for name, value in first.items():
        each = [run[name] for run in runs]
        if isinstance(value, Mapping):
            found[name] = medians(each)
        elif isinstance(value, list):
            found[name] = [item for one in each for item in one]
        else:
            found[name] = round(median(each), 4)
    return found


def _rates(course: Sequence[Mapping[str, Any]], start: float, end: float) -> dict[str, float]:
    """What each count grew by a second, between the last readings before `start` and `end`."""
    times = [reading["at"] for reading in course]
    first, last = (course[max(bisect_right(times, at) - 1, 0)] for at in (start, end))
    seconds = last["at"] - first["at"]
    if seconds <= 0:
        raise QuorumError("the clinic was not measured while it was at work")
    grown = {name: last["bytes"][name] - num for name, num in first["bytes"].items()}
    grown["cpu_s"] = last["body"]["cpu_s"] - first["body"]["cpu_s"]
    return {name: value / seconds for name, value in grown.items()}


def _day(
    a_round: Mapping[str, float], rest: Mapping[str, float], name: str, unit: float
) -> dict[str, float]:
    per_round, idle_day = a_round[name] / unit, rest[name] * DAY_S / unit
    return {
        "a_round": round(per_round, 4),
        "idle_day": round(idle_day, 3),
        "day": round(ROUNDS_A_DAY * per_round + idle_day, 3),
    }


def _said(idle: Mapping[str, Any]) -> dict[str, float]:
    """How large, and how often a minute, what is repeated while nothing happens is."""
    said, minutes = idle["said"], (idle["ended"] - idle["began"]) / 60.0
    return {
        "region_state_bytes": round(said["state_bytes"] / max(1, said["states"])),
        "region_states_a_minute": round(said["states"] / minutes, 2),
        "status_bytes": round(said["status_bytes"] / max(1, said["statuses"])),
        "statuses_a_minute": round(said["statuses"] / minutes, 2),
    }


__all__ = ["ROLES", "ROUNDS_A_DAY", "figures", "medians", "total"]
