"""Every command line as its users meet it: help, wrong usage, JSON, signals."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner, Result

from common.command import EXIT_CODES

ROOT = Path(__file__).resolve().parents[2]
APPS: dict[str, typer.Typer] = {
    tier: importlib.import_module(f"{tier}.__main__").app
    for tier in ("simulators", "edge", "regional", "cloud")
}
COMMANDS = [
    (tier, str(command.name or getattr(command.callback, "__name__", "")))
    for tier, app in APPS.items()
    for command in app.registered_commands
]
CONFIGURED = [(tier, name) for tier, name in COMMANDS if name not in ("broker", "sample")]
NAMED = {
    "promote": ("somebody",),
    "verify": ("somebody",),
    "revoke": ("band-a",),
    "readmit": ("band-a",),
    "unmute": ("band-a",),
    "backup": ("--to", "somewhere"),
    "restore": ("--from", "somewhere"),
}
NOWHERE = "mqtt://127.0.0.1:1"
TERSE = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture(autouse=True)
def _logs_stay_here() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def region(tmp_path: Path) -> Path:
    """A folder with a TOML for each tier, and nothing started yet."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty.toml").touch()
    shared = f'region = "county"\nmailbox = "{tmp_path}/mailbox"\n'
    (tmp_path / "edge.toml").write_text(
        f"""{shared}
hospital = "north"
region_broker = "{NOWHERE}"
hospital_broker = "{NOWHERE}"
state_dir = "{tmp_path}/edge"
coordinator_key = "{tmp_path}/regional/signing.pub"
devices = ["band-a"]
"""
    )
    (tmp_path / "regional.toml").write_text(
        f"""{shared}
broker = "{NOWHERE}"
state_dir = "{tmp_path}/regional"
task = "dummy"
hospitals.north.key = "{tmp_path}/edge/signing.pub"
"""
    )
    (tmp_path / "cloud.toml").write_text(
        f"""{shared}
pool_dir = "{tmp_path}/pool"
state_dir = "{tmp_path}/cloud"
listen = "127.0.0.1:0"
trusted.region_key = "{tmp_path}/regional/signing.pub"
"""
    )
    (tmp_path / "simulators.toml").write_text(f'broker = "{NOWHERE}"\ntask = "dummy"\n')
    return tmp_path


def call(tier: str, *arguments: str) -> Result:
    return CliRunner().invoke(APPS[tier], [*arguments], env=TERSE)


