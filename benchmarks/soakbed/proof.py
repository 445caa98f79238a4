"""What the ledgers of a soaked region say when it is over."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.faultbed.books import Account, Entry, RegionBook, account
from benchmarks.soakbed.bed import Bed
from common.errors import PulseRingError
from simulators.supervisor import one_thread, python_module

SETTLE_S = 90.0
POLL_S = 0.5


@dataclass(frozen=True)
class Proof:
    """Rounds by how they ended, what became of the updates, and the replay of the commits.

    Attributes
    ----------
    num_nameless : int
        Rounds that were followed by another without having ended.
    longest_gap_s : float
        Longest time between the ends of two rounds.
    replayed : dict of str to int
        Committed rounds by the verdict of ``python -m regional replay``.
    """

    ends: dict[str, int]
    reasons: dict[str, int]
    num_nameless: int
    num_days: int
    num_generations: int
    median_round_s: float
    longest_gap_s: float
    num_receipts: int
    account: Account
    replayed: dict[str, int]


def prove(bed: Bed, book: RegionBook) -> Proof:
    """Balance the books as soon as they are even, or after a while as they are, and replay."""
    balance = _settled(bed, book)
    outcomes = [entry.body["outcome"] for entry in book.ended()]
    bad = Counter(o["reason"] for o in outcomes if o["end"] != "committed")
    kinds = Counter(entry.kind for entry in book.entries)
    planned = (e.body["plan"] for e in book.entries if e.kind == "ring_planned")
    return Proof(
        ends=dict(Counter(o["end"] for o in outcomes)),
        reasons=dict(bad.most_common()),
        num_nameless=num_nameless(book.entries),
        num_days=kinds["day_sealed"],
        num_generations=len({plan["generation"] for plan in planned}),
        median_round_s=round(sorted(o["seconds"] for o in outcomes)[len(outcomes) // 2], 2),
        longest_gap_s=round(max(b.at - a.at for a, b in pairwise(book.ended())), 1),
        num_receipts=len(bed.ear.stored),
        account=balance,
        replayed=_replayed(bed),
    )


def num_nameless(entries: Sequence[Entry]) -> int:
    """Rounds that were opened, have no end, and are not the last one."""
    opened = [e.body["spec"]["round_id"] for e in entries if e.kind == "round_opened"]
    ended = {e.body["outcome"]["round_id"] for e in entries if e.kind == "round_ended"}
    return len(set(opened[:-1]) - ended)


def _settled(bed: Bed, book: RegionBook) -> Account:
    stored, deadline = set(bed.ear.stored), time.monotonic() + SETTLE_S
    while True:
        found = account(book, bed.ledgers, stored)
        if not (found.num_lost or found.num_doubled) or time.monotonic() > deadline:
            return found
        bed.region.supervisor.revive()
        time.sleep(POLL_S)


def _replayed(bed: Bed) -> dict[str, int]:
    config = str(bed.region.config_path("region"))
    command = python_module("regional", "replay", "--config", config, "--json")
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), check=False)
    try:
        checks: list[dict[str, Any]] = json.loads(done.stdout)["rounds"]
    except json.JSONDecodeError as fault:
        raise PulseRingError(f"regional replay: {done.stderr.strip()[-500:]}") from fault
    return dict(Counter(check["verdict"] for check in checks))
