"""The digest names tensors, not files."""

import hashlib

import numpy as np

from common.digest import tensors_digest


def test_digest_is_the_stated_hash_of_name_dtype_shape_and_bytes() -> None:
    value = np.array([[1.0, -2.0]], dtype=np.float32)
    expected = hashlib.sha256(b'["w", "<f4", [1, 2]]\n' + value.tobytes()).hexdigest()
    assert tensors_digest({"w": value}) == expected


def test_digest_does_not_depend_on_order_or_memory_layout() -> None:
    a = np.arange(6, dtype=np.int64).reshape(2, 3)
    b = np.ones(2, np.float32)
    assert tensors_digest({"a": a, "b": b}) == tensors_digest({"b": b, "a": np.asfortranarray(a)})


def test_digest_does_not_depend_on_byte_order() -> None:
    value = np.array([1, 2, 3], dtype="<i8")
    assert tensors_digest({"w": value}) == tensors_digest({"w": value.astype(">i8")})


def test_digest_changes_with_name_dtype_and_shape() -> None:
    value = np.zeros(4, np.float32)
    digests = {
        tensors_digest({"w": value}),
        tensors_digest({"v": value}),
        tensors_digest({"w": value.astype(np.int32)}),
        tensors_digest({"w": value.reshape(2, 2)}),
        tensors_digest({"w": value, "x": value[:0]}),
        tensors_digest({}),
    }
    assert len(digests) == 6
