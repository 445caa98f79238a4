"""The keeper of a hospital's ranks: ``python -m edge.rank``, started by its edge node.

It imports torch and Horovod once and then forks a rank, which waits for a plan; when that is lost,
or given up with its generation, the next is there within milliseconds instead of seconds.  A rank
enters one generation in its life: Horovod aborts the process in some failures, and one path that
always works beats two.  The keeper itself never joins a ring, so no ring can harm it.

Commands come from stdin, one JSON object a line, and go on to the living rank; events go to stdout,
the ranks' own among them.  The end of stdin ends both.
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import sys
from contextlib import suppress

from common.errors import ContractError
from edge.rank_protocol import Lost, Renew, Stop, Warm, parse_command
from edge.rank_work import Voice, obey

PR_SET_PDEATHSIG = 1
CHUNK = 64 << 10


def main() -> None:
    """Keep one rank at a time until told to stop, or until the edge node is gone."""
    say = Voice(_own_stdout())
    _die_with_parent()
    from edge import world  # noqa: F401 -- slow, and shared by every rank that is forked from here

    gc.collect()
    gc.freeze()  # so that collecting in a rank does not copy the pages that it shares with us
    Keeper(say).run()


class Keeper:
    """Forks ranks and passes commands on to them; one thread, since it forks."""

    def __init__(self, say: Voice) -> None:
        self._say = say
        self._events = selectors.DefaultSelector()
        self._unread = b""
        self._pid, self._pidfd, self._commands = 0, -1, -1

    def run(self) -> None:
        """Go on until ``stop`` or the end of stdin."""
        self._events.register(0, selectors.EVENT_READ)
        self._hatch()
        while True:
            ready = {key.fd for key, _ in self._events.select()}
            if self._pidfd in ready:
                self._mourn()
                self._hatch()
            if 0 in ready and not self._listen():
                self._bury()
                os._exit(0)

    def _hatch(self) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(writing)
            _be_a_rank(reading, self._say)
        os.close(reading)
        self._commands = writing
        self._pidfd = os.pidfd_open(self._pid)
        self._events.register(self._pidfd, selectors.EVENT_READ)
        self._say(Warm(pid=self._pid))

    def _mourn(self) -> None:
        """Reap the rank that died, and say so."""
        self._events.unregister(self._pidfd)
        os.close(self._pidfd)
        os.close(self._commands)
        _, status = os.waitpid(self._pid, 0)
        self._say(Lost(pid=self._pid, code=os.waitstatus_to_exitcode(status)))

    def _bury(self) -> None:
        """Kill the rank, which may be stopped or hang."""
        os.kill(self._pid, signal.SIGKILL)
        self._mourn()

    def _listen(self) -> bool:
        """Take commands in; false when there will be no more."""
        data = os.read(0, CHUNK)
        *lines, self._unread = (self._unread + data).split(b"\n")
        return bool(data) and all(self._heard(line) for line in lines)

    def _heard(self, line: bytes) -> bool:
        command = parse_command(line.decode())
        if isinstance(command, Renew):
            if command.pid == self._pid:
                self._bury()
                self._hatch()
        elif isinstance(command, Stop):
            return False
        else:
            with suppress(BrokenPipeError):  # it has just died, which is said in a moment
                os.write(self._commands, line + b"\n")
        return True


def _be_a_rank(commands: int, say: Voice) -> None:
    """Never return."""
    try:
        _die_with_parent()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        obey(os.fdopen(commands), say)
    finally:
        os._exit(1)


def _own_stdout() -> int:
    """Keep stdout for events; what torch and Horovod print goes to stderr."""
    ours = os.dup(1)
    os.dup2(2, 1)
    return ours


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except ContractError as fault:
        sys.exit(f"edge.rank: {fault.message}")
