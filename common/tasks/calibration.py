"""From logits to probabilities, and when a class is not said.

The constants were fitted on DS1 records that the model had not seen (`make bench-calibrate`,
``benchmarks/results/calibrate.json``); training does not read them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORM_SCALE = 1.601
FORM_BIAS = (0.0, -2.727, -2.704, -6.479)  # not ectopic or S, V, F, Q
RHYTHM_SCALE = 0.778
RHYTHM_BIAS = -2.074

MAX_EXPECTED_ERROR = 0.30  # of an answered beat: 97 % of held-out beats, 2 % of them wrong


def is_inconclusive(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell beats whose expected error, 1 minus the largest score, is above `MAX_EXPECTED_ERROR`.

    Parameters
    ----------
    scores : ndarray
        (B, C) in [0, 1], rows sum to 1.

    Returns
    -------
    ndarray
        (B,) bool.
    """
    return np.asarray(1 - scores.max(axis=1, initial=0.0) > MAX_EXPECTED_ERROR)
