"""R peaks: found by `sleepecg`, then moved to the summit of the QRS between the samples.

Source: Brunner et al., SleepECG, J. Open Source Software 8(86), 2023 (a modified Pan-Tompkins).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sleepecg.heartbeats import detect_heartbeats

from common.ecg.filters import MODEL_FS_HZ

REACH = round(0.06 * MODEL_FS_HZ)
REFRACTORY = round(0.2 * MODEL_FS_HZ)
MIN_DEFLECTION_MV = 0.03  # adaptive thresholds find "beats" in the rounding of a dead electrode
PIECE = 1800 * MODEL_FS_HZ
MARGIN = 10 * MODEL_FS_HZ  # thresholds need some beats to settle


def detect(ecg_mv: NDArray[np.float32]) -> NDArray[np.float64]:
    """Find the R peaks of a conditioned strip.

    Parameters
    ----------
    ecg_mv : ndarray
        (T,) float32 at 120 Hz from `common.ecg.filters.condition`.

    Returns
    -------
    ndarray
        (B,) float64 positions in samples of `ecg_mv`, rising, at least 200 ms apart.
    """
    found = [_detect_piece(ecg_mv, start) for start in range(0, len(ecg_mv), PIECE)]
    positions = np.sort(refine(ecg_mv, np.concatenate(found)))
    deflection = np.abs(ecg_mv[np.rint(positions).astype(np.int64)])
    positions = positions[deflection >= MIN_DEFLECTION_MV]
    return positions[np.diff(positions, prepend=-np.inf) >= REFRACTORY]


def refine(ecg_mv: NDArray[np.float32], positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Move each position to the greatest deflection within 60 ms, by a parabola through it.

    Parameters
    ----------
    ecg_mv : ndarray
        (T,) float32 at 120 Hz, conditioned.
    positions : ndarray
        (B,) positions in samples, each in [0, T).
    """
    deflection = np.abs(ecg_mv)
    near = np.rint(positions).astype(np.int64)[:, None] + np.arange(-REACH, REACH + 1)
    near = np.clip(near, 1, len(ecg_mv) - 2)
    summit = near[np.arange(len(near)), deflection[near].argmax(axis=1)]
    left, top, right = (deflection[summit + k].astype(np.float64) for k in (-1, 0, 1))
    curvature = left - 2 * top + right
    shift = np.divide(left - right, 2 * curvature, out=np.zeros_like(top), where=curvature < 0)
    return np.asarray(summit + np.clip(shift, -0.5, 0.5))


def _detect_piece(ecg_mv: NDArray[np.float32], start: int) -> NDArray[np.float64]:
    first = max(0, start - MARGIN)
    piece = ecg_mv[first : start + PIECE + MARGIN].astype(np.float64)
    if np.ptp(piece) == 0:
        return np.empty(0)
    found = first + np.asarray(detect_heartbeats(piece, MODEL_FS_HZ), dtype=np.float64)
    return found[(found >= start) & (found < start + PIECE)]
