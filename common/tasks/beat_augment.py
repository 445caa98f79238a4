"""Beats as the same wearer could have given them: other gain, noise and alignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.tasks.beat_form import QRS

MAX_SHIFT = 5  # samples at 120 Hz, either way
GAIN_SD = 0.2  # of the beat against its template and its neighbours
NOISE_SD = 0.03  # half-normal, in QRS amplitudes
LOUD_SHARE = 0.3  # of the beats, which get noise of a size log-uniform in `LOUD` besides
LOUD = (0.03, 0.3)
WANDER = 0.15  # of a noise step that stays


def varied(beat_mv: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift all windows of an example alike, scale the beat, add noise to the beat.

    Parameters
    ----------
    beat_mv : ndarray
        (B, 5, 128) float32 in mV, as `common.ecg.beats` stacks them. Zeros stay zeros.
    """
    num, _, width = beat_mv.shape
    shift = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=(num, 1, 1))
    idx = np.clip(np.arange(width) + shift, 0, width - 1)
    shifted = np.take_along_axis(beat_mv, idx, axis=2)
    gain = np.exp(GAIN_SD * rng.standard_normal((num, 1), dtype=np.float32))
    amplitude = np.ptp(beat_mv[:, 1, QRS], axis=1)[:, None]
    size = _noise_sizes(num, rng) * amplitude
    shifted[:, 0] = shifted[:, 0] * gain + size * _noise(num, width, rng)
    return shifted


def _noise_sizes(num: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(B, 1) in QRS amplitudes: little for all, and much more for some."""
    quiet = NOISE_SD * np.abs(rng.standard_normal((num, 1)))
    loud = np.exp(rng.uniform(np.log(LOUD[0]), np.log(LOUD[1]), (num, 1)))
    return (quiet + np.where(rng.random((num, 1)) < LOUD_SHARE, loud, 0)).astype(np.float32)


def _noise(num: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """White noise and a random walk: (B, T) float32."""
    white = rng.standard_normal((num, width), dtype=np.float32)
    walk = WANDER * rng.standard_normal((num, width), dtype=np.float32).cumsum(axis=1)
    return np.asarray(white + walk - walk.mean(axis=1, keepdims=True), dtype=np.float32)
