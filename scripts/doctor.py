"""Say what this machine lacks for PulseRing, and the command that mends it.

Only the standard library is imported, so this runs on any Python from 3.9, before anything is
installed: ``python3 scripts/doctor.py``.  What needs the project's packages is asked of the
virtual environment's Python through `doctor_probe`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PROBE = Path(__file__).resolve().with_name("doctor_probe.py")
PYTHONS = ((3, 11), (3, 12))
PACKAGES = ("horovod", "torch", "onnx", "iotcore", "data")  # the slowest first
PORTS = ((1883, "MQTT broker"), (8080, "inference API"))
PROBE_TIMEOUT_S = 90
GIB = 2**30
LOW_DISK_GIB, NO_DISK_GIB = 6.0, 1.0  # a set-up takes about 3 GiB, twice that while it builds
LOW_MEMORY_GIB = 3.0  # three ranks with torch, four services and a trainer take about 2 GiB
APT = "sudo apt-get install -y"
SETUP = "run `make setup`"
ANEW = "remove .venv and run `make setup`"

Facts = dict[str, Any]  # what a probe prints: findings by name, or {"error": …}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `level` is ``ok``, ``warn`` or ``FAIL``."""

    name: str
    level: str
    found: str
    remedy: str = ""


def ask(python: str, probe: str) -> Facts:
    """Run one probe in another Python; a crash, a hang or an exception becomes ``{"error": …}``."""
    command = [python, str(PROBE), probe]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PROBE_TIMEOUT_S} s"}
    except OSError as fault:
        return {"error": str(fault)}
    last = (done.stdout.strip() or "{}").splitlines()[-1]
    try:
        facts = json.loads(last)
    except ValueError:
        facts = None
    if done.returncode or not isinstance(facts, dict) or not facts:
        complaint = (done.stderr.strip() or "no answer").splitlines()[-1]
        return {"error": f"exit code {done.returncode}: {complaint}"}
    return facts


# --- Judgements: facts to one finding, nothing asked of the machine ----------------------------


def judge_python(candidates: Iterable[tuple[str, Facts]]) -> Finding:
    """The first Python that will do, else the nearest miss with what it lacks."""
    near: Finding | None = None
    for command, facts in candidates:
        if "error" in facts or tuple(facts["version"][:2]) not in PYTHONS:
            continue
        version = ".".join(map(str, facts["version"]))
        short = ".".join(map(str, facts["version"][:2]))
        lacks = [part for part in ("venv", "headers") if not facts[part]]
        if not lacks:
            return Finding("Python", "ok", f"{version} with venv and headers ({command})")
        near = near or Finding(
            "Python", "FAIL", f"{version} without {' and '.join(lacks)} ({command})",
            f"{APT} python{short}-venv python{short}-dev",
        )  # fmt: skip
    running = ".".join(map(str, sys.version_info[:3]))
    return near or Finding(
        "Python", "FAIL", f"only {running}; PulseRing needs 3.11 or 3.12",
        f"{APT} python3.11 python3.11-venv python3.11-dev, or another 3.11 or 3.12 on PATH",
    )  # fmt: skip


def judge_compiler(versions: dict[str, str | None], horovod_built: bool) -> Finding:
    """gcc, g++ and make; only a build of Horovod needs them."""
    missing = [tool for tool, version in versions.items() if version is None]
    if not missing:
        return Finding("compiler", "ok", ", ".join(f"{t} {v}" for t, v in versions.items()))
    level = "warn" if horovod_built else "FAIL"
    needed = " (Horovod is built already)" if horovod_built else ": Horovod is compiled once"
    return Finding("compiler", level, f"no {', '.join(missing)}{needed}", f"{APT} build-essential")


def judge_cmake(version: str | None, horovod_built: bool) -> Finding:
    """CMake; set-up takes it from pip where the system has none."""
    if version is not None:
        return Finding("CMake", "ok", version)
    if horovod_built:
        return Finding("CMake", "ok", "none, and none needed: Horovod is built already")
    return Finding("CMake", "warn", "none", "`make setup` takes it from pip; nothing to do")


def judge_torch(facts: Facts) -> Finding:
    """PyTorch imports and computes."""
    if "error" in facts:
        return Finding("torch", "FAIL", facts["error"], SETUP)
    if not facts["works"]:
        return Finding("torch", "FAIL", f"{facts['version']} computes wrongly", ANEW)
    return Finding(
        "torch", "ok", facts["version"] + (", a GPU is there" if facts["cuda"] else ", no GPU")
    )


