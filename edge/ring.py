"""A hospital's seat in the ring: what its rank is told to do, and what came of it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import structlog

from common.errors import PulseRingError
from common.mailbox import Mailbox, message_path
from common.messages import RankFailure, RankResult, RegionState, RingPlan, Timings
from edge.ledger import Ledger
from edge.models import Models
from edge.rank_process import Died, RankState, Said
from edge.rank_protocol import Computed, Failed, Join, Lost
from edge.rounds import Frozen, Round
from edge.traces import Traces

SUMS = "sums"
Action = Literal["respawn", "join", "fail", "wait"]

log = structlog.get_logger()


class Rank(Protocol):
    """A rank process, as its seat sees it."""

    @property
    def state(self) -> RankState: ...
    @property
    def generation(self) -> int: ...
    @property
    def pid(self) -> int: ...
    def tick(self, now: float) -> None: ...
    def heard(self, news: Said | Died, now: float) -> bool: ...
    def join(self, command: Join) -> None: ...
    def renew(self, now: float) -> None: ...


def decide(
    region: RegionState, plan: RingPlan | None, rank: Rank, *, sent: bool, sent_for_round: bool
) -> Action:
    """What to do about the rank.

    Parameters
    ----------
    plan : RingPlan or None
        The plan that this hospital can take part in now.
    sent : bool
        Whether a rank of this hospital was ever sent into the plan's generation.
    sent_for_round : bool
        Whether it was for the plan's round.
    """
    if 0 < rank.generation < region.min_generation:
        return "respawn"
    if plan is None:
        return "wait"
    if rank.generation == plan.generation:
        return "wait" if sent_for_round or rank.state != "joined" else "join"
    if sent:
        return "fail"  # the rank that was in this generation is gone, and none enters it twice
    if rank.generation:
        return "respawn"
    return "join" if rank.state == "warm" else "wait"


class Seat:
    """Keeps a rank alive, sends it into planned rings, and brings its sums to the mailbox."""

    def __init__(
        self,
        region: str,
        hospital: str,
        rank: Rank,
        ledger: Ledger,
        mailbox: Mailbox,
        models: Models,
        folder: Path,
        interface: str | None,
        cycle_ms: float,
        traces: Path | None = None,
    ) -> None:
        self._region, self._hospital = region, hospital
        self.rank = rank
        self._ledger = ledger
        self._mailbox = mailbox
        self._models = models
        self._folder = folder
        self._interface = interface
        self._cycle_ms = cycle_ms
        self._traces = Traces(traces, hospital)
        self._plan: RingPlan | None = None
        self._computed: Computed | None = None
        self._last_words = ""
        self.result: RankResult | None = None
        self.timings: Timings = {}
        self.failure: RankFailure | None = None
        self.error = ""

    def hear(self, news: Said | Died, now: float) -> None:
        """Take note of what the rank said, or that it died."""
        if not self.rank.heard(news, now):
            return
        if isinstance(news, Died):
            self._last_words = self._last_words or f"the keeper ended with code {news.code}"
            log.warning("keeper_lost", pid=news.pid, code=news.code, reason=self._last_words)
        elif isinstance(news.event, Lost):
            self._last_words = self._last_words or f"the rank ended with code {news.event.code}"
            log.warning("rank_lost", pid=news.event.pid, reason=self._last_words)
        elif isinstance(news.event, Failed):
            self._last_words = news.event.reason
        elif isinstance(news.event, Computed):
            self._computed = news.event

    def step(self, region: RegionState | None, current: Round | None, now: float) -> None:
        """Do what the region's state asks for; harmless when repeated."""
        self.rank.tick(now)
        if region is None:
            return
        plan = self._open_plan(region, current)
        if plan and (self._plan is None or _key(plan) != _key(self._plan)):
            self._plan, self._computed = plan, None
            self.result = self.failure = None
            self.timings = {}
            self.error = ""
            self._sweep()
        action = self._decide(region, plan)
        if action == "respawn":
            log.info("rank_respawned", generation=self.rank.generation)
            self._last_words = "killed: its generation was given up"
            self.rank.renew(now)
        elif action == "join" and plan and current and current.frozen:
            self._join(plan, current, current.frozen, now)
        elif action == "fail" and plan:
            self._fail(plan)
        self._deliver()

    def _open_plan(self, region: RegionState, current: Round | None) -> RingPlan | None:
        plan = region.plan
        usable = (
            region.phase == "ring"
            and plan is not None
            and plan.generation >= region.min_generation
            and self._hospital in plan.members
            and current is not None
            and current.frozen is not None
            and plan.round_id == current.spec.round_id
        )
        return plan if usable else None

    def _decide(self, region: RegionState, plan: RingPlan | None) -> Action:
        sent = sent_for_round = False
        if plan:
            sent = self._ledger.was_sent(plan.generation)
            sent_for_round = self._ledger.joined(plan.generation, plan.round_id)
        return decide(region, plan, self.rank, sent=sent, sent_for_round=sent_for_round)

    def _join(self, plan: RingPlan, current: Round, frozen: Frozen, now: float) -> None:
        spec = current.spec
        state = self._models.state_path(spec)
        self._last_words = ""
        try:
            late = self._models.fetch_late(plan.late) if plan.late else None
            self._ledger.note_join(plan.generation, plan.round_id, now)
        except sqlite3.Error as fault:  # such as a full disk: not sent, and tried again
            self.error = f"ledger: {fault}"[:500]
            return
        except (PulseRingError, OSError) as fault:
            self.error = f"late sums of round {plan.round_id}: {fault}"[:500]
            return
        self.error = ""
        self.rank.join(
            Join(
                plan=plan,
                spec=spec,
                hospital=self._hospital,
                rank=plan.members.index(self._hospital),
                interface=self._interface or plan.interface,
                cycle_ms=self._cycle_ms,
                aggregate=str(self._folder / frozen.path),
                base=str(self._models.path(spec.base_digest)),
                state=str(state) if state else None,
                late=str(late) if late else None,
                out=str(self._folder / SUMS / f"{plan.round_id:06d}-{plan.generation}.safetensors"),
                trace=self._traces.path(plan.generation),
            )
        )
        log.info("rank_joins", round_id=plan.round_id, generation=plan.generation)

    def _fail(self, plan: RingPlan) -> None:
        if self.result is None and self._computed is None and self.failure is None:
            self.failure = RankFailure(
                round_id=plan.round_id,
                generation=plan.generation,
                reason=self._last_words or "the edge node was restarted",
            )
            log.warning("ring_failed", **self.failure.model_dump())

    def _deliver(self) -> None:
        done = self._computed
        if done is None or self._plan is None:
            return
        if (done.round_id, done.generation) != _key(self._plan):
            self._computed = None
            return
        try:
            if self._plan.members[0] == self._hospital:
                self._put_sums(done)
        except (PulseRingError, OSError) as fault:
            self.error = f"sums of round {done.round_id}: {fault}"[:500]
            return
        self._computed, self.error = None, ""
        self.result, self.timings = done.result(), done.timings
        Path(done.path).unlink(missing_ok=True)  # what counts of it lies in the mailbox

    def _sweep(self) -> None:
        """Delete the sums of earlier rings, whole or in part, whose ranks died before they told."""
        for path in (self._folder / SUMS).glob("*"):
            with suppress(OSError):  # it stays until the next plan
                path.unlink()

    def _put_sums(self, done: Computed) -> None:
        path = message_path(self._region, "ring", done.round_id, f"{done.sums_digest}.safetensors")
        # An earlier generation may have put the same sums there, under a header of its own.
        if not self._mailbox.exists(path):
            self._mailbox.put(path, Path(done.path).read_bytes())


def _key(plan: RingPlan) -> tuple[int, int]:
    return plan.round_id, plan.generation
