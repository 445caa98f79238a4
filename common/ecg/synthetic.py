"""Synthetic ECG with N, S and V beats, for machines without a recorded database.

The model is McSharry, Clifford, Tarassenko, Smith: A dynamical model for generating synthetic
electrocardiogram signals, IEEE TBME 50(3):289-294, 2003, doi 10.1109/TBME.2003.808805.  Five
Gaussian events P, Q, R, S, T attract the signal z as the phase theta runs round the unit circle::

    dz/dt = -sum_i a_i dtheta_i exp(-dtheta_i^2 / 2 b_i^2) - (z - z0(t))

What is simplified, so that 30 minutes take a fraction of a second:

- The motion stays on the limit cycle, so theta is linear within a beat and is written down in
  closed form; z is then a first-order linear equation, solved by one recursive filter.
- The RR series with its LF and HF peaks is drawn over beats at the patient's mean rate instead
  of over seconds.
- P and T follow the square root of the preceding RR interval (Bazett); the QRS complex keeps its
  duration, as conduction does.

What is added: premature S and V beats, patients with broad QRS, noise.  The result teaches a
classifier what "early" and "wide" look like; no figure measured on it is clinical.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from common.ecg.records import Record
from common.errors import SignalError

FS_HZ = 360.0
LEAD = "MLII"
SOURCE = "synthetic"
DURATION_S = 1800.0
MAX_DURATION_S = 86_400.0
MIN_DURATION_S = 5.0
REFRACTORY_S = 0.36  # no beat follows another sooner

# Table I of the paper for P, Q, R, S, T; amplitudes a_i b_i^2 as fractions of R's.
_THETA_RAD = np.pi * np.array([-1 / 3, -1 / 12, 0.0, 1 / 12, 1 / 2])
_WIDTH_RAD = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
_AMPLITUDE = np.array([0.25, -0.167, 1.0, -0.25, 0.4])
_FOLLOWS_RATE = np.array([True, False, False, False, True])
_P, _Q, _R, _S, _T = range(5)

# (fraction of S beats, fraction of V beats, broad QRS): eleven kinds of patient, in turn, so that
# any 22 in a row hold wearers without ectopy, with dense V, with S, and with bundle branch block.
_KINDS: tuple[tuple[float, float, bool], ...] = (
    (0.000, 0.000, False),
    (0.030, 0.000, False),
    (0.000, 0.120, False),
    (0.002, 0.000, False),
    (0.010, 0.003, False),
    (0.020, 0.250, False),
    (0.000, 0.000, True),
    (0.080, 0.010, False),
    (0.000, 0.020, False),
    (0.005, 0.050, True),
    (0.000, 0.003, False),
)


@dataclass(frozen=True)
class _Patient:
    """What stays the same through one patient's recording."""

    mean_rr_s: float
    lf_sd_s: float
    hf_sd_s: float
    respiration_hz: float
    s_burden: float
    v_burden: float
    conducted: str  # code of a conducted beat: "N", or "L" with broad QRS
    waves: dict[str, np.ndarray]  # beat code: (3, 5) theta rad, width rad, amplitude mV
    wander_mv: float
    noise_mv: float


def synthesize(name: str, seed: int = 0, duration_s: float = DURATION_S) -> Record:
    """Generate one patient's ECG at 360 Hz.

    Parameters
    ----------
    name : str
        ``syn`` and a number, such as ``"syn01"``; the number picks the kind of patient.
    seed : int
        Non-negative; the same name, seed and duration give the same samples.
    duration_s : float
        Length, 5 s to 24 h.

    Raises
    ------
    SignalError
        If the name, seed or duration is out of range.
    """
    number = re.fullmatch(r"syn(\d{1,6})", name, flags=re.ASCII)
    if number is None:
        raise SignalError(f"{name!r} is not a synthetic patient: use syn01, syn02, …", record=name)
    if seed < 0:
        raise SignalError(f"the seed of a synthetic ECG is {seed}, below 0", seed=seed)
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise SignalError(
            f"a synthetic ECG lasts {MIN_DURATION_S:g} to {MAX_DURATION_S:g} s, not {duration_s}"
        )
    index = int(number[1])
    rng = np.random.default_rng([seed, index])
    patient = _draw_patient(rng, _KINDS[(index - 1) % len(_KINDS)])
    num_samples = round(duration_s * FS_HZ)
    r_s, codes = _rhythm(rng, patient, duration_s)
    ecg_mv = _signal(rng, patient, r_s, codes, num_samples) + _noise(rng, patient, num_samples)
    r_idx = np.rint(r_s * FS_HZ).astype(np.int64)
    inside = (r_idx >= 0) & (r_idx < num_samples)
    return Record(
        name,
        ecg_mv.astype(np.float32),
        FS_HZ,
        LEAD,
        r_idx[inside],
        tuple(codes[inside].tolist()),
        SOURCE,
    )


