"""Tensors cut out of a message's bytes, and tables of tensors that were seen before."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common import wire
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import ModelHeader, Reason
from common.packed import Packed
from common.wire import decode_packed, encode

DTYPES = st.sampled_from([np.float32, np.float64, np.int8, np.int16, np.int64])
TENSORS = st.dictionaries(
    st.text("abc.é", min_size=1, max_size=6),
    DTYPES.flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=5,
)


def make_header(number: int = 3) -> ModelHeader:
    return ModelHeader(region="county", task="dummy", digest="0" * 64, made_by_round=number)


def known_and_new(tensors: dict[str, np.ndarray]) -> tuple[Packed, Packed]:
    """The tensors of two messages of one form: read by safetensors, and by the table it left."""
    wire._known.clear()
    _, first = decode_packed(encode(make_header(), tensors), ModelHeader)
    _, second = decode_packed(encode(make_header(40), tensors), ModelHeader)
    return first, second


@given(TENSORS)
def test_a_known_table_gives_what_safetensors_gives(tensors: dict[str, np.ndarray]) -> None:
    for packed in known_and_new(tensors):
        assert list(packed) == sorted(tensors)
        for name, value in tensors.items():
            assert (packed[name].dtype, packed[name].shape) == (value.dtype, value.shape)
            assert packed[name].tobytes() == value.tobytes()


@given(TENSORS)
def test_digest_is_that_of_the_tensors(tensors: dict[str, np.ndarray]) -> None:
    for packed in known_and_new(tensors):
        assert packed.digest() == tensors_digest(packed) == tensors_digest(dict(tensors))


def test_a_table_is_parsed_once() -> None:
    first, second = known_and_new({"w": np.arange(6, dtype=np.int16)})
    assert first.layout is second.layout


def test_a_known_table_does_not_excuse_another_length() -> None:
    data = encode(make_header(), {"w": np.arange(6, dtype=np.int16)})
    decode_packed(data, ModelHeader)
    for wrong in (data + b"\0", data[:-1]):
        with pytest.raises(ContractError) as caught:
            decode_packed(wrong, ModelHeader)
        assert caught.value.data["reason"] == Reason.MALFORMED


@pytest.mark.parametrize(
    "metadata", ['{"kind": "x\\ud800"}', '{"kind": "\\u0041"}', "not JSON", "é"]
)
def test_metadata_is_judged_alike_before_and_after_its_table_is_known(metadata: str) -> None:
    tensors = {"w": np.arange(6, dtype=np.int16)}
    data = safetensors.numpy.save(tensors, metadata={"pulsering": metadata})
    told = []
    for known in (False, True):
        wire._known.clear()
        if known:
            decode_packed(encode(make_header(), tensors), ModelHeader)
        with pytest.raises(ContractError) as caught:
            decode_packed(data, ModelHeader)
        told.append((caught.value.data["reason"], caught.value.message))
    assert told[0] == told[1]


def test_tables_do_not_pile_up() -> None:
    wire._known.clear()
    for number in range(3 * wire._MAX_KNOWN):
        decode_packed(encode(make_header(), {f"w{number}": np.zeros(1, np.int8)}), ModelHeader)
    assert 0 < len(wire._known) <= wire._MAX_KNOWN
    wire._known.clear()
    many = {f"w{number:0100d}": np.zeros(1, np.int8) for number in range(200)}
    decode_packed(encode(make_header(), many), ModelHeader)
    assert not wire._known


def test_all_numbers_lie_in_the_order_of_their_bytes() -> None:
    _, packed = known_and_new(
        {"b": np.array([3, 4], np.int16), "a": np.array([[1], [2]], np.int16)}
    )
    assert packed.flat().tolist() == [1, 2, 3, 4]
    assert packed.layout.only_dtype == np.int16
    assert not packed["a"].flags.writeable