def judge_horovod(facts: Facts) -> Finding:
    """Horovod loads with torch, with Gloo as controller and for tensors."""
    rebuild = (
        "run `.venv/bin/python scripts/horovod_wheel.py`: it builds against the installed torch"
    )
    if "error" in facts:
        return Finding("Horovod", "FAIL", facts["error"], rebuild)
    wanted = {"frameworks": "pytorch", "controllers": "gloo", "tensor operations": "gloo"}
    lacks = [f"{w} {part}" for part, w in wanted.items() if w not in facts["build"].get(part, [])]
    if lacks:
        return Finding("Horovod", "FAIL", f"{facts['version']} without {', '.join(lacks)}", rebuild)
    return Finding("Horovod", "ok", f"{facts['version']}, PyTorch, Gloo controller and operations")


def judge_onnx(facts: Facts) -> Finding:
    """ONNX and ONNX Runtime agree on a tiny model."""
    if "error" in facts:
        return Finding("ONNX", "FAIL", facts["error"], SETUP)
    versions = f"onnx {facts['onnx']}, onnxruntime {facts['onnxruntime']}"
    if not facts["works"]:
        return Finding("ONNX", "FAIL", f"{versions}: wrong result", ANEW)
    return Finding("ONNX", "ok", f"{versions}, a session runs")


def judge_broker(iotcore: Facts, mosquitto: str | None) -> Finding:
    """The embedded broker of the demo, and mosquitto, which production and its tests use."""
    outside = f"mosquitto {mosquitto}" if mosquitto else "no mosquitto (only production needs it)"
    if "error" not in iotcore:
        return Finding("broker", "ok", f"iotcore {iotcore['version']} (embedded), {outside}")
    if mosquitto:
        return Finding(
            "broker", "warn", f"{outside}; embedded iotcore: {iotcore['error']}",
            f"{SETUP}, or point the demo at mosquitto",
        )  # fmt: skip
    return Finding("broker", "FAIL", iotcore["error"], f"{SETUP}, or {APT} mosquitto")


def judge_data(facts: Facts) -> Finding:
    """MIT-BIH is complete, or what happens otherwise."""
    if "error" in facts:
        return Finding("data", "warn", f"cannot be checked: {facts['error']}", SETUP)
    if facts["kind"] == "mitdb":
        return Finding("data", "ok", f"MIT-BIH complete in {facts['root']}")
    return Finding(
        "data", "warn", f"no complete MIT-BIH in {facts['root']}: the demo runs on SYNTHETIC ECG",
        "run `make data` (about 100 MB from PhysioNet), or set PULSERING_DATA",
    )  # fmt: skip


def judge_packages(facts: dict[str, Facts], mosquitto: str | None) -> Iterator[Finding]:
    """What is installed in the virtual environment, and the data its code finds."""
    yield judge_torch(facts["torch"])
    yield judge_horovod(facts["horovod"])
    yield judge_onnx(facts["onnx"])
    yield judge_broker(facts["iotcore"], mosquitto)
    yield judge_data(facts["data"])


def judge_port(port: int, purpose: str, free: bool) -> Finding:
    """A port that a default names is free on loopback."""
    if free:
        return Finding(f"port {port}", "ok", f"free ({purpose})")
    return Finding(
        f"port {port}", "warn", f"in use, wanted by the {purpose}",
        f"see who with `ss -ltnp 'sport = :{port}'`; stop it or choose another port",
    )  # fmt: skip


def judge_disk(free_gib: float, path: Path) -> Finding:
    """Room for packages, the build and the data."""
    level = "FAIL" if free_gib < NO_DISK_GIB else "warn" if free_gib < LOW_DISK_GIB else "ok"
    remedy = "" if level == "ok" else f"free some; {LOW_DISK_GIB:.0f} GiB are enough for a set-up"
    return Finding("disk", level, f"{free_gib:.1f} GiB free at {path}", remedy)


def judge_memory(available_gib: float | None, num_cpus: int) -> Finding:
    """Room for a region on one machine."""
    if available_gib is None:
        return Finding("memory", "warn", "cannot be read", f"have {LOW_MEMORY_GIB:.0f} GiB free")
    found = f"{available_gib:.1f} GiB available, {num_cpus} CPUs"
    if available_gib < LOW_MEMORY_GIB:
        return Finding("memory", "warn", found, "stop other programs, or run fewer wristbands")
    return Finding("memory", "ok", found)


