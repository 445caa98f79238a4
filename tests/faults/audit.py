"""Holds every ledger of a region against the wristbands' book, and its models against the ledgers.

What is found is a list of sentences; an empty one means that nothing was lost, counted twice, made
up or left without a name.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faultbed.books import Entry
from regional.config import RegionConfig
from regional.ledger import read_records
from regional.recheck import check, claims
from simulators.local_region import edge_name
from tests.faults.book import Book, Key
from tests.faults.edges import Edge, read_edge
from tests.faults.oddities import odd_fates, odd_receipts, odd_rows
from tests.faults.region import FaultRegion
from tests.faults.sums import odd_sums

SETTLED_AFTER_S = 2.0
"""Since a round's end: by then every edge node that can be reached has written its fates."""
PATIENCE_S = 20.0


@dataclass
class Auditor:
    """Checks a region again and again; what was proved once is not proved twice.

    Attributes
    ----------
    num_receipts, num_updates, num_late, num_rounds : int
        Receipts, stored updates, those of them in a committed sum as late ones, and committed rounds
        that were checked.
    """

    region: FaultRegion
    book: Book
    num_receipts: int = 0
    num_updates: int = 0
    num_late: int = 0
    num_rounds: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    _proved: int = 0
    _told: set[str] = field(default_factory=set)
    _folded: set[int] = field(default_factory=set)

    def settled(self, *, final: bool = False) -> list[str]:
        """Look until the books are even, or say what is newly odd after `PATIENCE_S`.

        With `final` the region has finished: no stored update may be without a fate.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (odd := self._new(final=final)) and time.monotonic() < deadline:
            self.region.supervisor.revive()
            time.sleep(0.25)
        self._told |= set(odd)
        return odd

    def _new(self, *, final: bool) -> list[str]:
        return [line for line in self._look(final=final) if line not in self._told]

    def _look(self, *, final: bool) -> list[str]:
        num_receipts = len(self.book.receipts)
        told = self.book.told_stored()
        before = list(self.region.book.read().ended())
        folders = {h: self.region.state_dir(edge_name(h)) for h in self.region.hospitals}
        edges = {h: read_edge(h, folder) for h, folder in folders.items()}
        after = list(self.region.book.read().ended())
        age_s = 0.0 if final else SETTLED_AFTER_S
        old = [entry for entry in before if entry.at < time.time() - age_s]
        self.num_receipts = num_receipts
        self.num_updates = sum(_is_update(key) for e in edges.values() for key in e.rows)
        self.ends = Counter(entry.body["outcome"]["end"] for entry in after)
        self.fates = Counter(f for e in edges.values() for f, _ in e.fates.values())
        return [
            *odd_receipts(told, edges, self.book),
            *odd_rows(edges, self.book),
            *odd_fates(old, after, edges, self._late_bases(), final=final),
            *self._rounds(before, edges),
            *self._replayed(after),
            *self._named(),
        ]

    def _named(self) -> Iterator[str]:
        """Every round but the open one has ended, by a name, and with a reason if not committed."""
        book = self.region.book
        opened = [e.body["spec"]["round_id"] for e in book.entries if e.kind == "round_opened"]
        ended = {e.body["outcome"]["round_id"]: e.body["outcome"] for e in book.ended()}
        yield from (f"round {r} never ended" for r in opened[:-1] if r not in ended)
        for outcome in ended.values():
            if outcome["end"] != "committed" and not outcome["reason"]:
                yield f"round {outcome['round_id']} was {outcome['end']} without a reason"

    def _rounds(self, ended: Sequence[Entry], edges: dict[str, Edge]) -> Iterator[str]:
        """Each committed round's sums are those of the updates that its members sent."""
        for entry in ended:
            outcome = entry.body["outcome"]
            number = outcome["round_id"]
            if outcome["end"] != "committed" or number in self._folded:
                continue
            mailbox = self.region.plan.root / "mailbox"
            odd = list(odd_sums(mailbox, outcome, edges, self.book, self._spec(number)))
            yield from odd
            if not odd:
                self._folded.add(number)
                self.num_rounds += 1
                self.num_late += sum(
                    base != outcome["base_digest"]
                    for hospital in outcome["aggregates"]
                    for _, base in edges[hospital].members.get(number, ())
                )

    def _late_bases(self) -> set[str]:
        """Bases for which updates may still wait, by the rounds that were opened last."""
        opened = [e.body["spec"] for e in self.region.book.entries if e.kind == "round_opened"]
        named = (base for spec in opened[-3:] for base in spec.get("late_bases", ()))
        return {*named, *(spec["base_digest"] for spec in opened[-2:] if spec.get("max_staleness"))}

    def _spec(self, number: int) -> dict[str, Any]:
        opened = (e.body["spec"] for e in self.region.book.entries if e.kind == "round_opened")
        return next(spec for spec in opened if spec["round_id"] == number)

    def _replayed(self, ended: Sequence[Entry]) -> Iterator[str]:
        """What ``python -m regional replay`` says of the rounds committed since the last look."""
        last = max((entry.body["outcome"]["round_id"] for entry in ended), default=0)
        config = RegionConfig.load(self.region.config_path("region"))
        odd = []
        for claim in claims(read_records(config.ledger_path), self._proved + 1, last):
            found = check(config, claim)
            if found.verdict != "equal":
                odd.append(f"replay of round {found.round_id}: {found.verdict}: {found.reason}")
        self._proved = self._proved if odd else last
        yield from odd


def _is_update(key: Key) -> bool:
    return key[1] == "update"


def reasons(book: Book) -> Counter[str]:
    """How often wristbands were refused, by reason."""
    return Counter(heard.reason for heard in book.receipts if heard.reason)