def _draw_patient(rng: np.random.Generator, kind: tuple[float, float, bool]) -> _Patient:
    """Rate, variability, ectopy, wave shapes and noise of one patient."""
    s_burden, v_burden, broad = kind
    mean_rr_s = 60.0 / rng.uniform(55.0, 95.0)
    return _Patient(
        mean_rr_s=mean_rr_s,
        lf_sd_s=mean_rr_s * rng.uniform(0.01, 0.035),
        hf_sd_s=mean_rr_s * rng.uniform(0.01, 0.045),
        respiration_hz=rng.uniform(0.18, 0.32),
        s_burden=s_burden * rng.uniform(0.7, 1.4),
        v_burden=v_burden * rng.uniform(0.7, 1.4),
        conducted="L" if broad else "N",
        waves=_draw_waves(rng, broad),
        wander_mv=rng.uniform(0.03, 0.15),
        noise_mv=rng.uniform(0.005, 0.025),
    )


def _draw_waves(rng: np.random.Generator, broad: bool) -> dict[str, np.ndarray]:
    """(3, 5) event parameters of conducted, supraventricular and ventricular beats."""
    theta = _THETA_RAD * rng.uniform(0.9, 1.1, 5)
    width = _WIDTH_RAD * rng.uniform(0.85, 1.15, 5)
    amplitude = _AMPLITUDE * rng.uniform(0.8, 1.6) * rng.lognormal(0.0, 0.2, 5)
    if broad:
        width[_Q : _S + 1] *= rng.uniform(1.3, 1.5)
        theta[_Q : _S + 1] *= 1.3
        amplitude[_T] *= -rng.uniform(0.5, 1.0)
    conducted = np.stack([theta, width, amplitude])
    r_mv = amplitude[_R]

    early = conducted.copy()  # another atrial focus: P small or inverted, PR shorter, QRS the same
    early[0, _P] *= rng.uniform(0.65, 0.85)
    early[2, _P] *= rng.uniform(-0.8, 0.25)

    ventricular = conducted.copy()  # no P, wide QRS, T against the QRS
    ventricular[1, _R] *= rng.uniform(1.3, 1.6) if broad else rng.uniform(1.6, 2.0)
    ventricular[:, _S] = (0.7, 0.25, -r_mv * rng.uniform(0.1, 0.5))
    ventricular[0, _T] = rng.uniform(1.7, 2.1)
    ventricular[2, [_P, _Q]] = 0.0
    ventricular[2, _R] = r_mv * rng.uniform(1.3, 1.9)
    ventricular[2, _T] = -r_mv * rng.uniform(0.3, 0.6)
    return {"N": conducted, "L": conducted, "A": early, "V": ventricular}


