"""Many processes use one model pool at once, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud.registry import Registry
from cloud.release import Release, release_name
from common.digest import bytes_digest
from common.signing import Keyring, Signer

ONNX = b"stands in for ONNX"
BINARIES = ("initdb", "pg_ctl")
DEBIAN = Path("/usr/lib/postgresql")  # one folder a version, none of them on PATH


def make_release(day: int) -> Release:
    digest = bytes_digest(f"{day}".encode())
    return Release(
        name=release_name("county", day, digest),
        region="county",
        day=day,
        task="dummy",
        labels=("low", "high"),
        input_shapes={"z": (4,), "a": (2, 3)},
        model_digest=digest,
        sealed_digest="b" * 64,
        onnx_sha256=bytes_digest(ONNX),
        size_bytes=len(ONNX),
        parity=1e-7,
        created_at=float(day),
        metrics={"candidate": {"accuracy": 0.1 + 0.2}},
    )


@pytest.fixture
def postgresql() -> Iterator[str]:
    """URL of a server of its own, on a socket in a new folder; no port."""
    pytest.importorskip("psycopg", reason="needs the PostgreSQL driver psycopg")
    if any(program(name) is None for name in BINARIES):
        pytest.skip(f"needs PostgreSQL's {' and '.join(BINARIES)} (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pulsering-pg-"))
    as_owner = _as_owner(folder)
    run(as_owner, "initdb", "-D", f"{folder}/db", "-U", "pool", "--auth=trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run(
        as_owner,
        "pg_ctl",
        "-D",
        f"{folder}/db",
        "-w",
        "-l",
        f"{folder}/log",
        "-o",
        options,
        "start",
    )
    try:
        yield f"postgresql+psycopg://pool@/postgres?host={folder}"
    finally:
        run(as_owner, "pg_ctl", "-D", f"{folder}/db", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _as_owner(folder: Path) -> list[str]:
    """PostgreSQL does not run as root: hand the folder to its own user then."""
    if os.getuid() != 0:
        return []
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def program(name: str) -> str | None:
    """Path of a PostgreSQL program, of the highest version that the distribution has."""
    folders = sorted(DEBIAN.glob("*/bin"), key=_version, reverse=True)
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)) or "")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", folder.parent.name)))


def run(as_owner: list[str], name: str, *arguments: str) -> None:
    command = [*as_owner, str(program(name)), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")


def publish_at_once(database: str, root: Path) -> Registry:
    """Eight processes' work, four at a time; each opens the pool as if it were the first."""
    signer = Signer.at("cloud", root / "keys")
    trusted = Keyring({"cloud": root / "keys" / "signing.pub"})

    def publish(day: int) -> None:
        registry = Registry(root / "pool", database, trusted)
        release = registry.register(make_release(day), ONNX, signer)
        registry.add_report(release.name, {"look": day})
        registry.promote(release.name, "test", now=float(day))
        registry.close()

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(publish, range(1, 9)))
    return Registry(root / "pool", database, trusted)


def check_pool(registry: Registry) -> None:
    found = registry.releases()
    assert [release.day for release in found] == list(range(1, 9))
    assert [release.status for release in found].count("current") == 1
    assert all(registry.verify(release.name).report for release in found)
    assert list(found[0].input_shapes) == ["z", "a"]
    registry.close()


def test_sqlite_pool_holds_what_was_published_at_once(tmp_path: Path) -> None:
    check_pool(publish_at_once(f"sqlite:///{tmp_path / 'pool.sqlite'}", tmp_path))


def test_postgresql_pool_holds_what_was_published_at_once(postgresql: str, tmp_path: Path) -> None:
    check_pool(publish_at_once(postgresql, tmp_path))
