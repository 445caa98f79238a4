"""A memory limit on a group of processes, which the kernel enforces on their sum (Linux, root)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
REMOVE_TIMEOUT_S = 10.0
JOIN = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True)
class Group:
    """A control group; `version` is that of the kernel's interface, 1 or 2."""

    folder: Path
    version: int

    def limit(self, num_bytes: int) -> None:
        """Let all its processes together have at most so much memory, page cache included."""
        names = {1: "memory.limit_in_bytes", 2: "memory.max"}
        (self.folder / names[self.version]).write_text(str(num_bytes))

    def command(self, arguments: Sequence[str]) -> list[str]:
        """`arguments` as a command that runs in the group, under the process id of `sh`."""
        return ["sh", "-c", JOIN, str(self.folder / "cgroup.procs"), *arguments]

    def pids(self) -> list[int]:
        """Its processes."""
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def peak_bytes(self) -> int:
        """Most memory that was charged to it at once, page cache included."""
        names = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
        return int((self.folder / names[self.version]).read_text())

    def num_killed(self) -> int:
        """Processes that the kernel killed because the limit was reached."""
        names = {1: "memory.oom_control", 2: "memory.events"}
        words = (self.folder / names[self.version]).read_text().split()
        return int(words[words.index("oom_kill") + 1])


@contextmanager
def group(name: str) -> Iterator[Group]:
    """A group of that name, taken away at the end, when its processes have ended.

    Raises
    ------
    ConfigError
        When none can be made here.
    """
    parent, version = _parent()
    made = Group(parent / name, version)
    try:
        made.folder.mkdir()
    except OSError as fault:
        raise ConfigError(f"no memory limit can be set here: {made.folder}: {fault}") from fault
    try:
        yield made
    finally:
        _remove(made)


def _parent() -> tuple[Path, int]:
    """Where a group with a memory limit can be made: below our own (version 1), or at the root."""
    for line in OWN.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / path.lstrip("/"), 1
    given = ROOT / "cgroup.subtree_control"
    if given.exists() and "memory" in given.read_text().split():
        return ROOT, 2
    raise ConfigError("no memory limit can be set here: the kernel offers no memory control group")


def _remove(made: Group) -> None:
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while made.pids() and time.monotonic() < deadline:
        time.sleep(0.1)
    with suppress(OSError):  # a process that would not end
        os.rmdir(made.folder)  # noqa: PTH106 -- Path.rmdir is the same call
