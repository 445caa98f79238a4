"""Bytes of messages: round trips and every kind of wrong bytes."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import DeviceStatus, ModelHeader, Reason
from common.wire import decode, decode_json, encode, encode_json

HEADER = ModelHeader(region="county", task="dummy", digest="0" * 64, made_by_round=3)
TENSORS: dict[str, np.ndarray] = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.zeros(2, np.int16),
}


def reason_of(data: bytes, max_bytes: int = 1 << 20) -> object:
    with pytest.raises(ContractError) as caught:
        decode(data, ModelHeader, max_bytes)
    return caught.value.data["reason"]


def test_message_comes_back_as_it_went() -> None:
    header, tensors = decode(encode(HEADER, TENSORS), ModelHeader)
    assert header == HEADER
    assert {n: (t.dtype, t.tolist()) for n, t in tensors.items()} == {
        n: (t.dtype, t.tolist()) for n, t in TENSORS.items()
    }


def test_scalar_stays_a_scalar_and_keeps_its_digest() -> None:
    state = {"t": np.asarray(3, np.int64)}
    _, back = decode(encode(HEADER, state), ModelHeader)
    assert back["t"].shape == ()
    assert tensors_digest(back) == tensors_digest(state)


def test_same_message_gives_same_bytes_whatever_the_order() -> None:
    assert encode(HEADER, TENSORS) == encode(HEADER, dict(reversed(TENSORS.items())))


def test_message_without_tensors_travels() -> None:
    assert decode(encode(HEADER, {}), ModelHeader) == (HEADER, {})


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 40, -1, -5])
def test_truncated_bytes_are_malformed(cut: int) -> None:
    assert reason_of(encode(HEADER, TENSORS)[:cut]) == Reason.MALFORMED


def test_size_is_checked_before_anything_else() -> None:
    assert reason_of(b"\xff" * 100, max_bytes=99) == Reason.OVERSIZE


def test_header_length_beyond_the_file_is_malformed() -> None:
    assert reason_of(struct.pack("<Q", 1 << 60) + b"{}") == Reason.MALFORMED


def test_deeply_nested_json_is_malformed() -> None:
    bomb = b"[" * 100_000
    assert reason_of(struct.pack("<Q", len(bomb)) + bomb) == Reason.MALFORMED


def test_foreign_metadata_is_malformed() -> None:
    import safetensors.numpy

    data = safetensors.numpy.save(dict(TENSORS), metadata={"pulsering": "{}", "more": "x"})
    assert reason_of(data) == Reason.MALFORMED


def test_other_dtypes_are_malformed() -> None:
    assert reason_of(encode(HEADER, {"w": np.zeros(2, np.uint8)})) == Reason.MALFORMED


def test_unknown_header_key_breaks_the_schema() -> None:
    import safetensors.numpy

    header = HEADER.model_dump(mode="json") | {"surprise": 1}
    data = safetensors.numpy.save(dict(TENSORS), metadata={"pulsering": json.dumps(header)})
    assert reason_of(data) == Reason.SCHEMA


def test_another_kind_breaks_the_schema() -> None:
    with pytest.raises(ContractError) as caught:
        decode_json(encode_json(DeviceStatus(device="wb-1", online=True)), ModelHeader)
    assert caught.value.data["reason"] == Reason.SCHEMA


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_no_bytes_escape_as_another_exception(data: bytes) -> None:
    with pytest.raises(ContractError):
        decode(data, ModelHeader)
    with pytest.raises(ContractError):
        decode_json(data, ModelHeader)


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_flipped_bytes_decode_or_are_refused(position: int, value: int) -> None:
    data = bytearray(encode(HEADER, TENSORS))
    data[position % len(data)] = value
    with contextlib.suppress(ContractError):
        decode(bytes(data), ModelHeader)
