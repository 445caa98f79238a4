"""Holds every ledger of a region against the wristbands' book, and its models against the ledgers.

What is found is a list of sentences; an empty one means that nothing was lost, counted twice, made
up or left without a name.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.faultbed.books import Entry
from common import parts, wire
from common.digest import tensors_digest
from common.mailbox import MAX_FILE_BYTES
from common.messages import AggregateHeader, FixedPoint, RingSumHeader
from regional.config import RegionConfig
from regional.ledger import read_records
from regional.recheck import check, claims
from simulators.local_region import edge_name
from tests.faults.book import Book, Key, Made
from tests.faults.region import FaultRegion
from tests.faults.wristbands import SHAPES

SETTLED_AFTER_S = 2.0
"""Since a round's end: by then every edge node that can be reached has written its fates."""
PATIENCE_S = 20.0
_MESSAGES = "SELECT device, subject, key, round_id, delivered_digest, num_examples FROM messages"
_FATES = "SELECT device, base_digest, fate, round_id FROM fates"
_WAITING = (
    "SELECT device, base_digest, EXISTS (SELECT 1 FROM payloads WHERE message_id = id) FROM waiting"
)
_AGGREGATES = "SELECT round_id, digest, path FROM aggregates"
_MEMBERS = """
    SELECT round_id, device, json_extract(spec, '$.base_digest')
    FROM aggregate_members JOIN rounds USING (round_id)
    UNION ALL SELECT round_id, device, base_digest FROM late_members
"""
Sums = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Edge:
    """What one edge node's ledger held at a moment.

    Attributes
    ----------
    rows : dict of Key to (delivered digest, round, num_examples)
        What is stored.
    fates : dict of (device, base digest) to (fate, round)
        What became of updates.
    waiting : dict of (device, base digest) to bool
        Updates without a fate; whether their bytes are still there.
    aggregates : dict of int to (digest, path)
        By round.
    members : dict of int to list of (device, base digest)
        Whose updates are in a round's aggregate; those for another base than the round's are late.
    """

    hospital: str
    folder: Path
    rows: dict[Key, tuple[str, int, int]]
    fates: dict[tuple[str, str], tuple[str, int]]
    waiting: dict[tuple[str, str], bool]
    aggregates: dict[int, tuple[str, str]]
    members: dict[int, list[tuple[str, str]]]


