"""Several small integers in one 64-bit lane, so that a ring carries no more bits than it must.

A field of `width` bits holds a signed integer below ``2**(width - 1)`` in magnitude.  Lanes are
added as 64-bit integers; as long as the *sums* of fields stay within that range, the sum of lanes
holds the sums of fields: a negative field borrows from the one above it, and `unpack` pays back.
Horovod has no 16-bit integers, and no width between 8, 32 and 64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from common.errors import ContractError

Int64 = npt.NDArray[np.int64]
LANE_BITS = 64
BLOCK_LANES = 1 << 15  # 256 kB, which stay in a core's cache while their fields are taken


def width_for(bound: int) -> int:
    """Bits of a field whose sum is at most `bound` in magnitude, its sign among them.

    >>> [width_for(b) for b in (0, 1, 127, 128, 2**20 - 1)]
    [1, 2, 8, 9, 21]
    """
    return bound.bit_length() + 1


def num_lanes(num_fields: int, width: int) -> int:
    """Lanes that `num_fields` of `width` bits take.

    >>> num_lanes(7, 21), num_lanes(7, 33)
    (3, 7)
    """
    return -(-num_fields // max(1, LANE_BITS // width))


def pack(parts: Sequence[Int64], width: int, into: Int64) -> None:
    """Put the numbers of all `parts`, one after the other, into lanes.

    Parameters
    ----------
    parts : sequence of int64 array
        Flat arrays; together ``n`` numbers.
    width : int
        Bits of a field, 1 to 64.
    into : int64 array, shape (num_lanes(n, width),)
        Where the lanes go; field ``i`` is in lane ``i % len(into)``.
    """
    into[:] = 0
    room = np.empty(BLOCK_LANES, np.int64)
    position = 0
    for part in parts:
        for numbers, lane, field in _runs(part, position, into.size):
            lanes = into[lane : lane + numbers.size]
            moved = np.left_shift(numbers, field * width, out=room[: numbers.size])
            np.add(lanes, moved, out=lanes)
        position += part.size


def unpack(lanes: Int64, num_fields: int, width: int) -> Int64:
    """Take fields out of summed lanes; the inverse of `pack`.

    Returns
    -------
    int64 array, shape (num_fields,)
        A view of `lanes` when a lane holds one field.
    """
    size = lanes.size
    if size >= num_fields:
        return lanes[:num_fields]
    numbers = np.empty(num_fields, np.int64)
    for start in range(0, size, BLOCK_LANES):
        rest = lanes[start : start + BLOCK_LANES].copy()
        for first in range(start, num_fields, size):
            field = numbers[first : first + rest.size]
            _take_lowest(rest[: field.size], field, width)
    return numbers


def _take_lowest(lanes: Int64, field: Int64, width: int) -> None:
    """Move the lowest field of each lane into `field`, its sign extended."""
    above = LANE_BITS - width
    np.left_shift(lanes, above, out=field)
    np.right_shift(field, above, out=field)
    np.subtract(lanes, field, out=lanes)
    np.right_shift(lanes, width, out=lanes)


def check_range(parts: Sequence[Int64], bound: int) -> None:
    """Refuse numbers that one member of a sum may not bring.

    Raises
    ------
    ContractError
        When one exceeds `bound` in magnitude.
    """
    for part in parts:
        if part.size and max(int(part.max()), -int(part.min())) > bound:
            raise ContractError("the aggregate holds a number beyond what its weight allows")


def _runs(part: Int64, position: int, size: int) -> Iterator[tuple[Int64, int, int]]:
    """Pieces of `part` that stay within one field and a block: numbers, first lane, field."""
    start = 0
    while start < part.size:
        field, lane = divmod(position + start, size)
        num = min(part.size - start, size - lane, BLOCK_LANES)
        yield part[start : start + num], lane, field
        start += num
