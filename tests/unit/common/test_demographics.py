from __future__ import annotations

from pathlib import Path

import pytest

from common.ecg.demographics import Demographics, read_demographics
from common.ecg.records import DS1, DS2
from common.errors import ContractError, SignalError
from tests.real_data import mitdb_root

SIGNAL = "114 1 360 650000\n114.dat 212 200 11 1024 995 -22131 0 MLII\n"


def write_header(root: Path, text: str) -> None:
    (root / "mitdb").mkdir(exist_ok=True)
    (root / "mitdb" / "114.hea").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("comment", "person"),
    [
        ("# 69 M 1085 1629 x1", Demographics(69, "M")),
        ("# 24 F 1581 654 x1", Demographics(24, "F")),
        ("# -1 M 742 654 x1", Demographics(None, "M")),
        ("# 23 ? 2546 N/A x1", Demographics(23, None)),
        ("#101 F", Demographics(101, "F")),
    ],
)
def test_reads_age_and_sex_and_knows_what_is_unknown(
    tmp_path: Path, comment: str, person: Demographics
) -> None:
    write_header(tmp_path, f"{SIGNAL}{comment}\n# Aldomet, Inderal\n")
    assert read_demographics(tmp_path, "114") == person


@pytest.mark.parametrize(
    "comments", ["", "# Digoxin\n", "# 69 X 1085\n", "# 1085 M\n", "# -7 M 1\n"]
)
def test_says_when_no_comment_tells_who_it_was(tmp_path: Path, comments: str) -> None:
    write_header(tmp_path, SIGNAL + comments)
    with pytest.raises(ContractError, match=r"114\.hea does not give age and sex"):
        read_demographics(tmp_path, "114")


def test_names_a_missing_header_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match=r"114\.hea is missing: run `make data`"):
        read_demographics(tmp_path, "114")


@pytest.mark.parametrize("text", ["", "\n", "# 69 M\n", "114 x y\n"])
def test_names_a_header_that_is_none(tmp_path: Path, text: str) -> None:
    write_header(tmp_path, text)
    with pytest.raises((SignalError, ContractError), match=r"114\.hea"):
        read_demographics(tmp_path, "114")


@pytest.mark.parametrize("name", ["", "../114", "/etc/passwd", "114.hea"])
def test_refuses_names_that_are_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(SignalError, match="not a record name"):
        read_demographics(tmp_path, name)


def test_knows_everybody_of_mitbih() -> None:
    root = mitdb_root()
    people = {name: read_demographics(root, name) for name in DS1 + DS2}
    assert people["232"] == Demographics(76, "F")
    assert people["201"] == people["202"] == Demographics(68, "M")
    assert [name for name, who in people.items() if who.age_years is None] == ["103", "219"]
    assert all(who.sex for who in people.values())
    assert sum(people[name].sex == "F" for name in DS2) == 11
