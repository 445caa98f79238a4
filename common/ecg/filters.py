"""One signal conditioning for wristband, training, evaluation and API: any rate in, 120 Hz out.

The filter is zero-phase: it looks ahead, so it fits recorded strips, not a live display.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from common.errors import SignalError

MODEL_FS_HZ = 120
BAND_HZ = (0.5, 40.0)
FS_RANGE_HZ = (100.0, 1000.0)
MIN_DURATION_S = 3.0
FLAT_MV = 0.02
MAX_MV = 10_000.0

PIECE_S = 600  # bounds the memory of the intermediate float64 arrays
MARGIN_S = 20  # the 0.5 Hz edge has forgotten a piece's border by then


@dataclass(frozen=True)
class Conditioned:
    """A strip as every later step sees it.

    Attributes
    ----------
    ecg_mv : ndarray
        (T,) float32, band-passed, in mV, close to 120 samples a second.
    samples_per_sample : Fraction
        Samples of the original strip per sample of this one.
    """

    ecg_mv: NDArray[np.float32]
    samples_per_sample: Fraction


def checked(ecg_mv: ArrayLike, fs_hz: float) -> NDArray[np.floating]:
    """Return the strip as an array if it can be analysed at all.

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples in mV.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.

    Raises
    ------
    SignalError
        If the rate is out of range or the strip is not a series of numbers, empty, shorter than
        3 s, not finite, beyond ±10 V, or flat.
    """
    low, high = FS_RANGE_HZ
    if not low <= fs_hz <= high:
        raise SignalError(f"sampling rate {fs_hz} Hz is outside {low:.0f} to {high:.0f} Hz")
    samples = _as_series(ecg_mv)
    if len(samples) < MIN_DURATION_S * fs_hz:
        raise SignalError(
            f"ECG of {len(samples) / fs_hz:.2f} s is too short; at least {MIN_DURATION_S:.0f} s"
        )
    lowest, highest = float(samples.min()), float(samples.max())
    if not np.isfinite([lowest, highest]).all():
        raise SignalError("ECG holds samples that are not finite")
    if max(-lowest, highest) > MAX_MV:
        raise SignalError(f"ECG goes beyond ±{MAX_MV:.0f} mV; are the samples in millivolts?")
    if highest - lowest < FLAT_MV:
        raise SignalError(
            f"ECG is flat (under {FLAT_MV} mV peak to peak); are the samples in millivolts?"
        )
    return samples


def condition(ecg_mv: ArrayLike, fs_hz: float) -> Conditioned:
    """Resample a strip to 120 Hz and band-pass it, 0.5 to 40 Hz, zero-phase.

    Third-order Butterworth, applied forwards and backwards. Long strips go through in pieces with
    overlapping margins, so memory beyond input and output does not grow with their length.

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples in mV.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.

    Raises
    ------
    SignalError
        As `checked`.
    """
    samples = checked(ecg_mv, fs_hz)
    ratio = Fraction(MODEL_FS_HZ / fs_hz).limit_denominator(1000)
    seconds = ratio.denominator * max(1, round(fs_hz / ratio.denominator))
    piece, margin = PIECE_S * seconds, MARGIN_S * seconds
    num_out = -(-len(samples) * ratio.numerator // ratio.denominator)
    out = np.empty(num_out, dtype=np.float32)
    for start in range(0, len(samples), piece):
        before = min(margin, start)
        filtered = _band_pass(_resample(samples[start - before : start + piece + margin], ratio))
        first = int(start * ratio)
        last = min(int((start + piece) * ratio), num_out)
        skip = int(before * ratio)
        out[first:last] = filtered[skip : skip + last - first]
    return Conditioned(out, 1 / ratio)


def _as_series(ecg_mv: ArrayLike) -> NDArray[np.floating]:
    try:
        samples = np.asarray(ecg_mv)
        if samples.dtype.kind not in "biufO":  # text and complex numbers would be cast silently
            raise SignalError(f"ECG is not a series of numbers but of {samples.dtype}")
        if samples.dtype not in (np.float32, np.float64):
            samples = samples.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SignalError("ECG is not a series of numbers") from error
    if samples.ndim != 1:
        raise SignalError(f"ECG must be one lead, a series of samples; got {samples.ndim} axes")
    if not len(samples):
        raise SignalError("ECG is empty")
    return samples


def _resample(samples: NDArray[np.floating], ratio: Fraction) -> NDArray[np.float64]:
    """Resample to ``ceil(T · ratio)`` samples; the first one keeps its place.

    The mean goes first: the phases of the polyphase filter differ in gain by 1e-4, which an
    electrode offset of hundreds of mV would turn into a tone.
    """
    centred = samples.astype(np.float64)
    centred -= centred.mean()
    up, down = ratio.numerator, ratio.denominator
    return np.asarray(signal.resample_poly(centred, up, down, padtype="antireflect"))


def _band_pass(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    pad = min(len(samples) - 1, 2 * MODEL_FS_HZ)
    return np.asarray(signal.sosfiltfilt(_sos(), samples, padlen=pad))


@cache
def _sos() -> NDArray[np.float64]:
    return np.asarray(signal.butter(3, BAND_HZ, "bandpass", fs=MODEL_FS_HZ, output="sos"))
