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


def file_of(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


METADATA = {"pulsering": encode_json(HEADER).decode()}


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": None},
        {"__metadata__": []},
        {"__metadata__": {"pulsering": None}},
        {},
        [],
        {"__metadata__": METADATA, "w": None},
        {"__metadata__": METADATA, "w": {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}},
        {"__metadata__": METADATA, "w": {"dtype": "U64", "shape": [0], "data_offsets": [0, 0]}},
        {
            "__metadata__": METADATA,
            "w": {"dtype": "I16", "shape": [1 << 62], "data_offsets": [0, 0]},
        },
        {"__metadata__": METADATA, "w": {"dtype": "I16", "shape": [0, -1], "data_offsets": [0, 0]}},
        {
            "__metadata__": METADATA,
            "w": {"dtype": "I16", "shape": [0, (1 << 64) - 1], "data_offsets": [0, 0]},
        },
        {
            "__metadata__": METADATA,
            "w": {"dtype": "I16", "shape": [0] * 99, "data_offsets": [0, 0]},
        },
    ],
)
def test_headers_that_are_none_are_malformed(header: object) -> None:
    assert reason_of(file_of(header)) == Reason.MALFORMED


def test_header_of_a_million_keys_is_refused_before_it_is_parsed() -> None:
    many = {f"{n:06d}": 0 for n in range(1_000_000)}
    with pytest.raises(ContractError, match="header has") as caught:
        decode(file_of(many), ModelHeader, max_bytes=32 << 20)
    assert caught.value.data["reason"] == Reason.MALFORMED


def test_header_beyond_what_the_reader_allows_is_refused_before_it_is_parsed() -> None:
    data = file_of({"__metadata__": METADATA, "w": {}, "b": {}})
    with pytest.raises(ContractError, match="more than 100") as caught:
        decode(data, ModelHeader, max_header_bytes=100)
    assert caught.value.data["reason"] == Reason.MALFORMED


@pytest.mark.parametrize("key", ['"pulsering"', '"pulser\\u0069ng"'])
def test_metadata_key_given_twice_reads_the_same_every_time(key: str) -> None:
    text = json.dumps(METADATA["pulsering"])
    header = f'{{"__metadata__":{{"pulsering":"no message",{key}:{text}}}}}'.encode()
    data = struct.pack("<Q", len(header)) + header
    assert [decode(data, ModelHeader)[0] for _ in range(3)] == [HEADER] * 3


@pytest.mark.parametrize("number", ["-1", "9007199254740993", "9" * 4000, "1e999", "NaN"])
def test_numbers_that_no_round_has_break_the_schema(number: str) -> None:
    text = METADATA["pulsering"].replace('"made_by_round": 3', f'"made_by_round": {number}')
    assert reason_of(file_of({"__metadata__": {"pulsering": text}})) == Reason.SCHEMA


def test_deep_header_breaks_the_schema() -> None:
    assert reason_of(file_of({"__metadata__": {"pulsering": "[" * 50_000}})) == Reason.SCHEMA
