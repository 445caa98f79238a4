from __future__ import annotations

import numpy as np
import pytest
from sleepecg.heartbeats import detect_heartbeats

from common.ecg.records import BEAT_SYMBOLS, Record
from common.ecg.sources import SYNTHETIC_TEST, SYNTHETIC_TRAIN
from common.ecg.synthetic import synthesize
from common.errors import SignalError

TOLERANCE_S = 0.05


@pytest.fixture(scope="module")
def patients() -> dict[str, Record]:
    return {name: synthesize(name, seed=0, duration_s=300.0) for name in SYNTHETIC_TRAIN}


def beats(record: Record, code: str) -> np.ndarray:
    """Positions in `r_idx` of the beats of one code that are not at the edges."""
    at = np.flatnonzero(np.array(record.symbols) == code)
    return at[(at > 2) & (at < len(record.symbols) - 3)]


def fraction(record: Record, code: str) -> float:
    return record.symbols.count(code) / len(record.symbols)


def num_found(record: Record) -> int:
    """Reference R peaks that sleepecg finds within the tolerance."""
    found_idx = detect_heartbeats(record.ecg_mv.astype(float), record.fs_hz)
    nearest = np.abs(record.r_idx[:, None] - found_idx[None, :]).min(axis=1)
    return int((nearest <= TOLERANCE_S * record.fs_hz).sum())


def qrs_width_s(record: Record, code: str) -> float:
    """Time within 150 ms of R that holds the middle 80 % of the squared slope of the mean beat."""
    half = round(0.15 * record.fs_hz)
    r_idx = record.r_idx[beats(record, code)]
    template_mv = np.mean([record.ecg_mv[i - half : i + half] for i in r_idx], axis=0)
    share = np.cumsum(np.diff(template_mv) ** 2)
    share /= share[-1]
    return float((np.searchsorted(share, 0.9) - np.searchsorted(share, 0.1)) / record.fs_hz)


def test_same_name_and_seed_give_the_same_samples() -> None:
    first, second = (synthesize("syn03", seed=5, duration_s=60.0) for _ in range(2))

    np.testing.assert_array_equal(first.ecg_mv, second.ecg_mv)
    np.testing.assert_array_equal(first.r_idx, second.r_idx)
    assert first.symbols == second.symbols


@pytest.mark.parametrize(("name", "seed"), [("syn04", 5), ("syn03", 6)])
def test_another_name_or_seed_gives_another_patient(name: str, seed: int) -> None:
    reference = synthesize("syn03", seed=5, duration_s=60.0)

    assert not np.array_equal(reference.ecg_mv, synthesize(name, seed, 60.0).ecg_mv)


def test_a_record_says_what_it_is() -> None:
    record = synthesize("syn01", duration_s=60.0)

    assert (record.source, record.lead, record.fs_hz) == ("synthetic", "MLII", 360.0)
    assert record.ecg_mv.dtype == np.float32
    assert record.ecg_mv.shape == (21_600,)
    assert record.r_idx.dtype == np.int64
    assert len(record.symbols) == len(record.r_idx)
    assert set(record.symbols) <= BEAT_SYMBOLS


def test_r_peaks_are_found_by_an_independent_detector(patients: dict[str, Record]) -> None:
    num_beats = sum(len(record.r_idx) for record in patients.values())

    assert sum(map(num_found, patients.values())) >= 0.99 * num_beats


def test_amplitudes_are_those_of_an_ecg(patients: dict[str, Record]) -> None:
    for record in patients.values():
        assert np.isfinite(record.ecg_mv).all()
        assert 0.8 < np.ptp(record.ecg_mv) < 8.0
        assert np.abs(record.ecg_mv).max() < 5.0


def test_beats_keep_order_and_stay_inside(patients: dict[str, Record]) -> None:
    for record in patients.values():
        assert np.diff(record.r_idx).min() >= round(0.35 * record.fs_hz)
        assert record.r_idx[0] >= 0
        assert record.r_idx[-1] < len(record.ecg_mv)


@pytest.mark.parametrize("code", ["A", "V"])
def test_ectopic_beats_come_early(patients: dict[str, Record], code: str) -> None:
    for record in patients.values():
        rr_s = np.diff(record.r_idx) / record.fs_hz
        early = rr_s[beats(record, code) - 1]
        if early.size:
            assert early.max() < 0.9 * np.median(rr_s)


def test_the_pause_after_v_is_compensatory_and_after_s_is_not() -> None:
    record = synthesize("syn06", seed=0)
    rr_s = np.diff(record.r_idx) / record.fs_hz
    around = {}
    for code in "AV":
        at = np.array([i for i in beats(record, code) if record.symbols[i + 1] == "N"])
        around[code] = np.median(rr_s[at - 1] + rr_s[at]) / np.median(rr_s[rr_s > 0.5])

    assert around["V"] == pytest.approx(2.0, abs=0.1)
    assert around["A"] < 1.9


@pytest.mark.parametrize("name", ["syn06", "syn08", "syn17", "syn19"])
def test_v_is_wide_and_s_is_not(name: str) -> None:
    record = synthesize(name, seed=0)

    width_s = {code: qrs_width_s(record, code) for code in "NAV"}

    assert width_s["V"] > 1.3 * width_s["N"]
    assert width_s["A"] == pytest.approx(width_s["N"], rel=0.15)


@pytest.mark.parametrize("names", [SYNTHETIC_TRAIN, SYNTHETIC_TEST], ids=["train", "test"])
def test_either_split_mixes_quiet_dense_and_broad_patients(names: tuple[str, ...]) -> None:
    records = [synthesize(name, duration_s=600.0) for name in names]

    assert sum(set(r.symbols) <= {"N", "L"} for r in records) >= 2
    assert sum(fraction(r, "V") > 0.08 for r in records) >= 2
    assert sum(fraction(r, "A") > 0.02 for r in records) >= 2
    assert sum("L" in r.symbols for r in records) >= 2


@pytest.mark.parametrize("name", ["", "100", "syn", "syn-1", "syn1e3", "syn٣", "../syn01"])
def test_refuses_other_names(name: str) -> None:
    with pytest.raises(SignalError, match="not a synthetic patient"):
        synthesize(name)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 4.9, 86_401.0, float("nan"), float("inf")])
def test_refuses_absurd_durations(duration_s: float) -> None:
    with pytest.raises(SignalError, match="lasts 5 to 86400 s"):
        synthesize("syn01", duration_s=duration_s)


def test_refuses_a_negative_seed() -> None:
    with pytest.raises(SignalError, match="seed"):
        synthesize("syn01", seed=-1)
