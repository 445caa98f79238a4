"""Runs schedules in groups, each group in a region of its own, and says what came of them."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.faultbed.processes import Seen, left_behind
from common.errors import PulseRingError, QuorumError
from regional.ledger import read_records
from regional.records import RoundEnded
from simulators.broker_process import mosquitto_program
from simulators.supervisor import one_thread, python_module
from tests.faults.audit import Auditor, reasons
from tests.faults.inflict import Inflictor
from tests.faults.region import FaultRegion, Surroundings, running, small_disk
from tests.faults.schedule import GROUP, Schedule, schedule, surroundings

HANG_S = 60.0
"""From the end of all faults until a round of all hospitals is committed: else it hangs."""
FINISH_S = 90.0


@dataclass(frozen=True)
class Trial:
    """What one schedule came to; `odd` is empty when all held."""

    schedule: Schedule
    seconds: float
    recovery_s: float
    odd: tuple[str, ...]


@dataclass
class Tally:
    """Sums over all groups.

    Attributes
    ----------
    odd : dict of str to list of str
        What did not hold, by schedule or group.
    """

    num_schedules: int = 0
    num_groups: int = 0
    num_messages: int = 0
    num_receipts: int = 0
    num_updates: int = 0
    num_counted_late: int = 0
    num_rounds_folded: int = 0
    num_rounds_replayed: int = 0
    num_restarts: int = 0
    seconds: float = 0.0
    slowest_recovery_s: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    brokers: Counter[str] = field(default_factory=Counter)
    odd: dict[str, list[str]] = field(default_factory=dict)

    def note(self, trial: Trial) -> None:
        """Take a schedule in."""
        self.num_schedules += 1
        self.seconds += trial.seconds
        self.slowest_recovery_s = max(self.slowest_recovery_s, trial.recovery_s)
        if trial.odd:
            self.odd[f"schedule {trial.schedule.number}"] = list(trial.odd)

    def found(self, word: str) -> int:
        """How many findings begin with a word, such as ``LOST``."""
        return sum(line.startswith(word) for lines in self.odd.values() for line in lines)


@dataclass(frozen=True)
class Machine:
    """What can be tried on this machine."""

    small_disk: bool
    mosquitto: bool

    @classmethod
    def look(cls) -> Machine:
        """Try it out."""
        disk = False
        with (
            tempfile.TemporaryDirectory() as folder,
            suppress(PulseRingError),
            small_disk(Path(folder) / "disk"),
        ):
            disk = True
        return cls(small_disk=disk, mosquitto=mosquitto_program() is not None)

    def surroundings(self, seed: int, number: int) -> Surroundings:
        """Of the schedule of that number."""
        return surroundings(seed, number // GROUP, disk=self.small_disk, mosquitto=self.mosquitto)


class Stand:
    """One region, in which schedules are tried one after the other."""

    def __init__(self, region: FaultRegion, inflictor: Inflictor, auditor: Auditor) -> None:
        self._region, self._inflictor, self._auditor = region, inflictor, auditor

    def try_out(self, plan: Schedule) -> Trial:
        """Carry a schedule out, wait until the region is whole again, look into all books.

        Raises
        ------
        QuorumError
            When it does not become whole: something hangs.
        """
        began = time.time()
        healthy_at = self._inflictor.carry_out(plan)
        whole_at = self._region.await_whole_round(healthy_at, HANG_S)
        odd = self._auditor.settled() or self._region.answers()
        odd += self._region.supervisor.odd_deaths
        self._region.supervisor.odd_deaths = []
        return Trial(plan, time.time() - began, whole_at - healthy_at, tuple(odd))

    def finish(self) -> list[str]:
        """Let the region come to its end, where no update may be without a fate; what is odd."""
        region = self._region
        region.supervisor.kill("region", hold=True)
        region.write_last_day()
        region.supervisor.release("region")
        region.wait(lambda: region.status().get("phase") == "finished", FINISH_S, "its end")
        return self._auditor.settled(final=True) + replayed(region)


def run(
    seed: int, numbers: Iterable[int], tell: Callable[[str], None], root: Path | None = None
) -> Tally:
    """Try the schedules of these numbers; after one that hangs, the next have a new region."""
    tally, machine = Tally(), Machine.look()
    lacks = [name for name, there in vars(machine).items() if not there]
    if lacks:
        tell(f"not tried on this machine: {' and '.join(lacks)}")
    for group, own in groupby(numbers, key=lambda number: number // GROUP):
        waiting = list(own)
        while waiting:
            with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
                home = root / f"group-{group}-{waiting[0]}" if root else Path(scratch)
                _run_group(seed, waiting, machine, home, tally, tell)
    return tally


def _run_group(
    seed: int,
    waiting: list[int],
    machine: Machine,
    home: Path,
    tally: Tally,
    tell: Callable[[str], None],
) -> None:
    """Try schedules in one region until it hangs or all are done; done ones leave `waiting`."""
    around = machine.surroundings(seed, waiting[0])
    group = f"group {waiting[0] // GROUP}"
    tell(f"{group}: {around.broker.name}, {dict(around.rounds)}, {dict(around.learning)}")
    with running(home, around, seed) as (region, bands):
        inflictor, auditor = Inflictor(region, bands), Auditor(region, bands.book)
        stand, seen = Stand(region, inflictor, auditor), Seen()
        region.await_whole_round(0.0)
        odd: list[str] = []
        while waiting:
            plan = schedule(seed, waiting.pop(0), around)
            try:
                trial = stand.try_out(plan)
            except QuorumError as fault:
                trial = Trial(plan, HANG_S, HANG_S, (f"HANG {fault.message}", *_state(region)))
            seen.note(region)
            tally.note(trial)
            tell(_line(trial))
            if any(line.startswith("HANG") for line in trial.odd):
                break
        else:
            odd = _finished(stand)
        _add(tally, region, inflictor, auditor, around)
        region.stop()
        odd += left_behind(seen, region)
    if odd:
        tally.odd[group] = odd
        tell(f"{group}: {'; '.join(odd)}")


def _finished(stand: Stand) -> list[str]:
    try:
        return stand.finish()
    except QuorumError as fault:
        return [f"HANG {fault.message}"]


def _add(
    tally: Tally,
    region: FaultRegion,
    inflictor: Inflictor,
    auditor: Auditor,
    around: Surroundings,
) -> None:
    tally.num_groups += 1
    tally.num_messages += auditor.book.num_messages
    tally.num_receipts += auditor.num_receipts
    tally.num_updates += auditor.num_updates
    tally.num_counted_late += auditor.num_late
    tally.num_rounds_folded += auditor.num_rounds
    tally.num_rounds_replayed += sum(_committed(region))
    tally.num_restarts += sum(region.supervisor[n].starts - 1 for n in region.processes)
    tally.ends += auditor.ends
    tally.fates += auditor.fates
    tally.refusals += reasons(auditor.book)
    tally.faults += inflictor.counts
    tally.brokers[around.broker.name + (", small disk" if around.small_disk else "")] += 1


def _committed(region: FaultRegion) -> Iterator[bool]:
    path = region.state_dir("region") / "ledger.sqlite"
    for record in read_records(path):
        yield isinstance(record, RoundEnded) and record.outcome.end == "committed"


def replayed(region: FaultRegion) -> list[str]:
    """What an operator's ``python -m regional replay`` finds odd."""
    config = str(region.config_path("region"))
    order = python_module("regional", "replay", "--json", "--config", config)
    done = subprocess.run(order, capture_output=True, text=True, env=one_thread())
    if done.returncode == 0:
        return []
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    wrong = [r for r in found.get("rounds", []) if r["verdict"] != "equal"]
    return [f"replay: {wrong or done.stderr.strip()}"]


