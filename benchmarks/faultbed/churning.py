"""What happens to the members of a churning region, and when; the books at its end."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.faultbed.books import Account, RegionBook, account
from benchmarks.faultbed.ear import Ear
from benchmarks.faultbed.processes import Sample, Seen, sample
from benchmarks.faultbed.region import BedRegion, send
from common.errors import ConfigError
from simulators.local_region import edge_name
from simulators.supervisor import one_thread, python_module

MIN_PRESENT = 3
ROUNDS_BETWEEN = (2, 5)
SAMPLE_EVERY = 10
MIN_SAMPLES = 6
ROUND_BOUND_S = 300.0
SETTLE_S = 60.0


class Membership:
    """Adds and removes hospitals of a running region, as an operator does."""

    def __init__(self, region: BedRegion) -> None:
        self._region = region
        self.away: set[str] = set()

    @property
    def present(self) -> list[str]:
        """Hospitals that belong to the region."""
        return [name for name in self._region.plan.roster if name not in self.away]

    def remove(self, hospital: str) -> None:
        """Take a hospital out of the region and end its edge node."""
        self._order("remove", hospital)
        self._region.supervisor.kill(edge_name(hospital), signal.SIGTERM, hold=True)
        self.away.add(hospital)

    def add(self, hospital: str) -> None:
        """Take it in again."""
        key = self._region.state_dir(edge_name(hospital)) / "signing.pub"
        self._order("add", hospital, "--key", str(key))
        self._region.supervisor.release(edge_name(hospital))
        self.away.discard(hospital)

    def _order(self, *arguments: str) -> None:
        config = ("--config", str(self._region.config_path("region")))
        command = python_module("regional", "hospitals", *arguments, *config)
        done = subprocess.run(command, capture_output=True, text=True, env=one_thread())
        if done.returncode:
            raise ConfigError(f"hospitals {' '.join(arguments)}: {done.stderr.strip()}")


class Churn:
    """Harms one member at a time, as its generator says."""

    def __init__(self, region: BedRegion, rng: np.random.Generator) -> None:
        self.region = region
        self.members = Membership(region)
        self.events: Counter[str] = Counter()
        self._rng = rng
        self._next_round = 3

    def look(self, num_ended: int) -> str:
        """Do what is due after so many rounds, and say what; nothing between two events."""
        if num_ended < self._next_round:
            return ""
        self._next_round = num_ended + int(self._rng.integers(*ROUNDS_BETWEEN))
        what, hospital = self._draw()
        self.events[what] += 1
        self.region.forget_deaths()
        self._do(what, hospital)
        return f"{what} {hospital}"

    def _draw(self) -> tuple[str, str]:
        present, away = self.members.present, sorted(self.members.away)
        kinds = ["kill rank", "kill edge node"]
        kinds += ["remove"] if len(present) > MIN_PRESENT else []
        kinds += ["add"] if away else []
        what = kinds[self._rng.integers(len(kinds))]
        among = away if what == "add" else present
        return what, among[self._rng.integers(len(among))]

    def _do(self, what: str, hospital: str) -> None:
        match what:
            case "kill rank":
                send(self.region.rank_pid(hospital), signal.SIGKILL)
            case "kill edge node":
                self.region.supervisor.kill(edge_name(hospital))
            case "remove":
                self.members.remove(hospital)
            case "add":
                self.members.add(hospital)


@dataclass
class Soak:
    """What a churned region left."""

    account: Account
    ends: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    num_generations: int = 0
    seconds: float = 0.0
    slowest_round_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)


def soak(churn: Churn, ear: Ear, num_rounds: int, tell: Callable[[str], None]) -> Soak:
    """Churn until `num_rounds` have ended, let all come back, and balance the books.

    Raises
    ------
    QuorumError
        When a round does not end within `ROUND_BOUND_S`.
    """
    region = churn.region
    book = RegionBook(region.state_dir("region") / "ledger.sqlite")
    samples: list[Sample] = []
    seen = Seen()
    every = max(1, min(SAMPLE_EVERY, num_rounds // MIN_SAMPLES))
    began, num_ended = time.monotonic(), 0

    def another_ended() -> bool:
        return len(book.read().ended()) > num_ended

    while num_ended < num_rounds:
        before = num_ended
        region.wait(another_ended, ROUND_BOUND_S, "a round's end")
        num_ended = len(book.ended())
        seen.note(region)
        if num_ended // every > before // every:
            samples.append(sample(region, num_ended))
        happened = churn.look(num_ended)
        if happened:
            tell(f"{num_ended}/{num_rounds}: {happened}")
    seconds = time.monotonic() - began
    for hospital in sorted(churn.members.away):
        churn.members.add(hospital)
    return _closed(churn, book, _settled(region, book, ear), seconds, samples, seen)


def _settled(region: BedRegion, book: RegionBook, ear: Ear) -> Account:
    """The balance once all are back and have written their fates, or as it is after a while."""
    ledgers = {h: region.state_dir(edge_name(h)) / "ledger.sqlite" for h in region.plan.roster}
    stored = set(ear.stored)
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = account(book, ledgers, stored)
        if not (found.num_lost or found.num_doubled) or time.monotonic() > deadline:
            return found
        region.supervisor.revive()
        time.sleep(0.5)


def _closed(
    churn: Churn,
    book: RegionBook,
    balance: Account,
    seconds: float,
    samples: list[Sample],
    seen: Seen,
) -> Soak:
    outcomes = [entry.body["outcome"] for entry in book.ended()]
    bad = Counter(o["reason"] for o in outcomes if o["end"] != "committed")
    planned = (e.body["plan"] for e in book.entries if e.kind == "ring_planned")
    return Soak(
        account=balance,
        ends=dict(Counter(outcome["end"] for outcome in outcomes)),
        reasons=dict(bad.most_common()),
        events=dict(churn.events),
        num_generations=len({plan["generation"] for plan in planned}),
        seconds=round(seconds, 1),
        slowest_round_s=max(outcome["seconds"] for outcome in outcomes),
        samples=samples,
        seen=seen,
    )
