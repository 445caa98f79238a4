"""One process for one state directory."""

import fcntl
import os
from pathlib import Path
from threading import Timer

import pytest

from common.errors import ConfigError
from common.lock import hold, is_held


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


def test_is_held_while_somebody_holds_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "nothing")
    assert not is_held(tmp_path)
    handle = hold(tmp_path, "edge node")
    assert is_held(tmp_path)
    os.close(handle)
    assert not is_held(tmp_path)


def test_a_look_keeps_nobody_from_holding(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    look = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    Timer(0.1, os.close, [look]).start()
    os.close(hold(tmp_path, "edge node"))
