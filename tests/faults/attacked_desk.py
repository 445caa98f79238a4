"""A hospital's intake desk, with a real ledger, that malformed messages are brought to."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from common.digest import bytes_digest
from common.round_sums import Shapes
from edge import reports
from edge.desk import Answer, Desk, Incoming
from edge.inbox import MAX_BATCH
from edge.intake import Station
from edge.ledger import Ledger
from edge.rounds import Round
from edge.standing import MuteRule, Standing
from tests.faults import malformed
from tests.faults.hostile import KINDS, PASSED_OVER, REPEATED, Hostile, Target
from tests.unit.edge.builders import BASE, HOSPITAL, REGION, make_spec

DEVICES = tuple(f"bad-{number:02d}" for number in range(20))
UNINVITED = "bad-idle"
SHAPES: Shapes = {"bias": (64,), "conv/weight": (32, 24), "dense/weight": (40, 64)}
BEATS: Shapes = {"conv/weight": (32, 300), "dense/bias": (101,), "dense/weight": (40, 320)}
"""As many parameters as the beat task's model has."""

EXPONENTS = {16: -14, 8: -6}


class Hospital:
    """A desk and its ledger, in a round in which every hostile device has delivered.

    Nobody is muted unless `mute_after` says so, so that every message is looked at.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Shapes = SHAPES,
        *,
        mute_after: int = 0,
        deliver: bool = True,
        fixed_point: Mapping[str, int] | None = None,
    ) -> None:
        form = {"bits": 16} | dict(fixed_point or {})
        exponents = dict.fromkeys(shapes, EXPONENTS[form["bits"]])
        rule = {"clip_norm": 1.0, "exponents": exponents, **form}
        counts = {"confusion": (5, 5), "scores": (5, 2, 20)}
        spec = make_spec(evaluate=(BASE,), evaluation_shapes=counts, fixed_point=rule)
        self.folder = folder
        self.target = Target(spec, shapes, HOSPITAL, DEVICES, UNINVITED)
        self.ledger = Ledger(folder)
        roster = frozenset({*DEVICES, UNINVITED})
        standing = Standing(self.ledger, MuteRule(mute_after))
        self.desk = Desk(Station(REGION, HOSPITAL, roster), self.ledger, standing)
        self.round = Round(spec, frozenset(DEVICES), shapes)
        if deliver:
            assert all(answer.fresh for answer in self.take(self.own_messages(), self.round))

    def take(self, batch: Iterable[Hostile], current: Round | None) -> list[Answer]:
        incoming = [
            Incoming(one.topic, one.payload, bytes_digest(one.payload), lambda: None)
            for one in batch
        ]
        return self.desk.take(incoming, current, now=1.0)

    def contents(self) -> tuple[list[dict[str, Any]], list[bytes]]:
        """All that is stored."""
        return reports.updates(self.folder), list(self.ledger.evaluations(1))

    def refusals(self) -> Counter[str]:
        """How many messages the ledger counts as refused, by reason."""
        counted: Counter[str] = Counter()
        for row in reports.refusals(self.folder):
            counted[row["reason"]] += row["num"]
        return counted

    def own_messages(self) -> list[Hostile]:
        """What every hostile device delivers first, which is valid."""
        own = frozenset({"stored"})
        return [
            Hostile("own", name, self.target.topic(name, leaf), self.target.valid(name, leaf), own)
            for name in DEVICES
            for leaf in ("update", "evaluation")
        ]


@dataclass
class Tally:
    """What became of messages, by kind; `wrong` holds those whose answer does not fit them."""

    by_kind: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def note(self, one: Hostile, result: str) -> None:
        self.by_kind[one.kind][result] += 1
        if result not in one.right:
            self.wrong.append((one.kind, result))

    def __add__(self, other: Tally) -> Tally:
        both = Tally(wrong=self.wrong + other.wrong)
        for name in {*self.by_kind, *other.by_kind}:
            both.by_kind[name] = self.by_kind[name] + other.by_kind[name]
        return both

    @property
    def results(self) -> Counter[str]:
        return sum(self.by_kind.values(), Counter())


def attack(
    hospital: Hospital, messages: Iterable[Hostile], current: Round | None, size: int = MAX_BATCH
) -> Tally:
    """Bring messages to the desk in batches, as the node does."""
    tally, stream = Tally(), iter(messages)
    while batch := list(islice(stream, size)):
        nameless = [one for one in batch if one.right == {PASSED_OVER}]
        named = [one for one in batch if one.right != {PASSED_OVER}]
        answers = hospital.take(batch, current)
        assert len(answers) == len(named)
        for one in nameless:
            tally.note(one, PASSED_OVER)
        for one, answer in zip(named, answers, strict=True):
            tally.note(one, result_of(answer))
    return tally


def result_of(answer: Answer) -> str:
    """As in metrics: the reason, stored, or repeated."""
    return answer.reason.value if answer.reason else "stored" if answer.fresh else REPEATED


def unrefused(tally: Tally) -> int:
    """Messages that are no refusal: on topics of nobody, and those that say nothing new."""
    return tally.results[PASSED_OVER] + tally.results[REPEATED]


def seconds_by_kind(hospital: Hospital, repeats: int) -> dict[str, float]:
    """Median seconds of processor time of one message of a kind, each with a commit of its own."""
    medians = {}
    for name in KINDS:
        rng, took = Random(name), []
        for _ in range(repeats):
            one = malformed.make(hospital.target, name, rng)
            began = time.process_time()
            hospital.take([one], hospital.round)
            took.append(time.process_time() - began)
        medians[name] = statistics.median(took)
    return medians
