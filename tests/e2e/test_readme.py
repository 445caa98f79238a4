"""README's "same region by hand" is run as it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.notice import NOTICE
from tests.real_data import mitdb_root

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TIMEOUT_S = 420


def by_hand() -> str:
    """The lines marked ``by-hand``, as one script."""
    return "\n".join(re.findall(r"```bash by-hand\n(.*?)```", README, flags=re.DOTALL))


def test_readme_carries_the_notice() -> None:
    assert NOTICE in README.replace("**", "")


def test_readme_shows_both_commands_and_its_pictures() -> None:
    assert "make demo" in README
    assert "make test" in README
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).stat().st_size > 10_000


@pytest.mark.slow
def test_region_by_hand_ends_with_an_analysed_strip(tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PULSERING_DATA": str(mitdb_root()),
        "OMP_NUM_THREADS": "1",
    }
    out, log = tmp_path / "stdout", tmp_path / "stderr"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        script = subprocess.Popen(
            ["bash", "-ec", by_hand()],
            cwd=tmp_path,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        code = script.wait(TIMEOUT_S)
    finally:
        os.killpg(script.pid, signal.SIGTERM)
    assert code == 0, log.read_text()[-3000:]
    answer = json.loads(out.read_text()[out.read_text().rindex('{"notice"') :])
    assert "day 1: released county-d0001-" in out.read_text()
    assert answer["release"]["name"].startswith("county-d0001-")
    assert 30 <= len(answer["beats"]) <= 45
    assert answer["notice"] == NOTICE
