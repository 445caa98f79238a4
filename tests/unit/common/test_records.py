from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from common.ecg.records import DS1, DS2, PACED, read_record
from common.errors import ContractError, SignalError
from tests.real_data import mitdb_root

FS_HZ = 360
NUM_SAMPLES = 3600
BEATS = (400, 760, 1100, 1900)


def write_record(
    root: Path,
    name: str = "114",
    leads: tuple[str, ...] = ("V5", "MLII"),
    units: str = "mV",
    codes: tuple[str, ...] = ("N", "A", "V", "N"),
    sample_idx: tuple[int, ...] = BEATS,
) -> np.ndarray:
    """A WFDB record of ten seconds; returns its (T, L) millivolts."""
    folder = root / "mitdb"
    folder.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(NUM_SAMPLES) / FS_HZ
    ecg_mv = np.stack([(i + 1) * np.sin(2 * np.pi * time_s) for i in range(len(leads))], axis=1)
    wfdb.wrsamp(
        name,
        fs=FS_HZ,
        units=[units] * len(leads),
        sig_name=list(leads),
        p_signal=ecg_mv,
        fmt=["212"] * len(leads),
        write_dir=str(folder),
    )
    wfdb.wrann(name, "atr", np.array(sample_idx), list(codes), write_dir=str(folder))
    return ecg_mv


def keep_bytes(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:num_bytes])


def test_reads_the_named_lead_wherever_it_stands(tmp_path: Path) -> None:
    written_mv = write_record(tmp_path, leads=("V5", "MLII"))

    record = read_record(tmp_path, "114")

    assert record.ecg_mv.dtype == np.float32
    np.testing.assert_allclose(record.ecg_mv, written_mv[:, 1], atol=2e-3)
    assert (record.fs_hz, record.lead, record.source) == (360.0, "MLII", "mitdb")
    assert record.duration_s == pytest.approx(10.0)


def test_keeps_beats_and_leaves_out_rhythm_and_noise_marks(tmp_path: Path) -> None:
    write_record(tmp_path, codes=("+", "N", "~", "V", "|"), sample_idx=(10, 400, 500, 760, 900))

    record = read_record(tmp_path, "114")

    assert record.symbols == ("N", "V")
    assert record.r_idx.tolist() == [400, 760]
    assert record.r_idx.dtype == np.int64


def test_has_no_flutter_where_none_is_marked(tmp_path: Path) -> None:
    write_record(tmp_path)

    flutter_idx = read_record(tmp_path, "114").flutter_idx

    assert flutter_idx.shape == (0, 2)
    assert flutter_idx.dtype == np.int64


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("N[!]N", [[500, 900]]),
        ("[]N[N", [[400, 500], [900, NUM_SAMPLES - 1]]),
        ("N]N[]", [[900, 1000]]),
        ("N[[]N", [[500, 900]]),
    ],
)
def test_keeps_stretches_of_ventricular_flutter(
    tmp_path: Path, codes: str, expected: list[list[int]]
) -> None:
    write_record(tmp_path, codes=tuple(codes), sample_idx=(400, 500, 760, 900, 1000))

    assert read_record(tmp_path, "114").flutter_idx.tolist() == expected


def test_names_the_leads_there_are_when_the_lead_is_not(tmp_path: Path) -> None:
    write_record(tmp_path, leads=("V5", "V2"))

    with pytest.raises(SignalError, match="no lead MLII, only V5, V2"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("extension", ["hea", "dat", "atr"])
def test_names_a_missing_file_and_the_remedy(tmp_path: Path, extension: str) -> None:
    write_record(tmp_path)
    (tmp_path / "mitdb" / f"114.{extension}").unlink()

    with pytest.raises(SignalError, match=rf"114\.{extension} is missing: run `make data`"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("num_bytes", [0, 1, 7, 1001, 5000])
def test_refuses_a_truncated_signal(tmp_path: Path, num_bytes: int) -> None:
    write_record(tmp_path)
    keep_bytes(tmp_path / "mitdb" / "114.dat", num_bytes)

    with pytest.raises(SignalError, match=r"114\.dat .*`make data`"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("num_bytes", [0, 1, 4, 7, 8])
def test_refuses_truncated_annotations(tmp_path: Path, num_bytes: int) -> None:
    write_record(tmp_path)
    keep_bytes(tmp_path / "mitdb" / "114.atr", num_bytes)

    with pytest.raises(ContractError, match=r"114\.atr .*`make data`"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("num_bytes", [0, 1, 7])
def test_refuses_a_truncated_header(tmp_path: Path, num_bytes: int) -> None:
    write_record(tmp_path)
    keep_bytes(tmp_path / "mitdb" / "114.hea", num_bytes)

    with pytest.raises(SignalError, match=r"114\.hea is not a WFDB header"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("extension", ["hea", "dat", "atr"])
def test_random_bytes_never_raise_anything_of_wfdb(tmp_path: Path, extension: str) -> None:
    rng = np.random.default_rng(7)
    for size in (3, 100, 3000):
        write_record(tmp_path)
        (tmp_path / "mitdb" / f"114.{extension}").write_bytes(rng.bytes(size))
        with pytest.raises((SignalError, ContractError)):
            read_record(tmp_path, "114")


def test_refuses_beats_beyond_the_end_of_the_signal(tmp_path: Path) -> None:
    write_record(tmp_path, sample_idx=(400, 760, 1100, NUM_SAMPLES))

    with pytest.raises(ContractError, match="belongs to another signal"):
        read_record(tmp_path, "114")


def test_refuses_a_lead_that_is_not_in_millivolts(tmp_path: Path) -> None:
    write_record(tmp_path, units="uV")

    with pytest.raises(SignalError, match="not in mV"):
        read_record(tmp_path, "114")


@pytest.mark.parametrize("name", ["", "../114", "/etc/passwd", "114.dat"])
def test_refuses_names_that_are_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(SignalError, match="not a record name"):
        read_record(tmp_path, name)


def test_splits_are_disjoint_and_hold_no_paced_record() -> None:
    assert len(DS1) == len(DS2) == 22
    assert not set(DS1) & set(DS2)
    assert not set(PACED) & set(DS1 + DS2)


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (DS1, {"N": 45866, "S": 944, "V": 3788, "F": 415, "Q": 8}),
        (DS2, {"N": 44259, "S": 1837, "V": 3221, "F": 388, "Q": 7}),
    ],
    ids=["DS1", "DS2"],
)
def test_beats_of_mitbih_count_as_published(names: tuple[str, ...], counts: dict[str, int]) -> None:
    aami = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    root = mitdb_root()
    symbols = [code for name in names for code in read_record(root, name).symbols]
    assert {label: sum(s in codes for s in symbols) for label, codes in aami.items()} == counts


def test_only_record_207_has_ventricular_flutter() -> None:
    root = mitdb_root()
    num_stretches = {name: len(read_record(root, name).flutter_idx) for name in DS1 + DS2}
    assert {name: num for name, num in num_stretches.items() if num} == {"207": 6}
