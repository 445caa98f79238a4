"""What is odd about ledgers: pure comparisons, each finding a sentence.

``LOST`` and ``TWICE`` begin what must never be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

from benchmarks.faultbed.books import Entry
from tests.faults.book import Book, Key, Made
from tests.faults.edges import ARCHIVED, Edge


def odd_receipts(told: dict[Key, list[Made]], edges: dict[str, Edge], book: Book) -> Iterator[str]:
    """What a wristband was told to be stored is stored, and nothing else under its key."""
    for key, all_made in told.items():
        if len(all_made) > 1:
            yield f"{key}: two different messages have the receipt stored"
        edge = edges[all_made[0].hospital]
        row = edge.rows.get(key)
        if row is None and key[1] == "evaluation" and key[0] in edge.revoked:
            continue  # withdrawn with the wearer's consent
        if row is None:
            yield f"LOST {key}: it has the receipt stored and is not in the ledger"
        elif row[0] not in (all_made[0].delivered, ARCHIVED):
            yield f"{key}: the ledger holds another message than the one with the receipt"
    for receipt in book.strange():
        yield f"a receipt for what {receipt.device} never sent: {receipt}"


def odd_rows(edges: dict[str, Edge], book: Book) -> Iterator[str]:
    """What is stored was sent, by that device, just so."""
    for edge in edges.values():
        for key, (delivered, _, num_examples) in edge.rows.items():
            if delivered == ARCHIVED:
                continue
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


def _trained(entry: Entry) -> bool:
    outcome = entry.body["outcome"]
    return (outcome["end"], outcome["purpose"]) == ("committed", "train")