def _rhythm(
    rng: np.random.Generator, patient: _Patient, duration_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) R times in seconds and (B,) beat codes, a little past both ends of the recording.

    An S beat resets the sinus node: the pause after it is about one cycle.  A V beat does not:
    the cycle before it and the pause after it add up to two cycles.
    """
    shortest_mean_s = 0.5 * patient.mean_rr_s  # were every beat premature
    num_beats = int(duration_s / shortest_mean_s) + 8
    rr_s = _tachogram(rng, patient, num_beats)
    codes = _beat_codes(rng, patient, num_beats)
    early = np.where(codes == "V", rng.uniform(0.5, 0.75, num_beats), 1.0)
    early = np.where(codes == "A", rng.uniform(0.55, 0.8, num_beats), early)
    early = np.maximum(early, np.minimum(REFRACTORY_S / rr_s, 1.0))
    after = np.roll(codes, 1)
    pause = np.where(after == "V", 2.0 - np.roll(early, 1), 1.0)
    pause = np.where(after == "A", rng.uniform(1.0, 1.15, num_beats), pause)
    conducted = codes == patient.conducted
    interval_s = rr_s * np.where(conducted, pause, early)
    r_s = np.cumsum(interval_s) - interval_s[0] - rng.uniform(0.0, patient.mean_rr_s)
    kept = r_s < duration_s + patient.mean_rr_s
    return r_s[kept], codes[kept]


def _tachogram(rng: np.random.Generator, patient: _Patient, num_beats: int) -> np.ndarray:
    """(B,) RR intervals in seconds: Gaussian LF (0.1 Hz) and respiratory HF peaks, random phases."""
    cycles_hz = np.fft.rfftfreq(num_beats, d=patient.mean_rr_s)
    deviation = np.zeros(num_beats)
    for centre_hz, width_hz, sd_s in (
        (0.1, 0.02, patient.lf_sd_s),
        (patient.respiration_hz, 0.02, patient.hf_sd_s),
    ):
        power = np.exp(-0.5 * ((cycles_hz - centre_hz) / width_hz) ** 2)
        phases = np.exp(2j * np.pi * rng.uniform(size=cycles_hz.size))
        series = np.fft.irfft(np.sqrt(power) * phases, n=num_beats)
        deviation += sd_s * series / max(float(series.std()), 1e-12)
    return np.clip(patient.mean_rr_s + deviation, 0.4, 2.0)


def _beat_codes(rng: np.random.Generator, patient: _Patient, num_beats: int) -> np.ndarray:
    """(B,) beat codes: ectopy comes in spells, as single beats but for a tenth of V that pair up."""
    spell = np.repeat(rng.uniform(0.2, 1.8, num_beats // 200 + 1), 200)[:num_beats]
    chance = rng.uniform(size=num_beats)
    ventricular = chance < patient.v_burden * spell
    early = ~ventricular & (chance < (patient.v_burden + patient.s_burden) * spell)
    ectopic = ventricular | early
    couplet = np.roll(ventricular, 1) & (rng.uniform(size=num_beats) < 0.1)
    follows = np.roll(ectopic, 1) & ~couplet
    codes = np.full(num_beats, patient.conducted, dtype="<U1")
    codes[early & ~follows] = "A"
    codes[(ventricular & ~follows) | couplet] = "V"
    codes[:2] = patient.conducted
    return codes


def _signal(
    rng: np.random.Generator,
    patient: _Patient,
    r_s: np.ndarray,
    codes: np.ndarray,
    num_samples: int,
) -> np.ndarray:
    """(T,) millivolts: the events of every beat drive z, which relaxes to the breathing baseline."""
    theta, width, amplitude = np.stack([patient.waves[code] for code in codes], axis=1)  # (B, 5)
    amplitude = amplitude * rng.normal(1.0, 0.04, (len(codes), 1))
    preceding_s = np.diff(r_s, prepend=r_s[0] - patient.mean_rr_s)
    cycle_s = np.where(_FOLLOWS_RATE, np.sqrt(preceding_s)[:, None], 1.0)
    omega = 2.0 * np.pi / cycle_s  # (B, 5) rad/s

    drive = np.zeros(num_samples)
    for event in range(5):
        _add_event(drive, r_s, *(p[:, event] for p in (theta, width, amplitude, omega)))
    time_s = np.arange(num_samples) / FS_HZ
    drive += 0.15 * np.sin(2.0 * np.pi * patient.respiration_hz * time_s)  # z0(t) of the paper, mV
    return np.asarray(lfilter([1.0 / FS_HZ], [1.0, -np.exp(-1.0 / FS_HZ)], drive))


def _add_event(
    drive: np.ndarray,
    r_s: np.ndarray,
    theta: np.ndarray,
    width: np.ndarray,
    amplitude: np.ndarray,
    omega: np.ndarray,
) -> None:
    """Add one event of all beats, each (B,), to the right-hand side of dz/dt, in mV/s."""
    centre_s = r_s + theta / omega
    half = int(np.ceil(4.5 * float((width / omega).max()) * FS_HZ))
    centre_idx = np.rint(centre_s * FS_HZ).astype(np.int64)
    at = centre_idx[:, None] + np.arange(-half, half + 1)  # (B, 2 half + 1)
    dtheta = omega[:, None] * (at / FS_HZ - centre_s[:, None])
    b2 = np.square(width)[:, None]
    slope = -(amplitude * omega)[:, None] * dtheta / b2 * np.exp(-0.5 * dtheta**2 / b2)
    inside = (at >= 0) & (at < len(drive))
    drive += np.bincount(at[inside], weights=slope[inside], minlength=len(drive))


def _noise(rng: np.random.Generator, patient: _Patient, num_samples: int) -> np.ndarray:
    """(T,) millivolts of baseline wander (below about 0.3 Hz), mains hum (60 Hz) and muscle noise."""
    pole = np.exp(-2.0 * np.pi * 0.3 / FS_HZ)
    wander = lfilter([1.0 - pole], [1.0, -pole], rng.standard_normal(num_samples))
    wander *= patient.wander_mv / max(float(wander.std()), 1e-12)
    hum = 0.005 * np.sin(2.0 * np.pi * 60.0 * np.arange(num_samples) / FS_HZ)
    return np.asarray(wander + hum + patient.noise_mv * rng.standard_normal(num_samples))