def refusal(result: Result, exit_code: int = 2) -> str:
    """The one sentence of a command that was refused."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def start(region: Path, tier: str, command: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", tier, command, "--config", str(region / f"{tier}.toml"), *more],
        cwd=ROOT,
        env=os.environ | TERSE | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("tier", "command"), COMMANDS)
def test_help_has_an_example_and_exit_codes_in_80_columns(tier: str, command: str) -> None:
    said = call(tier, command, "--help")
    assert said.exit_code == 0
    assert f"Example: python -m {tier} {command}" in said.stdout
    assert "Exit codes: 0 " in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.parametrize("tier", APPS)
def test_help_of_a_tier_says_what_exit_codes_mean(tier: str) -> None:
    assert EXIT_CODES in " ".join(call(tier, "--help").stdout.split())


@pytest.mark.parametrize(("tier", "command"), CONFIGURED)
def test_config_and_set_are_called_the_same_everywhere(tier: str, command: str) -> None:
    said = " ".join(call(tier, command, "--help").stdout.split())
    assert "--config -c" in said
    assert "--set -s KEY=VALUE" in said


@pytest.mark.parametrize(("tier", "command"), CONFIGURED)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-c", "{region}/none.toml"), "none.toml does not exist"),
        (("-c", "{region}"), "cannot be read"),
        (("-c", "{region}/{tier}.toml", "-s", "colour=blue"), "colour: unknown key"),
        (("-c", "{region}/{tier}.toml", "-s", "log_level=7"), "log_level: "),
        (("-c", "{region}/{tier}.toml", "-s", "log_level"), "write key=value"),
        (("-c", "{region}/{tier}.toml", "-s", "region=A/B"), "region: "),
    ],
)
def test_wrong_configuration_is_one_sentence(
    region: Path, tier: str, command: str, arguments: tuple[str, ...], sentence: str
) -> None:
    filled = [text.format(region=region, tier=tier) for text in arguments]
    assert sentence in refusal(call(tier, command, *NAMED.get(command, ()), *filled))


@pytest.mark.parametrize(("tier", "command"), [c for c in CONFIGURED if c[0] != "simulators"])
def test_no_configuration_and_an_empty_one_name_what_lacks(
    region: Path, tier: str, command: str
) -> None:
    named = NAMED.get(command, ())
    without = refusal(call(tier, command, *named))
    assert "no --config FILE was given" in without
    empty = refusal(call(tier, command, *named, "--config", str(region / "empty.toml")))
    assert "empty.toml" in empty
    assert "state_dir" in without
    assert "state_dir" in empty


@pytest.mark.parametrize(
    ("tier", "arguments", "sentence", "exit_code"),
    [
        ("edge", "run -s state_dir={region}/file", "state_dir", 2),
        ("edge", "run -s roster_file={region}/none -s devices=[]", "roster_file", 2),
        ("edge", "run -s health_listen={taken}", "health_listen", 2),
        ("edge", "run -s region_broker=nowhere", "region_broker", 2),
        ("edge", "ledger -s state_dir={region}", "no edge node has run", 2),
        ("edge", "status -s state_dir={region}/foreign", "is no ledger", 2),
        ("edge", "revoke band-x", "not in the roster of north: band-x", 2),
        ("edge", "revoke band-a", "no edge node has run with it", 2),
        ("edge", "devices -s state_dir={region}", "no edge node has run", 2),
        ("edge", "drain", "no edge node runs", 1),
        ("edge", "drain --cancel", "nobody has asked", 3),
        ("edge", "backup --to {region}/new.tar", "no edge node has run", 2),
        ("edge", "restore --from {region}/none.tar", "none.tar does not exist", 2),
        ("edge", "restore --from {region}/file", "is no backup of an edge node", 2),
        ("edge", "compact", "no edge node has run", 2),
        ("regional", "run -s state_dir={region}/file", "state_dir", 2),
        ("regional", "run -s health_listen={taken}", "health_listen", 2),
        ("regional", "run -s mailbox={region}/file", "mailbox", 2),
        ("regional", "run -s task=nothing", "no task 'nothing'; known: ", 2),
        ("regional", "rounds", "was this coordinator ever started?", 2),
        ("regional", "replay", "was this coordinator ever started?", 2),
        ("regional", "replay --from 3 --to 2", "--from 3 lies after --to 2", 2),
        ("regional", "replay --round 3 --to 4", "leave --from and --to out", 2),
        ("regional", "timeline 3", "was this coordinator ever started?", 2),
        ("regional", "watch", "lets the coordinator choose its port", 2),
        ("regional", "seal", "was this coordinator ever started?", 2),
        ("regional", "seals -s state_dir={region}/foreign", "cannot be read", 2),
        ("cloud", "daily -s state_dir={region}/file", "state_dir", 2),
        ("cloud", "releases -s pool_dir={region}/file/pool", "pool_dir", 2),
        ("cloud", "daily -s database=nothing", "database", 2),
        ("cloud", "verify nobody", "no release 'nobody'", 1),
        ("cloud", "promote nobody", "no release 'nobody'", 1),
        ("cloud", "serve -s listen={taken}", "listen", 2),
        ("simulators", "run -s broker=nowhere", "broker", 2),
        ("simulators", "run --task sleep", "no task 'sleep'; known: ", 2),
    ],
)
def test_what_cannot_be_used_is_named_in_one_sentence(
    region: Path, tier: str, arguments: str, sentence: str, exit_code: int
) -> None:
    (region / "foreign").mkdir()
    with sqlite3.connect(region / "foreign" / "ledger.sqlite") as foreign:
        foreign.execute("CREATE TABLE other (a)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        filled = arguments.format(region=region, taken=f"127.0.0.1:{port}").split()
        result = call(tier, *filled, "--config", str(region / f"{tier}.toml"))
    assert sentence in refusal(result, exit_code)


def test_broker_on_a_port_in_use_says_only_that(region: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refusal(call("simulators", "broker", "--port", str(taken.getsockname()[1])))
    assert "choose another --port" in line


def test_nothing_sealed_is_exit_code_3(region: Path) -> None:
    said = call("cloud", "daily", "--config", str(region / "cloud.toml"))
    assert (said.exit_code, said.stdout) == (3, "")
    assert "nothing is sealed for county" in said.stderr


@pytest.mark.parametrize("tier", ["edge", "regional"])
def test_two_processes_in_one_state_dir_are_refused(region: Path, tier: str) -> None:
    with start(region, tier, "run") as first:
        try:
            wait_for_line(first, "health")
            second = start(region, tier, "run")
            _, said = second.communicate(timeout=30)
        finally:
            first.terminate()
            first.communicate(timeout=20)
    assert second.returncode == 2
    (line,) = said.strip().splitlines()
    assert "state_dir" in line
    assert "is running there" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("tier", "command", "ready"),
    [
        ("edge", "run", "health_listening"),
        ("regional", "run", "coordinator_started"),
        ("cloud", "serve", "serving"),
        ("simulators", "run", "fleet_started"),
    ],
)
def test_a_service_ends_soon_and_quietly(
    region: Path, tier: str, command: str, ready: str, number: signal.Signals
) -> None:
    with start(region, tier, command) as process:
        wait_for_line(process, ready)
        asked_at = time.monotonic()
        process.send_signal(number)
        out, rest = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert time.monotonic() - asked_at < 5
    assert "Traceback" not in rest
    assert out == ""


def wait_for_line(process: subprocess.Popen[str], word: str) -> None:
    """Read the log until a line holds `word`; the end of the log is a failure."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if word in line:
            return
    raise AssertionError("".join(seen))


@pytest.fixture
def started(region: Path) -> Path:
    """The region's folder after edge node and coordinator ran for a moment."""
    for tier in ("edge", "regional"):
        with start(region, tier, "run") as process:
            wait_for_line(process, "health")
            process.terminate()
            process.communicate(timeout=20)
    return region


def test_json_is_all_that_reports_write_to_stdout(started: Path) -> None:
    for tier, command in [
        ("edge", "ledger"),
        ("edge", "status"),
        ("edge", "compact"),
        ("regional", "rounds"),
        ("regional", "status"),
        ("regional", "seals"),
        ("cloud", "releases"),
        ("cloud", "daily"),
    ]:
        said = call(tier, command, "--json", "-c", str(started / f"{tier}.toml"))
        assert said.exit_code in (0, 3), said.output
        assert isinstance(json.loads(said.stdout), (dict, list))


def test_nothing_committed_can_be_neither_sealed_nor_replayed(started: Path) -> None:
    config = ("-c", str(started / "regional.toml"))
    assert "no training round of day 1" in refusal(call("regional", "seal", *config), 3)
    assert "no round is committed yet" in refusal(call("regional", "replay", *config), 3)


def test_download_and_doctor_give_json(tmp_path: Path) -> None:
    for arguments in (
        ["-m", "common.ecg.download", "--offline", "--json", "--data", str(tmp_path)],
        ["scripts/doctor.py", "--json", "--python", str(tmp_path / "none")],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert json.loads(done.stdout)["ok"] is False
