"""The file that a benchmark leaves behind: figures, and what they were measured with."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
PACKAGES = (
    "horovod",
    "iotcore",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "paho-mqtt",
    "scipy",
    "torch",
)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_GIB = 2**30


def provenance(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, commit and command of this run, as JSON values.

    Parameters
    ----------
    name : str
        Of the benchmark: what follows ``bench-`` in the make target.
    arguments : sequence of str
        Of its command line.
    """
    return {
        "machine": machine(),
        "versions": versions(),
        **commit(),
        "command": command(name, arguments),
    }


def command(name: str, arguments: Sequence[str]) -> str:
    """The make command that repeats a run.

    >>> command("clinical", ["--seeds", "3"])
    "make bench-clinical ARGS='--seeds 3'"
    """
    make = f"make bench-{name}"
    return f"{make} ARGS={shlex.quote(shlex.join(arguments))}" if arguments else make


def machine() -> dict[str, Any]:
    """Processor, number of cores, memory and system; nothing that names this very machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / _GIB, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that figures can depend on; None if not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def commit() -> dict[str, Any]:
    """The commit checked out and the files that differ from it, results aside; None without git."""
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", ":!benchmarks/results")
    return {
        "commit": head.strip() if head else None,
        "files_not_in_commit": [line[3:] for line in (changed or "").splitlines()],
    }


def write(name: str, document: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``{folder}/{name}.json`` in one step and return its path.

    Raises
    ------
    ConfigError
        If `name` is not lower-case words joined by hyphens, `document` holds NaN or an infinity,
        or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a results file: write words such as clinical")
    path = folder / f"{name}.json"
    scratch = path.with_suffix(".part")
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
        folder.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text + "\n")
        scratch.replace(path)
    except ValueError as fault:
        raise ConfigError(f"{name}: a figure is not finite: {fault}") from fault
    except OSError as fault:
        raise ConfigError(f"{path} cannot be written: {fault.strerror}") from fault
    return path


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on stdout, as it would be written."""
    json.dump(document, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def shown(path: Path) -> str:
    """`path` as seen from the repository."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
