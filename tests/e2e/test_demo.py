"""`make demo`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.notice import NOTICE, SYNTHETIC_NOTICE
from simulators.broker_process import mosquitto_program
from tests.real_data import mitdb_root

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 400
ROUND_2 = re.compile(r"day 1 round 2 ")


def demo(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PULSERING_DATA", "COLUMNS")}
    command = [sys.executable, "-m", "simulators", "demo", "--exit", "--port", "0"]
    return subprocess.Popen(
        [
            *command,
            "--root",
            str(folder / "demo"),
            "--summary",
            str(folder / "out.json"),
            *arguments,
        ],
        cwd=ROOT,
        env=inherited | {"COLUMNS": "200", "PULSERING_CACHE": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(
    process: subprocess.Popen[str], on_line: Callable[[str], None] = lambda _: None
) -> tuple[int, str]:
    """Read the demo's output to its end, line by line."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        on_line(line)
    return process.wait(TIMEOUT_S), "".join(lines)


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return read


def processes_of(demo_process: subprocess.Popen[str], *words: str) -> list[psutil.Process]:
    children = psutil.Process(demo_process.pid).children(recursive=True)
    return [p for p in children if all(word in " ".join(p.cmdline()) for word in words)]


@pytest.mark.slow
def test_without_data_and_network_the_demo_runs_on_synthetic_ecg_and_says_so(
    tmp_path: Path,
) -> None:
    code, output = run(demo(tmp_path, "--days", "3", "--offline"))
    assert code == 0, output[-3000:]
    assert "The ECG here is SYNTHETIC" in output
    assert SYNTHETIC_NOTICE[:60] in output
    assert "DS2" not in output
    assert "MIT-BIH Arrhythmia Database" not in output
    report = summary(tmp_path)["report"]
    assert report["source"] == "synthetic"
    assert report["notice"] == SYNTHETIC_NOTICE


@pytest.mark.slow
@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
def test_demo_runs_on_the_distributions_mosquitto(tmp_path: Path) -> None:
    code, output = run(demo(tmp_path, "--days", "3", "--offline", "--broker", "mosquitto"))
    assert code == 0, output[-3000:]
    assert "mosquitto on mqtt://" in (tmp_path / "demo" / "logs" / "broker.log").read_text()
    assert summary(tmp_path)["release"] is not None


@pytest.mark.slow
def test_killed_processes_change_nothing_in_what_real_patients_teach(tmp_path: Path) -> None:
    data = str(mitdb_root())
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
    code, output = run(demo(calm, "--days", "4,1", "--data", data, "--workers", "1"))
    assert code == 0, output[-3000:]
    disturbed = demo(rough, "--days", "4,1", "--data", data)
    killed = []

    def disturb(line: str) -> None:
        if ROUND_2.search(line):
            ranks = [p for p in processes_of(disturbed, "edge.rank") if not p.children()]
            assert len(ranks) == 3  # their keepers have them as children
            victims = [ranks[0], *processes_of(disturbed, "regional", "run")]
            for victim in victims:
                victim.send_signal(signal.SIGKILL)
                killed.append(victim.pid)

    code, output = run(disturbed, disturb)
    assert code == 0, output[-3000:]
    assert len(killed) == 2
    assert "region ended (SIGKILL) and was started again" in output
    assert [r["num_stored"] for r in summary(rough)["rounds"] if r["purpose"] == "train"] == [
        22
    ] * 5
    assert summary(calm)["model_digest"] == summary(rough)["model_digest"]
    assert summary(calm)["releases"] == summary(rough)["releases"]


@pytest.mark.slow
def test_demo_reaches_its_floor_on_patients_that_no_wristband_wore(tmp_path: Path) -> None:
    code, output = run(demo(tmp_path, "--data", str(mitdb_root())))
    assert code == 0, output[-3000:]
    assert NOTICE[:60] in output
    figures = summary(tmp_path)["report"]["figures"]
    assert figures["num_beats"] == 49712
    assert figures["accuracy"] >= 0.90
    assert figures["classes"]["V"]["f1"] >= 0.85
    assert summary(tmp_path)["report"]["parity"] <= 1e-5
    assert summary(tmp_path)["num_rounds"] == 8
    assert set(summary(tmp_path)["traffic"]) >= {"up_per_device_round", "down_per_device_round"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--days", "8,x"], "--days"),
        (["--days", "0"], "--days"),
        (["--algorithm", "fedmagic"], "--algorithm"),
        (["--weighting", "heavy"], "--weighting"),
        (["--broker", "rabbit"], "--broker"),
        (["--broker", "http://127.0.0.1:1"], "broker URL"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_flag_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    code, output = run(demo(tmp_path, *arguments))
    assert code == 2
    assert named in output
    assert "Traceback" not in output


def test_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").write_text("x")
    code, output = run(demo(tmp_path))
    assert code == 2
    assert "--root" in output
    assert (tmp_path / "demo" / "thesis.tex").exists()


def test_interrupt_ends_every_process_without_a_traceback(tmp_path: Path) -> None:
    process = demo(tmp_path, "--offline")
    children: list[psutil.Process] = []

    def interrupt(line: str) -> None:
        if "kill any process" in line:
            process.send_signal(signal.SIGINT)
            children.extend(psutil.Process(process.pid).children(recursive=True))

    code, output = run(process, interrupt)
    assert code == 130
    assert "Traceback" not in output
    assert not [child for child in children if child.is_running()]
