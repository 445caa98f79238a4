"""The course of a soak: processes kept alive, a fault when it is due, readings on the way."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.faultbed.books import RegionBook
from benchmarks.faultbed.processes import Sample, Seen, sample
from benchmarks.soakbed import gauge
from benchmarks.soakbed.bed import STEADY, Bed
from benchmarks.soakbed.gauge import Reading
from benchmarks.soakbed.harm import Done, Harm
from benchmarks.soakbed.proof import Proof, prove
from common.errors import PulseRingError
from simulators.local_region import edge_name, fetch_json

START_TIMEOUT_S = 300.0
LAST_ROUND_TIMEOUT_S = 300.0
POLL_S = 0.1
SCRAPE_EVERY_S = 15.0
OTHERS_EVERY_S = 60.0
SCRAPE_TIMEOUT_S = 3.0
SAID = "pulsering_edge_messages_total"


@dataclass
class Soaked:
    """What a soak gave; times in seconds since its first whole round."""

    seconds: float
    readings: list[Reading] = field(default_factory=list)
    keeper: list[Reading] = field(default_factory=list)
    faults: list[Done] = field(default_factory=list)
    others: list[Sample] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    messages: dict[str, int] = field(default_factory=dict)
    began: float = 0.0
    proof: Proof | None = None

    @property
    def num_faults(self) -> dict[str, int]:
        """Faults by kind."""
        return dict(Counter(done.what for done in self.faults))


class Course:
    """Runs a soak of `seconds` with a fault every `fault_every_s`."""

    def __init__(
        self,
        bed: Bed,
        harm: Harm,
        seconds: float,
        fault_every_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._bed, self._harm, self._tell = bed, harm, tell
        self._fault_every_s = fault_every_s
        self._book = RegionBook(bed.book)
        self._soaked = Soaked(seconds)
        self._pending: Done | None = None
        self._due: dict[str, float] = {}
        self._steady_pid = self._keeper_pid = 0

    def run(self) -> Soaked:
        """Soak, let the last faults pass, and prove the books.

        Raises
        ------
        PulseRingError
            When the edge node that is measured ends, or no round comes to its end.
        """
        region = self._bed.region
        region.wait(self._is_whole, START_TIMEOUT_S, "the first round of all hospitals")
        self._soaked.began = time.monotonic()
        self._steady_pid = region.supervisor[edge_name(STEADY)].pid
        self._due = {"fault": self._fault_every_s, "reading": 0.0, "scrape": 0.0, "others": 0.0}
        while self._now() < self._soaked.seconds:
            region.supervisor.revive()
            self._look(self._now())
            time.sleep(POLL_S)
        self._undo()
        since = time.time()
        region.wait(
            lambda: self._is_whole(since), LAST_ROUND_TIMEOUT_S, "a last round of all hospitals"
        )
        region.stop_fleet()
        self._soaked.proof = prove(self._bed, self._book)
        return self._soaked

    def _now(self) -> float:
        return time.monotonic() - self._soaked.began

    def _is_whole(self, since: float = 0.0) -> bool:
        everyone = len(self._bed.region.plan.roster)
        return any(
            entry.body["opened_at"] > since and len(entry.body["outcome"]["aggregates"]) == everyone
            for entry in self._book.read().committed(since)
        )

    def _look(self, now: float) -> None:
        if self._pending and time.monotonic() >= self._pending.undo_at:
            self._undo()
        if self._is_due("fault", now, self._fault_every_s):
            self._strike(now)
        if self._is_due("reading", now, gauge.EVERY_S):
            self._read(now)
        if self._is_due("scrape", now, SCRAPE_EVERY_S):
            self._scrape()
        if self._is_due("others", now, OTHERS_EVERY_S):
            self._soaked.others.append(sample(self._bed.region, len(self._book.read().ended())))
            self._soaked.seen.note(self._bed.region)

    def _is_due(self, what: str, now: float, every_s: float) -> bool:
        if now < self._due[what]:
            return False
        self._due[what] += every_s
        return True

    def _strike(self, now: float) -> None:
        self._undo()
        done = self._harm.strike()
        self._soaked.faults.append(done)
        self._pending = done
        self._tell(
            f"{now / 60:.0f} of {self._soaked.seconds / 60:.0f} min, "
            f"{len(self._book.read().ended())} rounds: {done.what} {done.whom}"
        )

    def _undo(self) -> None:
        done, self._pending = self._pending, None
        if done:
            done.undo()

    def _read(self, now: float) -> None:
        reading = gauge.read(self._steady_pid, now)
        if reading is None:
            raise PulseRingError(f"the edge node of {STEADY}, which nobody harmed, has ended")
        self._soaked.readings.append(reading)
        keeper = gauge.read(self._keeper_pid, now) if self._keeper_pid else None
        if keeper:
            self._soaked.keeper.append(keeper)

    def _scrape(self) -> None:
        """Ask the edge node for its health and metrics, as a monitoring system does."""
        url = self._bed.region.health_urls[STEADY]
        report = fetch_json(f"{url}/healthz") or {}
        self._keeper_pid = int(report.get("rank", {}).get("keeper_pid", 0))
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{url}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer,  # noqa: S310 -- our own http URL
        ):
            self._soaked.messages = counts_of(answer.read().decode())


def counts_of(metrics: str) -> dict[str, int]:
    """Messages of wristbands by subject and result, from the text of ``/metrics``."""
    found = {}
    for line in metrics.splitlines():
        if line.startswith(SAID + "{"):
            labels, _, value = line.removeprefix(SAID).rpartition(" ")
            parts = dict(part.split("=") for part in labels.strip("{}").split(","))
            key = f"{parts['subject']} {parts['result']}".replace('"', "")
            found[key] = int(float(value))
    return found
