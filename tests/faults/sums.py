"""Whether a committed round's sums are those of what its wristbands sent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import parts, wire
from common.digest import tensors_digest
from common.mailbox import MAX_FILE_BYTES, message_path
from common.messages import AggregateHeader, FixedPoint, RingSumHeader
from tests.faults.book import Book, Key, Made
from tests.faults.edges import Edge
from tests.faults.letters import SHAPES

Sums = dict[str, npt.NDArray[np.int64]]


def odd_sums(
    mailbox: Path,
    outcome: dict[str, Any],
    edges: dict[str, Edge],
    book: Book,
    spec: dict[str, Any],
) -> Iterator[str]:
    """What is odd about a committed round: its aggregates, or the ring's sums of them."""
    number, total = outcome["round_id"], dict[str, Any]()
    for hospital, digest in outcome["aggregates"].items():
        edge = edges[hospital]
        frozen = edge.aggregates.get(number)
        if frozen is None or frozen[0] != digest:
            yield f"round {number}: {hospital}'s ledger has not the aggregate that was committed"
            return
        if not frozen[1]:  # archived before it was looked at: its file is gone, by intent
            return
        data = (edge.folder / "rounds" / frozen[1]).read_bytes()
        _, tensors = wire.decode(data, AggregateHeader, MAX_FILE_BYTES)
        if tensors_digest(tensors) != digest:
            yield f"round {number}: {hospital}'s aggregate is not what its digest says"
        if not same(_without_counts(tensors), expected_sums(edge, number, book, spec)):
            yield f"round {number}: {hospital}'s aggregate is not the sum of what was sent"
        total = {name: total.get(name, 0) + value for name, value in tensors.items()}
    path = message_path(spec["region"], "ring", number, f"{outcome['sums_digest']}.safetensors")
    _, sums = wire.decode((mailbox / path).read_bytes(), RingSumHeader, MAX_FILE_BYTES)
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
