"""One cell, from a healthy region to the next commit and the balance of the ledgers."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from benchmarks.faultbed.books import Account, RegionBook, account
from benchmarks.faultbed.cells import Cell, Stage, Struck, strike
from benchmarks.faultbed.ear import Ear
from benchmarks.faultbed.region import BedRegion, process_of
from common.errors import QuorumError
from simulators.local_region import edge_name

HEALTHY_S = 120.0
BOUND_S = 240.0
BALANCE_S = 20.0


@dataclass(frozen=True)
class Trial:
    """What a cell gave.

    Attributes
    ----------
    end : str
        How the round ended in which the fault was.
    commit_s : float or None
        From the fault to the next commit; None when none came within `BOUND_S`.
    later_s : float or None
        From the fault to the next commit of a round that was opened after it.
    whole_s : float or None
        From the fault to the next such commit with all hospitals.
    timeout_s : float
        The plan's, for Gloo.
    num_generations : int
        Rings that the round used.
    watchdog_ended : bool
        Whether the process whose loop hung was ended by its own watchdog.
    """

    fault: str
    victim: str
    moment: str
    round_id: int
    end: str
    reason: str
    commit_s: float | None
    later_s: float | None
    whole_s: float | None
    timeout_s: float
    num_generations: int
    num_left_out: int
    num_lost: int
    num_doubled: int
    watchdog_ended: bool


class Bench:
    """Runs cells in one region, one after the other."""

    def __init__(self, region: BedRegion, ear: Ear, hospital: str, other: str) -> None:
        self._region = region
        self._ear = ear
        self._stage = Stage(region, hospital, other)
        self._book = RegionBook(region.state_dir("region") / "ledger.sqlite")

    def run(self, cell: Cell) -> Trial:
        """Bring a cell about and follow it to its end.

        Raises
        ------
        QuorumError
            When no round of all hospitals comes before it, or the moment does not.
        """
        self.await_whole_round(time.time())
        pid = self._pid_of(cell)
        struck = strike(self._stage, cell)
        with suppress(QuorumError):
            self._follow(struck)
        was_replaced = cell.fault == "hang" and self._pid_of(cell) != pid
        if struck.hung:
            self._region.points.release(struck.hung)
        balance = self.balance()
        self._region.forget_deaths()
        return self._trial(cell, struck, balance, was_replaced=was_replaced)

    def await_whole_round(self, since: float) -> None:
        """Wait for a round of all hospitals that was opened and committed after `since`.

        Raises
        ------
        QuorumError
            When none comes.
        """
        self._region.wait(
            lambda: self._is_whole_after(since), HEALTHY_S, "a round of all hospitals"
        )

    def _is_whole_after(self, since: float) -> bool:
        everyone = len(self._region.plan.roster)
        return _first(self._book.read(), since, everyone) is not None

    def balance(self) -> Account:
        """The ledgers' balance, as soon as it is even, or after a while as it is."""
        paths = {h: self._region.state_dir(edge_name(h)) for h in self._region.plan.roster}
        ledgers = {h: path / "ledger.sqlite" for h, path in paths.items()}
        stored = set(self._ear.stored)
        deadline = time.monotonic() + BALANCE_S
        while True:
            found = account(self._book, ledgers, stored)
            if not (found.num_lost or found.num_doubled) or time.monotonic() > deadline:
                return found
            self._region.supervisor.revive()
            time.sleep(0.2)

    def _pid_of(self, cell: Cell) -> int:
        """Of the process that a fault of edge node or coordinator is in."""
        if cell.victim not in ("edge node", "coordinator"):
            return 0
        return self._region.supervisor[process_of(cell.victim, self._stage.hospital)].pid

    def _follow(self, struck: Struck) -> None:
        """Undo the fault in time, until a later round of all hospitals is committed."""
        undone = False

        def meanwhile() -> None:
            nonlocal undone
            if not undone and time.time() >= struck.undo_at:
                undone = True
                struck.undo()

        def over() -> bool:
            return undone and self._is_whole_after(struck.at)

        self._region.wait(over, BOUND_S, "a round of all hospitals", meanwhile)

    def _trial(
        self,
        cell: Cell,
        struck: Struck,
        balance: Account,
        *,
        was_replaced: bool,
    ) -> Trial:
        plan = self._book.plan_at(struck.at)
        round_id = plan["round_id"]
        outcome = self._book.outcome(round_id)
        everyone = len(self._region.plan.roster)
        commit_at = next((entry.at for entry in self._book.committed(struck.at)), None)
        return Trial(
            **asdict(cell),
            round_id=round_id,
            end=outcome.get("end", "open"),
            reason=outcome.get("reason", ""),
            commit_s=_after(struck, commit_at),
            later_s=_after(struck, _first(self._book, struck.at, 1)),
            whole_s=_after(struck, _first(self._book, struck.at, everyone)),
            timeout_s=plan["timeout_s"],
            num_generations=len(self._book.generations(round_id)),
            num_left_out=everyone - len(outcome.get("aggregates", {})),
            num_lost=balance.num_lost,
            num_doubled=balance.num_doubled,
            watchdog_ended=was_replaced,
        )


def _first(book: RegionBook, since: float, num_hospitals: int) -> float | None:
    """When the first round that was opened after `since` was committed by that many hospitals."""
    at = (
        entry.at
        for entry in book.committed(since)
        if entry.body["opened_at"] > since
        and len(entry.body["outcome"]["aggregates"]) >= num_hospitals
    )
    return next(at, None)


def _after(struck: Struck, at: float | None) -> float | None:
    return None if at is None else round(at - struck.at, 2)
