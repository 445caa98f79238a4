"""Tensors that lie one after another in a file's bytes, cut out of it only when asked for.

All updates of a round have the same names, dtypes, shapes and places.  What follows from these is
worked out once, for a `Layout`, and not for each of a round's thousands of messages.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Place:
    """One tensor: its little-endian C-order bytes begin `start` bytes after the file's header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.start + self.size * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each tensor lies, in name order; together they fill `num_bytes`.

    Two layouts are equal only when they are the same object, so that what was found out about one
    can be kept under it.
    """

    places: Mapping[str, Place]

    @cached_property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(place.end - place.start for place in self.places.values())

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name."""
        return {name: place.shape for name, place in self.places.items()}

    @cached_property
    def only_dtype(self) -> np.dtype[Any] | None:
        """The dtype of all tensors; None when there are none or several."""
        dtypes = {place.dtype for place in self.places.values()}
        return dtypes.pop() if len(dtypes) == 1 else None

    @cached_property
    def digest_lines(self) -> tuple[tuple[bytes, int, int], ...]:
        """For each tensor what `common.digest` hashes before its bytes, and where these lie."""
        return tuple(
            (digest_line(name, place.dtype, place.shape), place.start, place.end)
            for name, place in self.places.items()
        )


class Packed(Mapping[str, npt.NDArray[Any]]):
    """The tensors of `data`, whose first byte lies at `start`; read-only views."""

    __slots__ = ("_bytes", "layout")

    def __init__(self, layout: Layout, data: bytes, start: int) -> None:
        self.layout = layout
        self._bytes = memoryview(data)[start:]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        place = self.layout.places[name]
        values = np.frombuffer(self._bytes, place.dtype, place.size, place.start)
        return values.reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)

    def flat(self) -> npt.NDArray[Any]:
        """All numbers in the order of their bytes, where `Layout.only_dtype` is not None."""
        return np.frombuffer(self._bytes, self.layout.only_dtype)

    def digest(self) -> str:
        """What `common.digest.tensors_digest` gives."""
        sha, data = hashlib.sha256(), self._bytes
        for line, start, end in self.layout.digest_lines:
            sha.update(line)
            sha.update(data[start:end])
        return sha.hexdigest()


def digest_line(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What precedes a tensor's bytes in a digest: ``["name", "<f4", [2, 3]]`` and a line feed."""
    return json.dumps([name, dtype.str.replace("|", "<"), list(shape)]).encode() + b"\n"