def read_edge(hospital: str, folder: Path) -> Edge:
    """Read an edge node's ledger as it is now, in one transaction."""
    path = folder / "ledger.sqlite"
    members: dict[int, list[tuple[str, str]]] = {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        db.execute("BEGIN")
        rows = {(d, s, k): (c, r, n) for d, s, k, r, c, n in db.execute(_MESSAGES)}
        fates = {(d, b): (f, r) for d, b, f, r in db.execute(_FATES)}
        waiting = {(d, b): bool(there) for d, b, there in db.execute(_WAITING)}
        aggregates = {r: (digest, name) for r, digest, name in db.execute(_AGGREGATES)}
        for round_id, device, base in db.execute(_MEMBERS):
            members.setdefault(round_id, []).append((device, base))
    return Edge(hospital, folder, rows, fates, waiting, aggregates, members)


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
    _folded: set[int] = field(default_factory=set)

    def settled(self, *, final: bool = False) -> list[str]:
        """Look until the books are even, or say what is still odd after `PATIENCE_S`.

        With `final` the region has finished: no stored update may be without a fate.
        """
        deadline = time.monotonic() + PATIENCE_S
        while (odd := self._look(final=final)) and time.monotonic() < deadline:
            self.region.supervisor.revive()
            time.sleep(0.25)
        return odd

    def _look(self, *, final: bool) -> list[str]:
        num_receipts = len(self.book.receipts)
        told = self.book.told_stored()
        before = list(self.region.book.read().ended())
        folders = {h: self.region.state_dir(edge_name(h)) for h in self.region.hospitals}
        edges = {h: read_edge(h, folder) for h, folder in folders.items()}
        after = list(self.region.book.read().ended())
        age_s = 0.0 if final else SETTLED_AFTER_S
        old = [entry for entry in before if entry.at < time.time() - age_s]
        odd = [
            *odd_receipts(told, edges, self.book),
            *odd_rows(edges, self.book),
            *odd_fates(old, after, edges, self._late_bases(), final=final),
            *self._rounds(before, edges),
            *self._replayed(after),
            *self._named(),
        ]
        if not odd:
            self.num_receipts = num_receipts
            self.num_updates = sum(_is_update(key) for e in edges.values() for key in e.rows)
            self.ends = Counter(entry.body["outcome"]["end"] for entry in after)
            self.fates = Counter(f for e in edges.values() for f, _ in e.fates.values())
        return odd

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
            odd = list(_sums(self.region, outcome, edges, self.book, self._spec(number)))
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


def odd_receipts(told: dict[Key, list[Made]], edges: dict[str, Edge], book: Book) -> Iterator[str]:
    """What a wristband was told to be stored is stored, and nothing else under its key."""
    for key, all_made in told.items():
        if len(all_made) > 1:
            yield f"{key}: two different messages have the receipt stored"
        row = edges[all_made[0].hospital].rows.get(key)
        if row is None:
            yield f"LOST {key}: it has the receipt stored and is not in the ledger"
        elif row[0] != all_made[0].delivered:
            yield f"{key}: the ledger holds another message than the one with the receipt"
    for receipt in book.strange():
        yield f"a receipt for what {receipt.device} never sent: {receipt}"


def odd_rows(edges: dict[str, Edge], book: Book) -> Iterator[str]:
    """What is stored was sent, by that device, just so."""
    for edge in edges.values():
        for key, (delivered, _, num_examples) in edge.rows.items():
            made = book.find(key, delivered)
            if made is None or made.hospital != edge.hospital:
                yield f"{edge.hospital}: {key} is in the ledger and was never sent"
            elif made.num_examples != num_examples:
                yield f"{edge.hospital}: {key} is stored with {num_examples} examples"
        yield from (
            f"LOST {edge.hospital}: {key} waits and its bytes are gone"
            for key, is_there in edge.waiting.items()
            if not is_there
        )


def odd_fates(
    old: Sequence[Entry],
    ended: Sequence[Entry],
    edges: dict[str, Edge],
    may_wait: Set[str] = frozenset(),
    *,
    final: bool,
) -> Iterator[str]:
    """Whose base was committed has one fate; counted is who is in a committed aggregate, once.

    Updates for the bases `may_wait` may still count as late ones.
    """
    left = {entry.body["outcome"]["base_digest"] for entry in old if _trained(entry)} - may_wait
    outcomes = {e.body["outcome"]["round_id"]: e.body["outcome"] for e in ended if _trained(e)}
    for edge in edges.values():
        for device, base in edge.waiting:
            if final or base in left:
                yield f"LOST {edge.hospital}: the update of {device} for {base[:8]} has no fate"
        counted = {key for key, (fate, _) in edge.fates.items() if fate == "counted"}
        added = Counter(_added(edge, outcomes))
        for key, num in added.items():
            if num > 1:
                yield f"TWICE {edge.hospital}: {key} is in {num} committed rounds"
        yield from (
            f"{edge.hospital}: {key} is counted and in no sum" for key in counted - set(added)
        )
        for (device, base), (fate, _) in edge.fates.items():
            if fate != "counted" and (device, base) in added:
                yield f"TWICE {edge.hospital}: {device} is in a sum, its fate for {base[:8]} is {fate}"


def _added(edge: Edge, outcomes: dict[int, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for number, devices in edge.members.items():
        outcome = outcomes.get(number)
        if outcome and edge.hospital in outcome["aggregates"]:
            yield from devices


def _sums(
    region: FaultRegion,
    outcome: dict[str, Any],
    edges: dict[str, Edge],
    book: Book,
    spec: dict[str, Any],
) -> Iterator[str]:
    number, total = outcome["round_id"], dict[str, Any]()
    for hospital, digest in outcome["aggregates"].items():
        edge = edges[hospital]
        frozen = edge.aggregates.get(number)
        if frozen is None or frozen[0] != digest:
            yield f"round {number}: {hospital}'s ledger has not the aggregate that was committed"
            return
        data = (edge.folder / "rounds" / frozen[1]).read_bytes()
        _, tensors = wire.decode(data, AggregateHeader, MAX_FILE_BYTES)
        if tensors_digest(tensors) != digest:
            yield f"round {number}: {hospital}'s aggregate is not what its digest says"
        if not same(_without_counts(tensors), expected_sums(edge, number, book, spec)):
            yield f"round {number}: {hospital}'s aggregate is not the sum of what was sent"
        total = {name: total.get(name, 0) + value for name, value in tensors.items()}
    folder = region.plan.root / "mailbox" / region.plan.region / "ring" / f"{number:06d}"
    file = folder / f"{outcome['sums_digest']}.safetensors"
    _, sums = wire.decode(file.read_bytes(), RingSumHeader, MAX_FILE_BYTES)
    if not same(sums, total):
        yield f"round {number}: the ring's sums are not the sum of the aggregates"


def expected_sums(edge: Edge, number: int, book: Book, spec: dict[str, Any]) -> Sums:
    """The sum in plain integers of what the wristbands know that they sent."""
    total: Sums = {}
    for device, base in edge.members.get(number, []):
        made = _made(book, edge, (device, "update", base))
        tensors, weight = _as_counted(made, base, spec)
        _add(total, tensors, weight, "update")
    for key in edge.rows:
        if key[1:] == ("evaluation", str(number)):
            _add(total, _made(book, edge, key).tensors, 1, "evaluation")
    return total


def _made(book: Book, edge: Edge, key: Key) -> Made:
    made = book.find(key, edge.rows[key][0])
    if made is None:
        raise LookupError(f"{edge.hospital} stored {key}, which was never sent")
    return made


def _as_counted(made: Made, base: str, spec: dict[str, Any]) -> tuple[Mapping[str, Any], int]:
    """An update's integers in the round's steps, and its weight: docs/protocol.md, *Late updates*."""
    rule = FixedPoint.model_validate(spec["fixed_point"])
    weight = min(made.num_examples, spec["max_weight"]) if spec["weighting"] == "examples" else 1
    named = parts.from_wire(made.rule or rule, SHAPES, made.tensors)
    if base == spec["base_digest"]:
        return named, weight * (256 if spec.get("max_staleness") else 1)
    age, top = 1 + spec["late_bases"].index(base), 2 ** (rule.bits - 1) - 1
    before = made.rule.exponents if made.rule else rule.exponents
    moved = {
        name: np.clip(values.astype(np.int64) << before[name] - rule.exponents[name], -top, top)
        for name, values in named.items()
    }
    return moved, math.isqrt(256**2 * weight**2 // (1 + age))


def _add(total: Sums, tensors: Mapping[str, Any], weight: int, prefix: str) -> None:
    for name, values in tensors.items():
        into = f"{prefix}/{name}"
        total[into] = total.get(into, np.int64(0)) + weight * values.astype(np.int64)


def _without_counts(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in tensors.items() if name != "counts"}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether they are equal, where what lacks in `expected` is zeros."""
    if not expected.keys() <= found.keys():
        return False
    wanted = {name: np.broadcast_to(expected.get(name, 0), v.shape) for name, v in found.items()}
    return all(bool(np.array_equal(values, wanted[name])) for name, values in found.items())


def _trained(entry: Entry) -> bool:
    outcome = entry.body["outcome"]
    return (outcome["end"], outcome["purpose"]) == ("committed", "train")


def _is_update(key: Key) -> bool:
    return key[1] == "update"


def reasons(book: Book) -> Counter[str]:
    """How often wristbands were refused, by reason."""
    return Counter(heard.reason for heard in book.receipts if heard.reason)
