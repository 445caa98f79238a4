"""Every cell of the table in docs/algorithms.md, against what starts and what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import ConfigError
from regional.config import RegionConfig

DOCUMENT = Path(__file__).parents[3] / "docs" / "algorithms.md"
SETTING = re.compile(r"\| ([^|]+) \| `([a-z_.]+=[a-z0-9_.]+)` \|")
UNBUILT = ("privacy", "masks")
REGION = """
region = "county"
broker = "mqtt://127.0.0.1:1883"
state_dir = "state"
mailbox = "mailbox"
hospitals.north.key = "north.pub"
hospitals.south.key = "south.pub"
"""


def settings() -> dict[str, str]:
    """Configuration of each name in the table; those not built have none."""
    return dict(SETTING.findall(DOCUMENT.read_text()))


def cells() -> dict[tuple[str, str], str]:
    """The table: (row, column) to what stands there."""
    lines = DOCUMENT.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| | "))
    columns = _split(lines[first])[1:]
    found: dict[tuple[str, str], str] = {}
    for line in lines[first + 2 :]:
        if not line.startswith("| **"):
            break
        name, *row = _split(line)
        assert len(row) == len(columns), line
        found |= {(name, column): cell for column, cell in zip(columns, row, strict=True)}
    return found


def _split(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


NAMES = sorted({row for row, _ in cells()})
PAIRS = [(a, b) for a in NAMES for b in NAMES if a <= b]


def test_the_table_is_whole_and_symmetric() -> None:
    found = cells()
    assert set(found) == {(a, b) for a in NAMES for b in NAMES}
    assert set(NAMES) == set(settings()) | set(UNBUILT)
    assert set(found.values()) == {"yes", "no", "–", "later", "never"}
    assert all(found[a, b] == found[b, a] for a, b in PAIRS)


@pytest.mark.parametrize(("row", "column"), PAIRS, ids=lambda name: name.replace(" ", "-"))
def test_a_pair_starts_or_names_both_keys(row: str, column: str, tmp_path: Path) -> None:
    toml = tmp_path / "region.toml"
    toml.write_text(REGION)
    known, told = settings(), cells()[row, column]
    if row in UNBUILT or column in UNBUILT:
        assert told in ("later", "never", "–")
        return
    pair = [known[row], known[column]]
    keys = [setting.partition("=")[0] for setting in pair]
    if told == "yes":
        RegionConfig.load(toml, pair)
    elif told == "no":
        with pytest.raises(ConfigError) as fault:
            RegionConfig.load(toml, pair)
        assert all(key.rpartition(".")[2] in fault.value.message for key in keys)
        for alone in pair:
            RegionConfig.load(toml, [alone])
    else:
        assert keys[0] == keys[1]


@pytest.mark.parametrize("name", UNBUILT)
def test_what_is_not_built_cannot_be_asked_for(name: str, tmp_path: Path) -> None:
    toml = tmp_path / "region.toml"
    toml.write_text(REGION)
    with pytest.raises(ConfigError, match=name):
        RegionConfig.load(toml, [f"{name}.enabled=true"])
