"""The doctor's checks of this host: disk, clock, descriptors, port, and the rank's Python."""

from __future__ import annotations

import json
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

from common.config import split_listen
from common.lock import is_held
from edge.config import EdgeConfig
from edge.disk import MB, DiskState, Limits, Usage, judge, measure
from edge.finding import Finding, Level
from edge.ledger import FILE_NAME

# Where SQLite's WAL cannot be shared or synced (https://sqlite.org/wal.html, "not over a network").
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "glusterfs"})
VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs"})
SLOW_SYNC_S = 0.1
CLOCK_BACK_S = 5.0  # `grace_s` of the coordinator
EARLIEST = 1_735_689_600.0  # 2025-01-01: a clock before it was never set
FEW_DESCRIPTORS, TOO_FEW_DESCRIPTORS = 256, 64
RANK_TIMEOUT_S = 120
_RANK_REMEDY = "run `make setup`, or name the Python of its virtual environment as rank_python"
_LEVELS: dict[DiskState, Level] = {"ok": "ok", "low": "warn", "full": "FAIL"}


def check_state(config: EdgeConfig) -> Iterator[Finding]:
    """The state directory: writable, on a disk of this host that syncs."""
    folder = config.state_dir
    there = folder if folder.exists() else _nearest(folder)
    kind = filesystem(there.resolve(), Path("/proc/self/mounts").read_text())
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "state_dir", "FAIL", f"{there} is not writable for this user",
            f"chown it to the user that runs the node, such as `chown pulsering {folder}`",
        )  # fmt: skip
        return
    if kind in REMOTE or kind.startswith("fuse."):
        yield Finding(
            "state_dir", "FAIL", f"{folder} is on {kind}: a ledger there can lose what it stored",
            "name a directory on a local disk",
        )  # fmt: skip
    elif kind in VOLATILE:
        yield Finding(
            "state_dir", "warn", f"{folder} is on {kind}: gone with the power",
            "name a directory on a disk",
        )  # fmt: skip
    else:
        yield Finding("state_dir", "ok", f"{folder} on {kind or 'a filesystem'} of this host")
    seconds = sync_seconds(there)
    slow = seconds > SLOW_SYNC_S
    yield Finding(
        "fsync", "warn" if slow else "ok", f"{seconds * 1000:.1f} ms a write",
        "each commit waits for it: take a faster disk" if slow else "",
    )  # fmt: skip


def check_disk(config: EdgeConfig) -> Iterator[Finding]:
    """Room, as the running node judges it."""
    there = config.state_dir if config.state_dir.exists() else _nearest(config.state_dir)
    limits = Limits(config.disk_quota_mb * MB, config.min_free_mb * MB)
    usage = measure(there) if there == config.state_dir else Usage(0, measure(there).free_bytes)
    room = judge(usage, limits, "ok")
    found = f"{usage.used_bytes // MB} MiB used, {usage.free_bytes // MB} MiB free"
    why, _, remedy = room.why.partition("; ")
    yield Finding("disk", _LEVELS[room.state], why or found, remedy)


def check_clock(config: EdgeConfig) -> Iterator[Finding]:
    """The clock here is set, kept by NTP, and not before what the ledger has seen."""
    now, newest = time.time(), _newest(config.state_dir / FILE_NAME)
    remedy = "set it by NTP, such as `timedatectl set-ntp true`"
    if now < EARLIEST:
        yield Finding("clock", "FAIL", "before 2025: it was never set", remedy)
    elif newest > now + CLOCK_BACK_S:
        yield Finding(
            "clock", "FAIL", f"{newest - now:.0f} s behind the newest entry of the ledger", remedy
        )
    elif ntp_synchronised() is False:
        yield Finding("clock", "warn", "not synchronised, says timedatectl", remedy)
    else:
        yield Finding("clock", "ok", "set, and not behind the ledger")


def check_descriptors(_config: EdgeConfig) -> Iterator[Finding]:
    """Files that a process of this user may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = soft == resource.RLIM_INFINITY
    few, too_few = soft < FEW_DESCRIPTORS, soft < TOO_FEW_DESCRIPTORS
    level: Level = "ok" if endless or not few else "FAIL" if too_few else "warn"
    remedy = "" if level == "ok" else "raise `ulimit -n`, or LimitNOFILE in the unit"
    yield Finding("descriptors", level, "no limit" if endless else f"{soft} in this shell", remedy)


def check_health_port(config: EdgeConfig) -> Iterator[Finding]:
    """A node runs, or its health port is free."""
    if is_held(config.state_dir):
        yield Finding("node", "ok", "runs; `python -m edge status` tells more")
        return
    host, port = split_listen(config.health_listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as fault:
            yield Finding(
                "node", "FAIL", f"does not run, and health_listen {config.health_listen}: "
                f"{fault.strerror}", "choose another health_listen",
            )  # fmt: skip
            return
    yield Finding("node", "ok", f"does not run; health_listen {config.health_listen} is free")


def check_rank(config: EdgeConfig) -> Iterator[Finding]:
    """The Python of the rank imports torch and Horovod."""
    code = (
        "import json, torch, horovod, horovod.torch as hvd\n"
        "print(json.dumps([torch.__version__, horovod.__version__, bool(hvd.gloo_built())]))"
    )
    try:
        done = subprocess.run(
            [config.rank_python, "-c", code],
            capture_output=True,
            text=True,
            timeout=RANK_TIMEOUT_S,
            check=False,
        )
        torch, horovod, gloo = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired) as fault:
        yield Finding("rank_python", "FAIL", str(fault)[:200], _RANK_REMEDY)
    except (ValueError, IndexError):
        complaint = (done.stderr.strip() or "no answer").splitlines()[-1]
        yield Finding("rank_python", "FAIL", complaint[:200], _RANK_REMEDY)
    else:
        level: Level = "ok" if gloo else "FAIL"
        said = f"torch {torch}, horovod {horovod}, {'with' if gloo else 'without'} Gloo"
        yield Finding("rank_python", level, said, "" if gloo else _RANK_REMEDY)


def filesystem(path: Path, mounts: str) -> str:
    """Type of the filesystem that `path` lies on, by the lines of /proc/self/mounts."""
    best, kind = Path("/"), ""
    for line in mounts.splitlines():
        _device, where, type_, *_ = line.split(" ")
        place = Path(where.replace("\\040", " "))
        if path.is_relative_to(place) and len(place.parts) >= len(best.parts):
            best, kind = place, type_
    return kind


def sync_seconds(folder: Path, repeats: int = 5) -> float:
    """Median of some writes of 4 KiB with fsync."""
    path = folder / f".doctor-{uuid4().hex[:8]}"
    taken = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(repeats):
                began = time.perf_counter()
                file.write(bytes(4096))
                os.fsync(file.fileno())
                taken.append(time.perf_counter() - began)
    finally:
        with suppress(OSError):
            path.unlink()
    return statistics.median(taken)


def ntp_synchronised() -> bool | None:
    """What timedatectl says; ``None`` where it cannot say."""
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


def _nearest(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.exists())


def _newest(ledger: Path) -> float:
    if not ledger.exists():
        return 0.0
    try:
        with closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute(
                "SELECT MAX(opened_at) FROM (SELECT opened_at FROM rounds ORDER BY round_id DESC"
                " LIMIT 3)"
            ).fetchone()
    except sqlite3.DatabaseError:
        return 0.0
    return float(row[0] or 0)
