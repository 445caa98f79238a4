"""A node's state in one file, taken while it runs, and put back where there is none.

What is kept: the ledger as of one moment (SQLite's online backup), the signing key, and the
aggregates of rounds whose end is not known yet.  Models are fetched again from the mailbox, and
configuration, roster and the coordinator's public key are the operator's own files.  The file holds
the private key: mode 0600.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from common.errors import ConfigError, PulseRingError
from common.lock import hold, is_held
from common.mailbox import write_durably
from common.signing import PRIVATE_NAME, PUBLIC_NAME
from edge import reports
from edge.ledger import FILE_NAME
from edge.upgrade import add_tables

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
_ALWAYS = frozenset({FILE_NAME, PRIVATE_NAME, PUBLIC_NAME})
_OPEN_AGGREGATES = """
    SELECT path FROM aggregates WHERE round_id NOT IN (SELECT round_id FROM outcomes)
"""


def back_up(state_dir: Path, hospital: str, to: Path, now: float) -> dict[str, Any]:
    """Write a backup of a running or stopped node's state; say what is in it.

    Raises
    ------
    ConfigError
        When there is no ledger, or `to` exists, or its folder does not.
    OSError
        When it cannot be written.
    """
    ledger = state_dir / FILE_NAME
    if not ledger.is_file():
        raise ConfigError(f"{ledger} does not exist: no edge node has run with this state_dir")
    if to.exists():
        raise ConfigError(f"--to {to} exists: a backup overwrites nothing")
    if not to.parent.is_dir():
        raise ConfigError(f"--to {to}: there is no folder {to.parent}")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=to.parent or ".") as folder:
        files = dict(_collect(state_dir, Path(folder)))
        manifest = _manifest(files, hospital, now) | _counts(Path(folder))
        partial = Path(folder) / "partial"
        with _private(partial) as sink, tarfile.open(fileobj=sink, mode="w") as tar:
            data = json.dumps(manifest, indent=2).encode()
            entry = tarfile.TarInfo(MANIFEST)
            entry.size, entry.mtime = len(data), int(now)
            tar.addfile(entry, io.BytesIO(data))
            for name, path in files.items():
                tar.add(path, name, filter=_plain)
        partial.replace(to)
    return manifest


def restore(state_dir: Path, hospital: str, source: Path, now: float) -> dict[str, Any]:
    """Put a backup into a state directory that has no ledger; say what was in it.

    Raises
    ------
    ConfigError
        When a node runs there or has run there, or the file is no backup of this hospital.
    PulseRingError
        When the backup is damaged; then nothing was put back.
    """
    if is_held(state_dir):
        raise ConfigError(f"an edge node runs with state_dir {state_dir}: end it first")
    _refuse_if_there(state_dir, [FILE_NAME, PRIVATE_NAME])
    handle = hold(state_dir, "edge node")
    try:
        with _opened(source) as tar, tempfile.TemporaryDirectory(dir=state_dir) as folder:
            manifest = _read_manifest(tar, source, hospital)
            _refuse_if_there(state_dir, manifest["files"])
            for name, stated in manifest["files"].items():
                _extract(tar, name, stated, Path(folder))
            _check_ledger(Path(folder) / FILE_NAME)
            _note_restore(Path(folder) / FILE_NAME, manifest, now)
            # The ledger last: without it, this is no state directory yet.
            for name in sorted(manifest["files"], key=lambda name: name == FILE_NAME):
                _put(Path(folder) / name, state_dir / name)
    finally:
        os.close(handle)
    return manifest


def _refuse_if_there(state_dir: Path, names: Iterable[str]) -> None:
    for name in names:
        if (state_dir / name).exists():
            raise ConfigError(
                f"{state_dir / name} exists: move what is in state_dir away first; a restore "
                "overwrites nothing"
            )


def _collect(state_dir: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    copy = folder / FILE_NAME
    uri = f"{(state_dir / FILE_NAME).resolve().as_uri()}?mode=ro"
    copy.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(uri, uri=True)) as db, closing(sqlite3.connect(copy)) as into:
            db.backup(into)  # in one step, so of one moment, while the node goes on writing
            into.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
            paths = [path for (path,) in into.execute(_OPEN_AGGREGATES)]
    except sqlite3.DatabaseError as fault:
        raise ConfigError(f"{state_dir / FILE_NAME} is no ledger: {fault}") from fault
    yield FILE_NAME, copy
    for name in (PRIVATE_NAME, PUBLIC_NAME):
        yield name, state_dir / name
    for path in paths:
        # Written before the ledger named it; gone only if its round has ended since.
        if (state_dir / "rounds" / path).exists():
            yield f"rounds/{path}", state_dir / "rounds" / path


def _manifest(files: dict[str, Path], hospital: str, now: float) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "hospital": hospital,
        "made_at": now,
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for name, path in files.items()
        },
    }


def _counts(folder: Path) -> dict[str, Any]:
    last = reports.rounds(folder, 1)
    return {
        "last_round_id": last[-1]["round_id"] if last else 0,
        "waiting_updates": reports.waiting(folder),
    }


def _read_manifest(tar: tarfile.TarFile, source: Path, hospital: str) -> dict[str, Any]:
    first = tar.next()
    if first is None or first.name != MANIFEST or first.size > MAX_MANIFEST_BYTES:
        raise ConfigError(f"--from {source} is no backup of an edge node")
    file = tar.extractfile(first)
    try:
        manifest: dict[str, Any] = json.loads(file.read() if file else b"")
        known = manifest["format"] == FORMAT
        whose = str(manifest["hospital"])
        names = {name: str(stated["sha256"]) for name, stated in manifest["files"].items()}
        float(manifest["made_at"]), int(manifest["last_round_id"]), int(manifest["waiting_updates"])
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        raise ConfigError(f"--from {source} is no backup of an edge node: {fault}") from fault
    if not known:
        raise ConfigError(f"--from {source} has format {manifest['format']}, not {FORMAT}")
    if whose != hospital:
        raise ConfigError(f"--from {source} is a backup of hospital {whose}, not of {hospital}")
    if not set(names) >= _ALWAYS or not all(_is_ours(name) for name in names):
        raise ConfigError(f"--from {source} is no backup of an edge node: {', '.join(names)[:200]}")
    return manifest


def _is_ours(name: str) -> bool:
    folder, _, leaf = name.partition("/")
    return name in _ALWAYS or (
        folder == "rounds" and "/" not in leaf and leaf.startswith("aggregate-")
    )


def _extract(tar: tarfile.TarFile, name: str, stated: dict[str, Any], folder: Path) -> None:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise PulseRingError(f"the backup is damaged: {name} lacks")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with file, _private(path) as sink:
        while block := file.read(1 << 20):
            sink.write(block)
    if _sha256(path) != stated["sha256"]:
        raise PulseRingError(f"the backup is damaged: {name} holds other bytes than were saved")


def _check_ledger(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            db.execute("SELECT 1 FROM rounds LIMIT 1")  # an empty file passes the check
    except sqlite3.DatabaseError as fault:
        said = str(fault)
    if said != "ok":
        raise PulseRingError(f"the backup's ledger is damaged: {said}")


def _note_restore(ledger: Path, manifest: dict[str, Any], now: float) -> None:
    note = (manifest["made_at"], manifest["last_round_id"], now)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        add_tables(db)
        db.execute(
            "INSERT INTO restores (made_at, last_round_id, restored_at) VALUES (?, ?, ?)", note
        )


def _put(path: Path, to: Path) -> None:
    if path.name != FILE_NAME:
        write_durably(to, path.read_bytes())
        if to.name == PRIVATE_NAME:
            to.chmod(0o600)
        return
    with path.open("rb") as file:  # too large to hold in memory
        os.fsync(file.fileno())
    path.replace(to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:") as tar:
            yield tar
    except tarfile.TarError as fault:
        raise ConfigError(f"--from {source} is no backup of an edge node: {fault}") from fault
    except FileNotFoundError as fault:
        if fault.filename and Path(fault.filename) == source:
            raise ConfigError(f"--from {source} does not exist") from fault
        raise


@contextmanager
def _private(path: Path) -> Iterator[io.BufferedWriter]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as sink:
        yield sink
        sink.flush()
        os.fsync(sink.fileno())


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o600
    return entry


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def name_of_today(hospital: str) -> str:
    """A file name for a backup made now, such as ``edge-north-20261127T134154Z.tar``."""
    return f"edge-{hospital}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar"
