from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import doctor, doctor_probe
from scripts.doctor import Finding

BUILD = """Horovod v0.28.1:

Available Frameworks:
    [ ] TensorFlow
    [X] PyTorch
    [ ] MXNet

Available Controllers:
    [ ] MPI
    [{controller}] Gloo

Available Tensor Operations:
    [ ] NCCL
    [ ] MPI
    [X] Gloo
"""
GLOO = {"version": "0.28.1", "build": doctor_probe.parse_check_build(BUILD.format(controller="X"))}
BROKEN: dict[str, Any] = {"error": "ModuleNotFoundError: No module named 'horovod'"}


def python_facts(*version: int, venv: bool = True, headers: bool = True) -> dict[str, Any]:
    return {"version": list(version), "venv": venv, "headers": headers}


def test_reads_what_horovod_was_built_with() -> None:
    assert GLOO["build"] == {
        "frameworks": ["pytorch"],
        "controllers": ["gloo"],
        "tensor operations": ["gloo"],
    }


@pytest.mark.parametrize("text", ["", "Traceback", "    [X] Gloo"])
def test_reads_nothing_from_other_text(text: str) -> None:
    assert doctor_probe.parse_check_build(text) == {}


def test_horovod_with_gloo_is_ok() -> None:
    assert doctor.judge_horovod(GLOO).level == "ok"


def test_horovod_without_gloo_controller_fails_by_name() -> None:
    facts = {"version": "1", "build": doctor_probe.parse_check_build(BUILD.format(controller=" "))}

    finding = doctor.judge_horovod(facts)

    assert (finding.level, finding.found) == ("FAIL", "1 without gloo controllers")
    assert "horovod_wheel.py" in finding.remedy


@pytest.mark.parametrize(
    ("candidates", "level", "found", "remedy"),
    [
        ([python_facts(3, 11, 2)], "ok", "3.11.2 with venv and headers", ""),
        ([python_facts(3, 13, 0), python_facts(3, 12, 1)], "ok", "3.12.1", ""),
        ([python_facts(3, 11, 2, venv=False)], "FAIL", "3.11.2 without venv", "python3.11-venv"),
        ([python_facts(3, 12, 3, headers=False)], "FAIL", "without headers", "python3.12-dev"),
        ([python_facts(3, 9, 2), BROKEN], "FAIL", "needs 3.11 or 3.12", "python3.11"),
        ([], "FAIL", "needs 3.11 or 3.12", "python3.11"),
    ],
)
def test_python_is_judged_by_version_venv_and_headers(
    candidates: list[dict[str, Any]], level: str, found: str, remedy: str
) -> None:
    finding = doctor.judge_python(("/usr/bin/python3", facts) for facts in candidates)

    assert finding.level == level
    assert found in finding.found
    assert remedy in finding.remedy


@pytest.mark.parametrize(("horovod_built", "level"), [(False, "FAIL"), (True, "warn")])
def test_a_missing_compiler_only_fails_while_horovod_is_unbuilt(
    horovod_built: bool, level: str
) -> None:
    versions = {"gcc": None, "g++": None, "make": "4.3"}

    finding = doctor.judge_compiler(versions, horovod_built)

    assert finding.level == level
    assert "no gcc, g++" in finding.found
    assert "build-essential" in finding.remedy


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (doctor.judge_cmake(None, horovod_built=False), "warn"),
        (doctor.judge_cmake(None, horovod_built=True), "ok"),
        (doctor.judge_torch(BROKEN), "FAIL"),
        (doctor.judge_torch({"version": "2.13.0", "works": False, "cuda": False}), "FAIL"),
        (doctor.judge_torch({"version": "2.13.0", "works": True, "cuda": False}), "ok"),
        (doctor.judge_horovod(BROKEN), "FAIL"),
        (doctor.judge_onnx(BROKEN), "FAIL"),
        (doctor.judge_onnx({"onnx": "1", "onnxruntime": "1", "works": False}), "FAIL"),
        (doctor.judge_onnx({"onnx": "1", "onnxruntime": "1", "works": True}), "ok"),
        (doctor.judge_broker({"version": "0.4.0"}, None), "ok"),
        (doctor.judge_broker(BROKEN, "2.0.11"), "warn"),
        (doctor.judge_broker(BROKEN, None), "FAIL"),
        (doctor.judge_data({"kind": "mitdb", "root": "/d", "notice": ""}), "ok"),
        (doctor.judge_data({"kind": "synthetic", "root": "/d", "notice": ""}), "warn"),
        (doctor.judge_port(1883, "broker", free=False), "warn"),
        (doctor.judge_disk(0.5, Path("/")), "FAIL"),
        (doctor.judge_disk(3.0, Path("/")), "warn"),
        (doctor.judge_disk(50.0, Path("/")), "ok"),
        (doctor.judge_memory(1.0, 2), "warn"),
        (doctor.judge_memory(None, 2), "warn"),
        (doctor.judge_memory(16.0, 2), "ok"),
    ],
)
def test_every_fault_has_a_level_and_a_remedy(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.remedy) == (level != "ok")


def test_missing_data_says_synthetic() -> None:
    assert "SYNTHETIC" in doctor.judge_data({"kind": "synthetic", "root": "/d"}).found


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not doctor.port_is_free(other.getsockname()[1])


@pytest.mark.parametrize("python", ["/bin/false", "/bin/echo", "/nonexistent/python"])
def test_a_python_that_cannot_answer_becomes_an_error(python: str) -> None:
    assert "error" in doctor.ask(python, "torch")


def test_an_import_that_raises_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode() -> dict[str, Any]:
        raise RuntimeError("undefined symbol: c10\nand more")

    monkeypatch.setitem(doctor_probe.PROBES, "torch", explode)

    assert doctor_probe.probe("torch") == {"error": "RuntimeError: undefined symbol: c10"}


def test_a_tool_that_is_not_there_has_no_version() -> None:
    assert doctor.tool_version("no-such-tool-here", "--version") is None


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warn", 0), ("FAIL", 1)])
def test_exit_code_is_1_only_when_something_fails(
    level: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("a", "ok", "fine"), Finding("b", level, "found", "remedy")]

    assert doctor.report(findings, as_json=True) == code
    assert json.loads(capsys.readouterr().out)["ok"] == (code == 0)
    assert doctor.report(findings, as_json=False) == code


def test_a_line_shows_level_name_found_and_remedy() -> None:
    line = doctor.render(Finding("disk", "FAIL", "0.5 GiB", "free some"), colour=False)

    assert line == "FAIL  disk       0.5 GiB\n                 → free some"


@pytest.mark.parametrize("script", ["doctor.py", "doctor_probe.py"])
def test_starts_without_any_installed_package(script: str) -> None:
    path = Path(doctor.__file__).with_name(script)
    argument = "--help" if script == "doctor.py" else "python"

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), argument], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_examines_a_machine_without_environment() -> None:
    findings = list(doctor.examine(None))

    assert [f.name for f in findings] == [
        "Python", "compiler", "CMake", "packages", "port 1883", "port 8080", "disk", "memory",
    ]  # fmt: skip
    assert "make setup" in next(f for f in findings if f.name == "packages").remedy
