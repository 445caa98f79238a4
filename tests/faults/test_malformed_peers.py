"""Whatever bytes a peer sends, of any message of the protocol: decoded, or a `ContractError`."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import wire
from common.contract import Contract
from common.errors import ContractError
from common.messages import (
    AggregateHeader,
    DeviceStatus,
    EvaluationHeader,
    HospitalStatus,
    Invite,
    LateHeader,
    ModelHeader,
    Receipt,
    RegionState,
    ReleaseHeader,
    RingPlan,
    RingSumHeader,
    RoundOutcome,
    RoundSpec,
    SealedHeader,
    ServerStateHeader,
    UpdateHeader,
)
from common.wire import decode, decode_json
from tests.faults.malformed_files import JUNK, METADATA, file_of, taken_apart
from tests.faults.malformed_headers import KEY, NAMES, NUMBERS

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"
KINDS: dict[str, type[Contract]] = {
    "aggregate-robust.safetensors": AggregateHeader,
    "aggregate.safetensors": AggregateHeader,
    "device_status.json": DeviceStatus,
    "evaluation.safetensors": EvaluationHeader,
    "hospital_status.json": HospitalStatus,
    "invite.json": Invite,
    "late_sums.safetensors": LateHeader,
    "model.safetensors": ModelHeader,
    "outcome.json": RoundOutcome,
    "receipt.json": Receipt,
    "region_state.json": RegionState,
    "release.safetensors": ReleaseHeader,
    "ring_plan.json": RingPlan,
    "ring_sum.safetensors": RingSumHeader,
    "round-late.json": RoundSpec,
    "round-screened.json": RoundSpec,
    "round.json": RoundSpec,
    "sealed.safetensors": SealedHeader,
    "server_state.safetensors": ServerStateHeader,
    "update-part.safetensors": UpdateHeader,
    "update.safetensors": UpdateHeader,
}
Rng = random.Random


def truncated(data: bytes, rng: Rng) -> bytes:
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def moved(data: bytes, rng: Rng) -> bytes:
    one, two, three = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:one] + data[two:three] + data[one:two] + data[three:]


def spliced(data: bytes, rng: Rng) -> bytes:
    other = (GOLDEN / rng.choice(sorted(KINDS))).read_bytes()
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def field_changed(data: bytes, rng: Rng) -> bytes:
    return with_message(data, lambda message: json.dumps(changed(message, rng)))


def number_changed(data: bytes, rng: Rng) -> bytes:
    number = rng.choice((*NUMBERS, '"\\ud800"'))
    return with_message(
        data, lambda message: json.dumps(changed(message, rng, "@")).replace('"@"', number)
    )


def nested(data: bytes, rng: Rng) -> bytes:
    depth = rng.choice((100, 300, 50_000))
    return with_message(data, lambda _: rng.choice(("[", '{"a":', '{"spec":')) * depth)


def key_given_twice(data: bytes, rng: Rng) -> bytes:
    """Some key and value of the file's header, as compact as ours or not, before or after itself."""
    if data[:1] == b"{":
        return data[:1] + rng.choice((b'"kind": "x", ', b'"schema_version": 1, ')) + data[1:]
    header, body = taken_apart(data)
    name = rng.choice((f'"{KEY}"', f'"{METADATA}"', '"dtype"', '"shape"', '"data_offsets"'))
    between = rng.choice((":", ": "))
    text = json.dumps(header, separators=(",", between))
    value = rng.choice(('"x"', "{}", "[]", '""', '"I8"', "[0,0]"))
    twice = rng.choice((name, name[:2] + f"\\u{ord(name[2]):04x}" + name[3:]))
    return file_of(text.replace(name, f"{twice}{between}{value},{name}", 1).encode(), body)


def other_text(data: bytes, rng: Rng) -> bytes:
    return with_message(data, lambda _: rng.choice(("", "null", "[]", "1", '"x"', "{", "\ufeff{}")))


WAYS: tuple[Callable[[bytes, Rng], bytes], ...] = (
    *(truncated, flipped, moved, spliced),
    *(field_changed, number_changed, nested, other_text, key_given_twice),
)


def with_message(data: bytes, change: Callable[[dict[str, Any]], str]) -> bytes:
    """The same file with its message's JSON changed."""
    if data[:1] == b"{":
        return change(json.loads(data)).encode()
    header, body = taken_apart(data)
    return file_of(header | {METADATA: {KEY: change(json.loads(header[METADATA][KEY]))}}, body)


def changed(value: Any, rng: Rng, to: object = None) -> Any:
    """`value` with one thing in it, at any depth, put in the place of another."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        way = rng.random()
        if way < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if way < 0.2:
            return value | {rng.choice((*NAMES, "surprise")): value[key]}
        return value | {key: changed(value[key], rng, to)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], changed(value[place], rng, to), *value[place + 1 :]]
    return rng.choice((*JUNK, *NAMES)) if to is None else to


def read(name: str, data: bytes) -> str:
    """What came of it; any error but a `ContractError` is the caller's to see."""
    if name.endswith(".json"):
        return read_once(decode_json, name, data)[0]
    wire._known.clear()
    first = read_once(decode, name, data)
    # As bytes that are read again, and as bytes after a sound message of the same form.
    assert read_once(decode, name, data) == first
    decode((GOLDEN / name).read_bytes(), KINDS[name])
    assert read_once(decode, name, data) == first
    return first[0]


def read_once(
    reader: Callable[[bytes, type[Contract]], Any], name: str, data: bytes
) -> tuple[str, Any]:
    """How it ended, and what was read; arrays as bytes, so that they can be compared."""
    try:
        came = reader(data, KINDS[name])
    except ContractError as fault:
        return str(fault.data["reason"]), None
    if isinstance(came, tuple):
        header, tensors = came
        arrays = {n: (t.dtype.str, t.shape, t.tobytes()) for n, t in sorted(tensors.items())}
        return "read", (header, arrays)
    return "read", came


def attack(name: str, rounds: int, seed: int) -> Counter[str]:
    """Read so many malformed messages of each way."""
    data, rng = (GOLDEN / name).read_bytes(), random.Random(f"{name}{seed}")
    return Counter(read(name, way(data, rng)) for _ in range(rounds) for way in WAYS)


def test_every_golden_message_is_attacked() -> None:
    assert set(KINDS) == {path.name for path in GOLDEN.iterdir() if path.suffix != ".sql"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_bytes_of_a_peer_escape_as_another_exception(name: str) -> None:
    came = attack(name, 40, seed=1)
    assert came["schema"] > 40
    assert came.total() == 40 * len(WAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_bytes_of_a_peer_escape_in_many_tries(name: str) -> None:
    assert attack(name, 1500, seed=2).total() == 1500 * len(WAYS)