def _state(region: FaultRegion) -> list[str]:
    """What a region that hangs says of itself."""
    status = region.status()
    hospitals = status.pop("hospitals", {})
    return [f"region: {status}", *(f"{name}: {said}" for name, said in hospitals.items())]


def _line(trial: Trial) -> str:
    odd = "".join(f"\n    {line}" for line in trial.odd)
    what = "; ".join(str(fault) for fault in trial.schedule.faults)
    return (
        f"{trial.schedule.number}: {trial.seconds:.1f} s, whole after {trial.recovery_s:.1f} s: "
        f"{what}{odd}"
    )


def violations(tally: Tally) -> dict[str, int]:
    """The four that must be 0, and all others."""
    hangs, lost, twice = (tally.found(word) for word in ("HANG", "LOST", "TWICE"))
    unnamed = sum("never ended" in x or "without a reason" in x for x in _all(tally.odd.values()))
    others = len(list(_all(tally.odd.values()))) - hangs - lost - twice - unnamed
    return {
        "num_lost": lost,
        "num_counted_twice": twice,
        "num_rounds_without_end": unnamed,
        "num_hangs": hangs,
        "num_others": others,
    }


def _all(lines: Iterable[Sequence[str]]) -> Iterator[str]:
    for each in lines:
        yield from each
