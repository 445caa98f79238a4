"""An operator's commands on a real ledger, beside the coordinator that has it open."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError
from common.signing import PUBLIC_NAME, Signer, read_public_key
from regional.ledger import Ledger
from regional.progress import Progress, replay
from regional.records import HospitalAdmitted, RankExcluded, Started
from regional.roster import admit, dismiss, readmit, roster_report


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append([Started(count=1)], 1.0)
    ledger.append([HospitalAdmitted(hospital=name) for name in ("east", "north", "west")], 1.0)
    return ledger


@pytest.fixture
def path(tmp_path: Path, ledger: Ledger) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    Signer.at("hill", tmp_path / "hill")
    return tmp_path / "hill" / PUBLIC_NAME


def now(ledger: Ledger) -> Progress:
    return replay(ledger.records())


def test_coordinator_notices_only_what_others_wrote(ledger: Ledger, path: Path, key: Path) -> None:
    assert not ledger.written_by_others()
    ledger.append([Started(count=2)], 2.0)
    assert not ledger.written_by_others()
    admit(path, "hill", key)
    assert ledger.written_by_others()
    assert not ledger.written_by_others()


def test_admitted_hospital_comes_with_its_key(ledger: Ledger, path: Path, key: Path) -> None:
    assert "next round" in admit(path, "hill", key)
    assert now(ledger).hospitals["hill"] == read_public_key(key)
    assert "already" in admit(path, "hill", key)


def test_dismissed_hospital_is_out_until_it_is_admitted(
    ledger: Ledger, path: Path, key: Path
) -> None:
    dismiss(path, "west", "moved", quorum=2)
    assert set(now(ledger).hospitals) == {"east", "north"}
    assert now(ledger).dismissed == {"west": "moved"}
    assert [(r["hospital"], r["state"], r["reason"]) for r in roster_report(now(ledger))] == [
        ("east", "member", ""),
        ("north", "member", ""),
        ("west", "left", "moved"),
    ]
    admit(path, "west", key)
    assert not now(ledger).dismissed


def test_readmitted_hospital_is_excluded_no_more(ledger: Ledger, path: Path) -> None:
    assert readmit(path, "north", "") == "north is not excluded"
    ledger.append(
        [RankExcluded(hospital="north", round_id=1, until_round=9, reason="odd digest")], 2.0
    )
    reported = {row["hospital"]: row for row in roster_report(now(ledger))}
    assert (reported["north"]["state"], reported["north"]["until_round"]) == ("excluded", 9)
    readmit(path, "north", "a new disk")
    assert not now(ledger).excluded


@pytest.mark.parametrize("name", ["", "North", "a b", "x" * 49, "round", "../etc", "nörd"])
def test_names_that_no_topic_could_carry_are_refused(path: Path, key: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        admit(path, name, key)


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\xfe", b"QUJD", b"x" * 100_000])
def test_file_without_a_key_is_refused(path: Path, tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.pub"
    wrong.write_bytes(content)
    with pytest.raises(ConfigError, match=r"wrong\.pub"):
        admit(path, "hill", wrong)


def test_hospital_that_the_quorum_needs_cannot_leave(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rounds\.quorum = 3"):
        dismiss(path, "west", "moved", quorum=3)


def test_unknown_hospital_is_named_with_those_there_are(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wset.*east, north, west"):
        dismiss(path, "wset", "moved", 1)
    with pytest.raises(ConfigError, match=r"wset.*east, north, west"):
        readmit(path, "wset", "mended")


def test_before_the_first_start_there_is_no_ledger_to_write_to(tmp_path: Path, key: Path) -> None:
    with pytest.raises(ConfigError, match="ever started"):
        admit(tmp_path / "none.sqlite", "hill", key)
