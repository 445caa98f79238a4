"""What the sites of the ring benchmark add up: the same numbers for every arm."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from common import fixedpoint

NUM_DEVICES = 10  # of a hospital
SPREAD = 0.3  # of the largest sum that ten updates can have
SEED = 20_261
Int64 = npt.NDArray[np.int64]


def hospital_sum(site: int, size: int, bits: fixedpoint.Bits) -> Int64:
    """A hospital's sum of the updates of ten wristbands, shape (size,).

    The sums of 32 hospitals stay below 2**24, so that they are exact in float32 too.
    """
    bound = int(SPREAD * NUM_DEVICES * fixedpoint.largest(bits))
    return np.random.default_rng([SEED, site]).integers(-bound, bound + 1, size)


def expected_sum(num_sites: int, size: int, bits: fixedpoint.Bits) -> Int64:
    """Sum over hospitals, shape (size,)."""
    total = np.zeros(size, np.int64)
    for site in range(num_sites):
        total += hospital_sum(site, size, bits)
    return total


def fingerprint(total: npt.NDArray[np.number], scale: int = 1) -> str:
    """Of `total` times `scale`, rounded to integers: the same for float32 means and exact sums."""
    whole = np.rint(total.astype(np.float64) * scale).astype(np.int64)
    return hashlib.sha256(whole.tobytes()).hexdigest()
