"""One process for one state directory."""

import os
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.lock import hold


def test_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    handle = hold(tmp_path / "state", "edge node")
    with pytest.raises(ConfigError, match="another edge node"):
        hold(tmp_path / "state", "edge node")
    os.close(handle)
    os.close(hold(tmp_path / "state", "edge node"))


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/state cannot be used"):
        hold(tmp_path / "file" / "state", "edge node")
