from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError
from regional.config import RegionConfig
from regional.first_start import open_store, start
from regional.ledger import Ledger
from regional.progress import Stored


def make_config(folder: Path, **changes: Any) -> RegionConfig:
    values = {
        "region": "county",
        "broker": "mqtt://127.0.0.1:1",
        "state_dir": folder / "region",
        "mailbox": str(folder / "mailbox"),
        "hospitals": {"east": {"key": "east"}},
        "task": "dummy",
    }
    return RegionConfig.model_validate({**values, **changes})


def test_the_first_start_puts_the_initial_model_and_later_ones_keep_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    store, ledger = open_store(config), Ledger(config.ledger_path)
    first = start(config, ledger, store, now=1.0)
    assert first.model.made_by_round == 0
    assert set(store.model(first.model)) == {"weight", "bias"}
    assert set(first.exponents) == {"weight", "bias"}
    second = start(config, ledger, store, now=2.0)
    assert (second.num_starts, second.model) == (2, first.model)


def test_the_same_seed_gives_the_same_initial_model(tmp_path: Path) -> None:
    models: list[Stored] = []
    for name in ("a", "b"):
        config = make_config(tmp_path / name)
        models.append(start(config, Ledger(config.ledger_path), open_store(config), now=1.0).model)
    assert models[0] == models[1]


def test_another_task_on_an_old_ledger_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    ledger = Ledger(config.ledger_path)
    start(config, ledger, open_store(config), now=1.0)
    other = make_config(tmp_path, task="beats")
    with pytest.raises(ConfigError, match="'beats'"):
        start(other, ledger, open_store(other), now=2.0)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path, task="sleep")
    with pytest.raises(ConfigError, match="sleep"):
        start(config, Ledger(config.ledger_path), open_store(config), now=1.0)


def test_a_new_ledger_beside_an_old_mailbox_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    open_store(config).put_model({}, "dummy", made_by_round=3)
    with pytest.raises(ConfigError, match="ledger"):
        start(config, Ledger(config.ledger_path), open_store(config), now=1.0)


def test_a_mailbox_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = make_config(tmp_path, mailbox=str(tmp_path / "file" / "mailbox"))
    with pytest.raises(ConfigError, match=r"mailbox .* cannot be used"):
        start(config, Ledger(config.ledger_path), open_store(config), now=1.0)
