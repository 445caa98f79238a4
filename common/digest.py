"""The digest that names a set of tensors everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.packed import Packed, digest_line

Tensors = Mapping[str, npt.NDArray[Any]]


def tensors_digest(tensors: Tensors) -> str:
    """SHA-256 over named tensors, independent of the file that holds them.

    For each tensor in name order, one JSON line ``[name, dtype, shape]`` and then its
    little-endian C-order bytes.  An empty mapping has a digest too.

    Parameters
    ----------
    tensors : mapping of str to array
        Any shapes; integer or floating dtypes.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.
    """
    if isinstance(tensors, Packed):
        return tensors.digest()
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        sha.update(digest_line(name, little.dtype, array.shape))
        sha.update(little.tobytes())
    return sha.hexdigest()


EMPTY_DIGEST = tensors_digest({})
"""Of no tensors: FedAvg's server state."""


def bytes_digest(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
