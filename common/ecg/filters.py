"""One signal conditioning for wristband, training, evaluation and API: any rate in, 120 Hz out.

The filter is symmetric and of bounded reach: it delays a live ECG by `FILTER_DELAY_S` and shifts
nothing, so a wristband that listens and a server that reads the whole strip see the same numbers.
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

KERNEL_HALF_S = 2.0
RESAMPLER_REACH_S = 0.1  # ten samples of the slower of the two rates: SciPy's default window
GAP_S = 0.5  # one value for so long is a lead off or at a rail; in DS1 only record 116 has it
FILTER_DELAY_S = KERNEL_HALF_S + RESAMPLER_REACH_S + GAP_S  # a sample knows no later ECG

PIECE_S = 600  # bounds the memory of the intermediate float64 arrays
MARGIN_S = 3  # more than the filter's reach


@dataclass(frozen=True)
class Conditioned:
    """A strip as every later step sees it.

    Attributes
    ----------
    ecg_mv : ndarray
        (T,) float32, band-passed, in mV, close to 120 samples a second; each depends on the ECG
        from 2.6 s before to 2.6 s after it.
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
    """Resample a strip to 120 Hz and band-pass it, 0.5 to 40 Hz.

    The filter is a third-order Butterworth applied forwards and backwards, as its impulse response
    cut to ±2 s (`_kernel`). Beyond the strip its first or last sample goes on. Where the lead is
    off, which shows as one value for half a second or longer, the last value before is held and
    the ECG goes on from it, so that the jumps there and back do not ring into the beats on either
    side. Long strips go through in pieces with overlapping margins, so memory beyond input and
    output does not grow with their length.

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
        around = samples[start - before : start + piece + margin]
        centred = around.astype(np.float64) - float(samples[0])
        filtered = _band_pass(_resample(_without_jumps(centred, fs_hz), ratio))
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


def _without_jumps(samples: NDArray[np.float64], fs_hz: float) -> NDArray[np.float64]:
    """Shift what follows the start and the end of each gap so that neither is a step."""
    steps = np.diff(samples)
    last = np.concatenate([[-1], np.flatnonzero(steps), [len(steps)]])  # of each run of one value
    gaps = np.flatnonzero(np.diff(last) >= GAP_S * fs_hz)
    jumps = np.union1d(last[gaps], last[gaps + 1])
    jumps = jumps[(jumps >= 0) & (jumps < len(steps))]
    if not len(jumps):
        return samples
    shift = np.zeros(len(samples))
    shift[jumps + 1] = -steps[jumps]
    return np.asarray(samples + np.cumsum(shift))


def _resample(centred: NDArray[np.float64], ratio: Fraction) -> NDArray[np.float64]:
    """Resample to ``ceil(T · ratio)`` samples; the first one keeps its place.

    The phases of the polyphase filter differ in gain by 1e-4, which an electrode offset of hundreds
    of mV would turn into a tone; so the strip's first value has been taken off.
    """
    up, down = ratio.numerator, ratio.denominator
    return np.asarray(signal.resample_poly(centred, up, down, padtype="antireflect"))


def _band_pass(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = _kernel()
    padded = np.pad(samples, len(kernel) // 2, mode="edge")
    return np.asarray(signal.oaconvolve(padded, kernel, mode="valid"))


@cache
def _kernel() -> NDArray[np.float64]:
    """(481,) impulse response of the zero-phase Butterworth, tapered to ±2 s, without DC gain."""
    sos = signal.butter(3, BAND_HZ, "bandpass", fs=MODEL_FS_HZ, output="sos")
    half = round(KERNEL_HALF_S * MODEL_FS_HZ)
    impulse = np.zeros(20 * half + 1)  # long enough for 0.5 Hz to die away
    impulse[10 * half] = 1
    response = signal.sosfiltfilt(sos, impulse)[9 * half : 11 * half + 1]
    taper = signal.windows.tukey(2 * half + 1, 0.5)
    response *= taper
    return np.asarray(response - taper * response.sum() / taper.sum())
