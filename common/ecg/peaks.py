"""R peaks: found by `sleepecg`, judged by a second pass, moved to the summit between the samples.

`sleepecg` looks for upward peaks with thresholds that adapt from beat to beat. Early in a strip and
in the pause after an ectopic beat its search back falls to P and T waves, and within its refractory
time it then passes over the QRS; wide ectopic beats stay under its thresholds. So a second pass
looks at every place that is the steepest within 200 ms. It is a beat if two of three hold:
`sleepecg` found a peak there, it is steep, and it is tall, compared with the beats found around it.
P and T waves are less steep than a QRS (the T-wave rule of Pan and Tompkins).
Of these, a weak one that halves the interval between its neighbours is noise: muscle artefact fills
the pauses between beats with small peaks, which a classifier would call ventricular.

Sources: Brunner et al., SleepECG, J. Open Source Software 8(86), 2023 (a modified Pan-Tompkins);
Pan and Tompkins, IEEE Trans. Biomed. Eng. 32(3), 1985. The constants were chosen on DS1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from sleepecg.heartbeats import detect_heartbeats

from common.ecg.filters import MODEL_FS_HZ

REACH = round(0.06 * MODEL_FS_HZ)
REFRACTORY = round(0.2 * MODEL_FS_HZ)
MIN_HEIGHT_MV = 0.05  # adaptive thresholds find "beats" in the rounding of a dead electrode
DEAD_MV = 1e-3  # less than this is no ECG but the rounding of the filter
PIECE = 1800 * MODEL_FS_HZ
MARGIN = 20 * MODEL_FS_HZ  # thresholds need some beats to settle
SPARE = 2 * MODEL_FS_HZ  # `sleepecg` 0.6 writes past its table if there is a peak every 200 ms

QRS_BAND_HZ = (5.0, 30.0)
QRS_WIDTH = round(0.15 * MODEL_FS_HZ) + 1
HEIGHT_WIDTH = 2 * round(0.1 * MODEL_FS_HZ) + 1
NEIGHBOURS = 21  # beats around one that say how steep and tall a beat is
MIN_STRENGTH = (
    0.3  # steepness times height, in those of the beats around, that no rhythm need explain
)
MIN_SPACE = (
    0.65  # of the median interval around, on average on both sides; less is a beat between two
)
MIN_HEIGHT = 0.7
MIN_STEEPNESS = 0.3  # between beats record 119 reaches 0.23; one QRS of DS1 in 1200 is under 0.3


def detect(ecg_mv: NDArray[np.float32]) -> NDArray[np.float64]:
    """Find the R peaks of a conditioned strip; its polarity does not matter.

    Peaks up to 5 s before the end are those of any longer strip with the same start: thresholds
    learn from the past, and a beat is compared with ten beats after it, of which a median changes
    little (none of 88 beginnings of records of DS1 had another peak).

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
    return positions[np.diff(positions, prepend=-np.inf) >= REFRACTORY]


def refine(ecg_mv: NDArray[np.float32], positions: NDArray[np.number]) -> NDArray[np.float64]:
    """Move each position to the greatest deflection within 60 ms, by a parabola through it.

    Where the electrode is dead a position stays where it is.

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
    return np.where(top < DEAD_MV, positions, summit + np.clip(shift, -0.5, 0.5))


def _detect_piece(ecg_mv: NDArray[np.float32], start: int) -> NDArray[np.int64]:
    first, stop = max(0, start - MARGIN), min(start + PIECE + MARGIN, len(ecg_mv))
    live = np.flatnonzero(np.abs(ecg_mv[first:stop]) >= DEAD_MV)
    first += int(live[0]) if len(live) else stop  # `sleepecg` learns from the first two seconds
    if stop - first < MODEL_FS_HZ:  # too little for a filter to start
        return np.empty(0, dtype=np.int64)
    piece = ecg_mv[first:stop].astype(np.float64)
    found = first + _judged(piece, _upward_and_downward(piece))
    return found[(found >= start) & (found < start + PIECE)]


def _upward_and_downward(ecg_mv: NDArray[np.float64]) -> NDArray[np.int64]:
    padded = np.pad(ecg_mv, (0, SPARE), mode="edge")
    found = [detect_heartbeats(polarity * padded, MODEL_FS_HZ) for polarity in (1, -1)]
    found_idx: NDArray[np.int64] = np.unique(np.concatenate(found)).astype(np.int64)
    return found_idx[found_idx < len(ecg_mv)]


def _judged(ecg_mv: NDArray[np.float64], found_idx: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the steepest places of which two of three hold: found, steep, tall."""
    steepness, height = _steepness(ecg_mv), _height(ecg_mv)
    is_summit = steepness == ndimage.maximum_filter1d(steepness, 2 * REFRACTORY + 1)
    summits = np.flatnonzero(is_summit & (height >= MIN_HEIGHT_MV))
    is_found = np.zeros(len(ecg_mv), dtype=bool)
    is_found[found_idx] = True
    found = ndimage.maximum_filter1d(is_found, 2 * REFRACTORY + 1)[summits]
    if not found.any():
        return np.empty(0, dtype=np.int64)
    steep = steepness[summits] / _of_neighbours(steepness, summits, found)
    tall = height[summits] / _of_neighbours(height, summits, found)
    is_beat = np.sum([found, steep >= MIN_STEEPNESS, tall >= MIN_HEIGHT], axis=0) >= 2
    beats, is_weak = summits[is_beat], (steep * tall)[is_beat] < MIN_STRENGTH
    return np.asarray(beats[~(is_weak & _is_between(beats))])


def _is_between(beats: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B,) whether a beat comes where none is due: it halves the interval between two others."""
    intervals = np.diff(beats)
    if len(intervals) < 2:
        return np.zeros(len(beats), dtype=bool)
    usual = ndimage.median_filter(intervals, size=NEIGHBOURS, mode="nearest")
    around = np.append(intervals[:1], intervals) + np.append(intervals, intervals[-1:])
    return np.asarray(around / 2 < MIN_SPACE * np.append(usual[:1], usual))


def _steepness(ecg_mv: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) root mean square slope of the QRS band over the 150 ms around each sample."""
    slope = np.gradient(signal.sosfiltfilt(_sos(), ecg_mv))
    mean = ndimage.uniform_filter1d(slope**2, QRS_WIDTH, mode="constant")
    return np.asarray(np.sqrt(np.maximum(mean, 0)))


def _height(ecg_mv: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) peak to peak of the 200 ms around each sample."""
    highest = ndimage.maximum_filter1d(ecg_mv, HEIGHT_WIDTH)
    return np.asarray(highest - ndimage.minimum_filter1d(ecg_mv, HEIGHT_WIDTH))


def _of_neighbours(
    values: NDArray[np.float64], summits: NDArray[np.int64], found: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(S,) median value of the beats found around each summit."""
    beats = summits[found]
    local = ndimage.median_filter(values[beats], size=NEIGHBOURS, mode="reflect")
    return np.asarray(np.interp(summits, beats, local))


@cache
def _sos() -> NDArray[np.float64]:
    return np.asarray(signal.butter(2, QRS_BAND_HZ, "bandpass", fs=MODEL_FS_HZ, output="sos"))
