"""Which ECG there is on this machine: MIT-BIH where it is complete, else a synthetic stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from common.ecg.records import DATABASE, DS1, DS2, Record, read_record
from common.errors import SignalError

NUM_SYNTHETIC = 22  # patients a split, as in DS1 and DS2
SYNTHETIC_TRAIN = tuple(f"syn{i:02d}" for i in range(1, NUM_SYNTHETIC + 1))
SYNTHETIC_TEST = tuple(f"syn{i:02d}" for i in range(NUM_SYNTHETIC + 1, 2 * NUM_SYNTHETIC + 1))


@dataclass(frozen=True)
class EcgSource:
    """Patients of one origin in two disjoint splits.

    Attributes
    ----------
    kind : {"mitdb", "synthetic"}
        Where the ECG comes from.
    train_names, test_names : tuple of str
        Patients that wristbands may train on, and patients that only reports may see.
    read : callable
        Name of a patient to its `Record`; can be pickled.  Raises ``SignalError`` for a name of
        neither split and whatever `read_record` raises.
    notice : str
        One sentence for the user that says what the figures stand on.
    """

    kind: Literal["mitdb", "synthetic"]
    train_names: tuple[str, ...]
    test_names: tuple[str, ...]
    read: Callable[[str], Record]
    notice: str


def cache_root(env: Mapping[str, str]) -> Path:
    """The user's cache for PulseRing: ``PULSERING_CACHE``, else ``pulsering`` in the XDG cache."""
    if env.get("PULSERING_CACHE"):
        return Path(env["PULSERING_CACHE"]).expanduser()
    xdg = env.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path("~/.cache").expanduser()) / "pulsering"


def data_root(explicit: Path | None, env: Mapping[str, str]) -> Path:
    """Directory that holds ``mitdb/``: `explicit`, else ``PULSERING_DATA``, else the user's cache.

    The directory need not exist.
    """
    if explicit is not None:
        return explicit.expanduser()
    if env.get("PULSERING_DATA"):
        return Path(env["PULSERING_DATA"]).expanduser()
    return cache_root(env) / "data"


def has_mitdb(root: Path) -> bool:
    """Whether all 44 non-paced records of MIT-BIH are there; checksums are `download`'s affair."""
    return not _absent_records(root)


def open_source(root: Path, seed: int = 0) -> EcgSource:
    """MIT-BIH if `root` holds all of it, else 22 + 22 synthetic patients drawn from `seed`."""
    absent = _absent_records(root)
    if absent:
        return synthetic_source(seed, reason=_absence(root, num_absent=len(absent)))
    return EcgSource(
        kind="mitdb",
        train_names=DS1,
        test_names=DS2,
        read=partial(_read_mitdb, root),
        notice=f"ECG: MIT-BIH Arrhythmia Database 1.0.0 from {root}, expert labels, lead MLII.",
    )


def synthetic_source(seed: int = 0, reason: str = "") -> EcgSource:
    """22 + 22 synthetic patients; `reason` says why they were chosen."""
    return EcgSource(
        kind="synthetic",
        train_names=SYNTHETIC_TRAIN,
        test_names=SYNTHETIC_TEST,
        read=partial(_read_synthetic, seed),
        notice=(
            f"{reason}The ECG here is SYNTHETIC (McSharry's model, seed {seed}): it exercises the "
            "software, and no figure from it is clinical."
        ),
    )


def _absent_records(root: Path) -> tuple[str, ...]:
    folder = root / DATABASE
    return tuple(
        name
        for name in DS1 + DS2
        if not all(_holds_bytes(folder / f"{name}.{kind}") for kind in ("dat", "hea", "atr"))
    )


def _holds_bytes(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


def _absence(root: Path, num_absent: int) -> str:
    num_records = len(DS1 + DS2)
    found = (
        "No MIT-BIH"
        if num_absent == num_records
        else f"{num_absent} of {num_records} MIT-BIH records missing"
    )
    return f"{found} under {root} (`make data` fetches it). "


def _read_mitdb(root: Path, name: str) -> Record:
    if name not in DS1 + DS2:
        raise SignalError(f"{name!r} is neither in DS1 nor in DS2", record=name)
    return read_record(root, name)


def _read_synthetic(seed: int, name: str) -> Record:
    if name not in SYNTHETIC_TRAIN + SYNTHETIC_TEST:
        raise SignalError(f"{name!r} is not one of syn01 to {SYNTHETIC_TEST[-1]}", record=name)
    from common.ecg.synthetic import synthesize  # scipy.signal: 0.5 s that readers of MIT-BIH save

    return synthesize(name, seed)
