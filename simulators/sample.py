"""A strip of ECG as the body of a request to the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.ecg.records import DATABASE, Record, read_record
from common.ecg.sources import has_mitdb, open_source
from common.errors import ConfigError

DEFAULT_RECORD = "100"


def sample(root: Path, seconds: float, record: str | None = None, start_s: float = 0.0) -> Record:
    """Cut a strip from a test record: MIT-BIH's if `root` holds it, else a synthetic one.

    Parameters
    ----------
    seconds : float
        Length, above 0.
    record : str, optional
        MIT-BIH record, such as ``"100"``, or synthetic patient, such as ``"syn23"``.
    start_s : float
        Where in the record the strip begins.

    Raises
    ------
    ConfigError
        When the record is too short for the strip.
    SignalError
        When there is no such record.
    """
    whole = _record(root, record)
    start, stop = round(start_s * whole.fs_hz), round((start_s + seconds) * whole.fs_hz)
    if stop > len(whole.ecg_mv) or stop <= start:
        raise ConfigError(
            f"record {whole.name} lasts {whole.duration_s:.0f} s: no strip of {seconds:g} s at "
            f"{start_s:g} s"
        )
    inside = (whole.r_idx >= start) & (whole.r_idx < stop)
    return Record(
        name=whole.name,
        ecg_mv=whole.ecg_mv[start:stop],
        fs_hz=whole.fs_hz,
        lead=whole.lead,
        r_idx=whole.r_idx[inside] - start,
        symbols=tuple(s for s, kept in zip(whole.symbols, inside, strict=True) if kept),
        source=whole.source,
    )


def request_body(strip: Record) -> dict[str, Any]:
    """What ``POST /v1/ecg/analyze`` takes: millivolts to the microvolt, rate and lead."""
    fs_hz = int(strip.fs_hz) if strip.fs_hz.is_integer() else strip.fs_hz
    return {
        "ecg_mv": [round(float(value), 3) for value in strip.ecg_mv],
        "fs_hz": fs_hz,
        "lead": strip.lead,
    }


def _record(root: Path, record: str | None) -> Record:
    if record and not record.startswith("syn"):
        if not (root / DATABASE / f"{record}.hea").is_file():
            raise ConfigError(f"--record {record}: not under {root / DATABASE}; `make data`?")
        return read_record(root, record)
    source = open_source(root)
    if record is None and has_mitdb(root):
        return source.read(DEFAULT_RECORD)
    from common.ecg.synthetic import synthesize

    return synthesize(record or source.test_names[0])
