"""Puts the numbered points around the product's functions, in this process alone."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from common.messages import HospitalStatus
from tests.faults.table import POINTS, Point, Process, Side

TRANSACTION = "edge.ledger:Ledger.transaction"
IN_TRANSACTION: tuple[Side, ...] = ("begun", "commit", "committed")

Reach = Callable[[str], None]


class Hooks:
    """Wraps what the points of one kind of process name, and tells `reach` when one is come by."""

    def __init__(self, points: Iterable[Point], reach: Reach) -> None:
        self._reach = reach
        self._at: dict[tuple[str, Side], list[Point]] = defaultdict(list)
        for point in points:
            self._at[point.where, point.side].append(point)
        self._with_transaction = {
            where for where, side in self._at if side in IN_TRANSACTION and self._at[where, side]
        }
        self._local = threading.local()

    def install(self) -> None:
        """Wrap every function that a point names, and the ledger's transaction."""
        for where in dict.fromkeys(where for where, _ in self._at):
            self._wrap(where)
        if self._with_transaction:
            self._wrap_transaction()

    def _wrap(self, where: str) -> None:
        owner, name = locate(where)
        inner = getattr(owner, name)

        @wraps(inner)
        def outer(*arguments: Any, **named: Any) -> Any:
            self._pass(where, "before", arguments)
            with self._inside(where):
                answer = inner(*arguments, **named)
            self._pass(where, "after", arguments)
            return answer

        setattr(owner, name, outer)

    def _wrap_transaction(self) -> None:
        owner, name = locate(TRANSACTION)
        inner = getattr(owner, name)

        @contextmanager
        def transaction(ledger: object) -> Iterator[None]:
            where = self._scopes[-1] if self._scopes else ""
            with inner(ledger):
                self._calls.clear()
                self._pass(where, "begun", ())
                yield
                self._pass(where, "commit", ())
            self._pass(where, "committed", ())

        setattr(owner, name, transaction)

    @contextmanager
    def _inside(self, where: str) -> Iterator[None]:
        """Know, meanwhile, whose transaction one is that begins."""
        if where not in self._with_transaction:
            yield
            return
        self._scopes.append(where)
        try:
            yield
        finally:
            self._scopes.pop()

    def _pass(self, where: str, side: Side, arguments: tuple[object, ...]) -> None:
        points = self._at.get((where, side))
        if not points:
            return
        self._calls[where] += 1
        for point in points:
            if point.nth and point.nth != self._calls[where]:
                continue
            if not point.only or point.only in labels_of(arguments):
                self._reach(point.name)

    @property
    def _scopes(self) -> list[str]:
        if not hasattr(self._local, "scopes"):
            self._local.scopes = []
        scopes: list[str] = self._local.scopes
        return scopes

    @property
    def _calls(self) -> Counter[str]:
        if not hasattr(self._local, "calls"):
            self._local.calls = Counter()
        calls: Counter[str] = self._local.calls
        return calls


def points_of(process: Process) -> list[Point]:
    """The points that a process of that kind can come by."""
    return [point for point in POINTS if point.process == process]


def locate(where: str) -> tuple[Any, str]:
    """Who holds the function that ``module:Class.name`` means, and its name there.

    Raises
    ------
    AttributeError
        When the product has no such function (any more).
    """
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    getattr(owner, name)
    return owner, name


def labels_of(arguments: Iterable[object]) -> set[str]:
    """Words for a call's arguments: a file's suffix, kinds of effects, records, events; a status.

    A hospital's status is ``ready`` when its aggregate is and its ring is not done, and ``result``
    when its ring is.
    """
    return {label for argument in arguments for label in _labels(argument)}


def _labels(argument: object) -> Iterator[str]:
    if isinstance(argument, PurePath):
        yield argument.suffix
    yield type(argument).__name__
    event = getattr(argument, "event", None)
    if isinstance(event, BaseModel):
        yield type(event).__name__
    for record in getattr(argument, "records", ()):
        yield record.kind
    if isinstance(argument, HospitalStatus) and argument.phase == "ready":
        done = argument.result is not None and argument.result.round_id == argument.round_id
        yield "result" if done else "ready"