# --- Asking the machine -----------------------------------------------------------------------


def environment_python(explicit: Path | None) -> str | None:
    """Python of the project's virtual environment, or None when there is none yet."""
    if explicit is not None:
        return str(explicit)
    own = REPOSITORY / ".venv" / "bin" / "python"
    if own.exists():
        return str(own)
    return sys.executable if sys.prefix != sys.base_prefix else None


def python_candidates() -> Iterator[tuple[str, Facts]]:
    """The running Python, then others on PATH, with what each has."""
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}")
    names = [str(base) if base.exists() else sys.executable, "python3.12", "python3.11"]
    for name in names:
        command = shutil.which(name)
        if command:
            yield command, ask(command, "python")


def tool_version(tool: str, *arguments: str, path: str | None = None) -> str | None:
    """First version number that a tool prints, ``?`` if it prints none, None if it is not there."""
    command = shutil.which(tool, path=path)
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return number[0] if number else "?"


def port_is_free(port: int) -> bool:
    """Whether a service could listen on this loopback port."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def available_memory_gib() -> float | None:
    """``MemAvailable`` of the kernel, or None where there is no /proc."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    line = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(line[1]) * 1024 / GIB if line else None


def examine(python: str | None) -> Iterator[Finding]:
    """All findings, in the order of a set-up, each as soon as it is known."""
    search = os.pathsep.join([str(Path(python or "").parent), os.environ.get("PATH", "")])
    with ThreadPoolExecutor(2) as pool:
        asked = {name: pool.submit(ask, python, name) for name in PACKAGES} if python else {}
        yield judge_python(python_candidates())
        built = bool(asked) and "error" not in asked["horovod"].result()
        tools = {tool: tool_version(tool, "--version") for tool in ("gcc", "g++", "make")}
        yield judge_compiler(tools, built)
        yield judge_cmake(tool_version("cmake", "--version", path=search), built)
        if asked:
            # Debian keeps mosquitto where only root's PATH looks.
            mosquitto = tool_version("mosquitto", "-h", path=f"{search}{os.pathsep}/usr/sbin")
            yield from judge_packages({name: a.result() for name, a in asked.items()}, mosquitto)
        else:
            yield Finding("packages", "FAIL", "no virtual environment in .venv yet", SETUP)
    for port, purpose in PORTS:
        yield judge_port(port, purpose, port_is_free(port))
    yield judge_disk(shutil.disk_usage(REPOSITORY).free / GIB, REPOSITORY)
    yield judge_memory(available_memory_gib(), os.cpu_count() or 1)


def render(finding: Finding, colour: bool) -> str:
    """One finding as a line, its remedy as a second one."""
    paint = {"ok": "\033[32m", "warn": "\033[33m", "FAIL": "\033[1;31m"}[finding.level]
    level = f"{finding.level:<4}"
    if colour:
        level = f"{paint}{level}\033[0m"
    line = f"{level}  {finding.name:<9}  {finding.found}"
    return f"{line}\n{'':<17}→ {finding.remedy}" if finding.remedy else line


def report(findings: Iterable[Finding], as_json: bool) -> int:
    """Print the findings; the exit code is 1 if one of them FAILs."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    seen = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            print(render(finding, colour), flush=True)
    count = {level: sum(f.level == level for f in seen) for level in ("ok", "warn", "FAIL")}
    if as_json:
        body: dict[str, Any] = {"ok": not count["FAIL"], "findings": [asdict(f) for f in seen]}
        print(json.dumps(body, indent=2))
    else:
        verdict = "not ready" if count["FAIL"] else "ready"
        print(f"\n{verdict}: {count['ok']} ok, {count['warn']} warn, {count['FAIL']} FAIL")
    return 1 if count["FAIL"] else 0


def main() -> int:
    """Parse the command line and report."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0]
        + "\nLooks at Python, compiler, torch, Horovod, ONNX, broker, data, ports, disk and memory.",
        epilog="Example: python3 scripts/doctor.py --json\n"
        "Exit codes: 0 nothing fails, 1 something FAILs, 2 bad usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON object")
    parser.add_argument(
        "--python", type=Path, metavar="PATH",
        help="Python to examine instead of .venv/bin/python",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        return report(examine(environment_python(arguments.python)), arguments.json)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
