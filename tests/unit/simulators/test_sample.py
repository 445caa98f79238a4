from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError, SignalError
from simulators.sample import request_body, sample


def test_strip_is_cut_where_it_was_asked_for(tmp_path: Path) -> None:
    whole = sample(tmp_path, 20, "syn23")
    strip = sample(tmp_path, 10, "syn23", start_s=5)
    assert strip.source == "synthetic"
    np.testing.assert_array_equal(strip.ecg_mv, whole.ecg_mv[5 * 360 : 15 * 360])
    inside = (whole.r_idx >= 1800) & (whole.r_idx < 5400)
    np.testing.assert_array_equal(strip.r_idx, whole.r_idx[inside] - 1800)
    assert len(strip.symbols) == len(strip.r_idx)


def test_without_mitdb_the_default_strip_is_synthetic(tmp_path: Path) -> None:
    body = request_body(sample(tmp_path, 2))
    assert (len(body["ecg_mv"]), body["fs_hz"], body["lead"]) == (720, 360, "MLII")


@pytest.mark.parametrize("record", ["999", "../100"])
def test_names_a_record_that_is_not_there(tmp_path: Path, record: str) -> None:
    with pytest.raises(ConfigError, match="--record"):
        sample(tmp_path, 2, record)


def test_refuses_a_wearer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SignalError):
        sample(tmp_path, 2, "synx")


@pytest.mark.parametrize(("seconds", "start_s"), [(2.0, 1799.0), (2.0, 1e12), (0.0, 0.0)])
def test_refuses_a_strip_outside_the_record(tmp_path: Path, seconds: float, start_s: float) -> None:
    with pytest.raises(ConfigError, match="lasts 1800 s"):
        sample(tmp_path, seconds, "syn23", start_s)
