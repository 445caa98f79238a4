"""One patient's ECG with its reference beats, read from WFDB files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import ContractError, SignalError

DATABASE = "mitdb"
REMEDY = "run `make data` to fetch it again, or point PULSERING_DATA at a complete copy"

# The inter-patient split of de Chazal et al., IEEE TBME 51(7):1196-1206, 2004.
DS1: tuple[str, ...] = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122",
    "124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
DS2: tuple[str, ...] = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210",
    "212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip
PACED: tuple[str, ...] = ("102", "104", "107", "217")

# The beat codes that MIT-BIH uses; rhythm changes, noise marks and flutter waves are not beats.
BEAT_SYMBOLS = frozenset("NLRejAaJSVEF/fQ")

# What wfdb raises on header, signal or annotation bytes that are not what they should be.
WFDB_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)
_END_OF_ANNOTATIONS = b"\0\0"


def _no_intervals() -> np.ndarray:
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class Record:
    """One lead of one patient with reference R peaks.

    Attributes
    ----------
    name : str
        Record or patient name, such as ``"114"`` or ``"syn01"``.
    ecg_mv : np.ndarray
        (T,) float32, millivolts.
    fs_hz : float
        Sampling rate of `ecg_mv` and of the positions in `r_idx`.
    lead : str
        Lead name as the source spells it, such as ``"MLII"``.
    r_idx : np.ndarray
        (B,) int64, increasing sample positions in [0, T) of the reference R peaks.
    symbols : tuple of str
        (B,) WFDB beat codes; annotations that are not beats are left out.
    source : str
        ``"mitdb"`` or ``"synthetic"``.
    flutter_idx : np.ndarray
        (K, 2) int64, first and last sample of each stretch of ventricular flutter or fibrillation
        (WFDB codes ``[`` and ``]``), in which EC57 counts no beats; only record 207 of MIT-BIH has
        any.
    """

    name: str
    ecg_mv: np.ndarray
    fs_hz: float
    lead: str
    r_idx: np.ndarray
    symbols: tuple[str, ...]
    source: str
    flutter_idx: np.ndarray = field(default_factory=_no_intervals)

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return len(self.ecg_mv) / self.fs_hz


def read_record(data_root: Path, name: str, lead: str = "MLII") -> Record:
    """Read one MIT-BIH record.

    Parameters
    ----------
    data_root : Path
        Directory that holds ``mitdb/``.
    name : str
        Record name, such as ``"100"``.
    lead : str
        Lead, chosen by its name in the header: record 114 has MLII as its second signal.

    Raises
    ------
    SignalError
        If a file is missing or truncated, or the record does not have the lead.
    ContractError
        If the annotations are not a whole WFDB annotation file of this signal.
    """
    if not name.isalnum():
        raise SignalError(f"{name!r} is not a record name of {DATABASE}", record=name)
    base = data_root / DATABASE / name
    for extension in (".hea", ".dat", ".atr"):
        if not base.with_suffix(extension).is_file():
            raise SignalError(f"{base.with_suffix(extension)} is missing: {REMEDY}", path=str(base))
    ecg_mv, fs_hz = _read_signal(base, lead)
    r_idx, symbols, flutter_idx = _read_beats(base.with_suffix(".atr"), num_samples=len(ecg_mv))
    return Record(name, ecg_mv, fs_hz, lead, r_idx, symbols, DATABASE, flutter_idx)


def _read_signal(base: Path, lead: str) -> tuple[np.ndarray, float]:
    """(T,) float32 millivolts of one lead, and its sampling rate."""
    import wfdb  # pandas comes with it: 0.7 s that only readers of real records pay

    header_path = base.with_suffix(".hea")
    try:
        header = wfdb.rdheader(str(base))
        leads, fs_hz = list(header.sig_name), float(header.fs)
    except WFDB_FAULTS as fault:
        raise SignalError(f"{header_path} is not a WFDB header: {REMEDY}") from fault
    if lead not in leads:
        raise SignalError(f"{header_path} has no lead {lead}, only {', '.join(leads)}", leads=leads)
    try:
        read = wfdb.rdrecord(str(base), channels=[leads.index(lead)], physical=False)
        # wfdb fills a whole signal from a .dat of one sample; the header's 16-bit sum tells.
        whole = (read.calc_checksum()[0] - read.checksum[0]) % 2**16 == 0
        ecg_mv = np.ascontiguousarray(read.dac()[:, 0], dtype=np.float32)
    except WFDB_FAULTS as fault:
        raise SignalError(
            f"{base.with_suffix('.dat')} is truncated or damaged: {REMEDY}"
        ) from fault
    if not whole:
        raise SignalError(f"{base.with_suffix('.dat')} is truncated or damaged: {REMEDY}")
    if read.units != ["mV"] or not fs_hz > 0:
        raise SignalError(
            f"{header_path} gives lead {lead} in {read.units} at {fs_hz} Hz, not in mV"
        )
    if not len(ecg_mv) or not np.isfinite(ecg_mv).all():
        raise SignalError(f"{base.with_suffix('.dat')} lacks samples of lead {lead}: {REMEDY}")
    return ecg_mv, fs_hz


def _read_beats(path: Path, num_samples: int) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """(B,) int64 R peaks, their beat codes and (K, 2) flutter stretches of an annotation file."""
    import wfdb

    try:
        whole = path.read_bytes().endswith(_END_OF_ANNOTATIONS)
        read = wfdb.rdann(str(path.with_suffix("")), path.suffix.removeprefix("."))
        sample_idx = np.asarray(read.sample, dtype=np.int64)
        is_beat = np.fromiter((code in BEAT_SYMBOLS for code in read.symbol), dtype=bool)
        r_idx = sample_idx[is_beat]
    except WFDB_FAULTS as fault:
        raise ContractError(f"{path} is not a WFDB annotation file: {REMEDY}") from fault
    ordered = bool((np.diff(r_idx) > 0).all())
    inside = r_idx.size > 0 and r_idx[0] >= 0 and r_idx[-1] < num_samples
    if not (whole and ordered and inside):
        raise ContractError(f"{path} is truncated or belongs to another signal: {REMEDY}")
    symbols = tuple(code for code in read.symbol if code in BEAT_SYMBOLS)
    return r_idx, symbols, _flutter(sample_idx, read.symbol, num_samples)


def _flutter(sample_idx: np.ndarray, codes: Sequence[str], num_samples: int) -> np.ndarray:
    """(K, 2) int64 stretches from each ``[`` to the next ``]``, or to the end of the signal."""
    stretches: list[tuple[int, int]] = []
    start: int | None = None
    for at, code in zip(sample_idx.tolist(), codes, strict=True):
        if code == "[" and start is None:
            start = at
        elif code == "]" and start is not None:
            stretches.append((start, at))
            start = None
    if start is not None:
        stretches.append((start, num_samples - 1))
    return np.array(stretches, dtype=np.int64).reshape(-1, 2)
