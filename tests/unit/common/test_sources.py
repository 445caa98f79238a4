from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from common.ecg.records import DS1, DS2
from common.ecg.sources import data_root, has_mitdb, open_source
from common.errors import SignalError


def place_mitdb(root: Path, without: str = "") -> None:
    """Files with the names of MIT-BIH's 44 non-paced records; their bytes do not matter here."""
    (root / "mitdb").mkdir(parents=True)
    for name in DS1 + DS2:
        for kind in ("dat", "hea", "atr"):
            if f"{name}.{kind}" != without:
                (root / "mitdb" / f"{name}.{kind}").write_bytes(b"x")


@pytest.mark.parametrize(
    ("explicit", "env", "expected"),
    [
        ("/given", {"PULSERING_DATA": "/env", "PULSERING_CACHE": "/cache"}, "/given"),
        (None, {"PULSERING_DATA": "/env", "PULSERING_CACHE": "/cache"}, "/env"),
        (None, {"PULSERING_CACHE": "/cache", "XDG_CACHE_HOME": "/xdg"}, "/cache/data"),
        (None, {"XDG_CACHE_HOME": "/xdg"}, "/xdg/pulsering/data"),
        (None, {"PULSERING_DATA": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/pulsering/data"),
    ],
)
def test_data_root_follows_flag_then_environment_then_cache(
    explicit: str | None, env: dict[str, str], expected: str
) -> None:
    assert data_root(Path(explicit) if explicit else None, env) == Path(expected)


def test_data_root_is_under_the_home_directory_when_nothing_is_set() -> None:
    assert data_root(None, {}) == Path.home() / ".cache" / "pulsering" / "data"


def test_a_complete_mitdb_is_used(tmp_path: Path) -> None:
    place_mitdb(tmp_path)

    source = open_source(tmp_path)

    assert has_mitdb(tmp_path)
    assert (source.kind, source.train_names, source.test_names) == ("mitdb", DS1, DS2)


@pytest.mark.parametrize("without", ["100.dat", "230.atr", "114.hea"])
def test_one_missing_file_means_synthetic_and_says_so(tmp_path: Path, without: str) -> None:
    place_mitdb(tmp_path, without)

    source = open_source(tmp_path)

    assert not has_mitdb(tmp_path)
    assert source.kind == "synthetic"
    assert "1 of 44 MIT-BIH records missing" in source.notice


def test_an_empty_file_does_not_count(tmp_path: Path) -> None:
    place_mitdb(tmp_path)
    (tmp_path / "mitdb" / "100.dat").write_bytes(b"")

    assert not has_mitdb(tmp_path)


@pytest.mark.parametrize("root", ["absent", "a file"])
def test_the_synthetic_notice_claims_nothing_clinical(tmp_path: Path, root: str) -> None:
    (tmp_path / "a file").write_text("")

    notice = open_source(tmp_path / root).notice

    assert "No MIT-BIH under" in notice
    assert "SYNTHETIC" in notice
    assert "no figure from it is clinical" in notice


def test_synthetic_splits_are_disjoint_and_readable(tmp_path: Path) -> None:
    source = open_source(tmp_path, seed=3)

    assert len(source.train_names) == len(source.test_names) == 22
    assert not set(source.train_names) & set(source.test_names)
    record = source.read("syn44")
    assert (record.name, record.source) == ("syn44", "synthetic")


def test_a_source_can_be_sent_to_a_worker_process(tmp_path: Path) -> None:
    source = open_source(tmp_path, seed=3)

    copy = pickle.loads(pickle.dumps(source))

    assert copy.read("syn01").r_idx.tolist() == source.read("syn01").r_idx.tolist()


@pytest.mark.parametrize("name", ["100", "syn45", "syn00", ""])
def test_synthetic_source_refuses_patients_of_neither_split(tmp_path: Path, name: str) -> None:
    with pytest.raises(SignalError, match="not one of syn01 to syn44"):
        open_source(tmp_path).read(name)


@pytest.mark.parametrize("name", ["102", "999", "syn01"])
def test_mitdb_source_refuses_paced_and_unknown_records(tmp_path: Path, name: str) -> None:
    place_mitdb(tmp_path)

    with pytest.raises(SignalError, match="neither in DS1 nor in DS2"):
        open_source(tmp_path).read(name)
