from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.messages import Reason
from edge.__main__ import app
from edge.ledger import Ledger

ROOT = Path(__file__).resolve().parents[3]
PARENT_MODULES = "edge.__main__, edge.service, edge.node, edge.rank_process, edge.commands"


def test_parent_imports_neither_torch_nor_horovod() -> None:
    script = (
        f"import sys, {PARENT_MODULES}\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'horovod')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def write_config(folder: Path, **changes: str) -> Path:
    values = {
        "region": '"county"',
        "hospital": '"north"',
        "region_broker": '"mqtt://127.0.0.1:1"',
        "hospital_broker": '"mqtt://127.0.0.1:1"',
        "state_dir": f'"{folder}"',
        "mailbox": f'"{folder}/mailbox"',
        "coordinator_key": f'"{folder}/region.pub"',
        "devices": '["band-a"]',
    } | changes
    path = folder / "edge.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    return path


@pytest.mark.parametrize("command", ["run", "ledger", "status"])
def test_wrong_configuration_is_one_line_and_exit_code_2(tmp_path: Path, command: str) -> None:
    path = write_config(tmp_path, colour='"blue"')
    said = CliRunner().invoke(app, [command, "--config", str(path)])
    assert said.exit_code == 2
    assert "colour: unknown key" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


def test_missing_configuration_is_named(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["run", "--config", str(tmp_path / "none.toml")])
    assert said.exit_code == 2
    assert "none.toml does not exist" in said.stderr


@pytest.mark.parametrize("command", ["run", "ledger", "status"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"])
    assert said.exit_code == 0
    assert "python -m edge" in said.stdout


def test_reports_of_an_empty_ledger(tmp_path: Path) -> None:
    path = str(write_config(tmp_path))
    Ledger(tmp_path).close()
    for arguments in (["ledger"], ["ledger", "--rejected"], ["ledger", "--by-reason"]):
        plain = CliRunner().invoke(app, [*arguments, "--config", path])
        assert (plain.exit_code, plain.stdout.startswith("no ")) == (0, True)
        said = CliRunner().invoke(app, [*arguments, "--config", path, "--json"])
        assert (said.exit_code, said.stdout) == (0, "[]\n")


def test_status_of_a_node_that_does_not_run(tmp_path: Path) -> None:
    path = str(write_config(tmp_path, devices='["band-a", "band-b"]'))
    ledger = Ledger(tmp_path)
    ledger.decide("band-b", "revoked", "by letter", now=1.0)
    ledger.close()
    plain = CliRunner().invoke(app, ["status", "--config", path])
    assert plain.exit_code == 0
    assert "does not run" in plain.stdout
    assert "no rounds yet" in plain.stdout
    said = CliRunner().invoke(app, ["status", "--config", path, "--json"])
    report = json.loads(said.stdout)
    assert (report["runs"], report["waiting_updates"], report["rounds"]) == (False, 0, [])
    assert (report["muted"], report["revoked"]) == ([], ["band-b"])


def test_refusals_are_added_up_by_reason(tmp_path: Path) -> None:
    path = str(write_config(tmp_path))
    ledger = Ledger(tmp_path)
    for round_id, device, reason in (
        (1, "band-a", Reason.NORM),
        (2, "band-a", Reason.NORM),
        (2, "band-b", Reason.NORM),
        (2, "", Reason.OVERSIZE),
    ):
        ledger.refuse(round_id, device, reason, now=float(round_id))
    ledger.close()
    said = CliRunner().invoke(app, ["ledger", "--by-reason", "--json", "--config", path])
    norm, oversize = json.loads(said.stdout)
    assert norm == {
        "reason": "norm",
        "num": 3,
        "num_devices": 2,
        "num_rounds": 2,
        "last_at": 2.0,
    }
    assert oversize["num"] == 1
    plain = CliRunner().invoke(app, ["ledger", "--rejected", "--round", "1", "--config", path])
    assert "norm" in plain.stdout
    assert "oversize" not in plain.stdout


def test_report_without_a_ledger_is_exit_code_2(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["ledger", "--config", str(write_config(tmp_path))])
    assert said.exit_code == 2
    assert "no edge node has run" in said.stderr
