"""The arms of the ring benchmark: processes in all sites that exchange one vector at a time.

The processes of an arm stand still (SIGSTOP) while another is measured, so that Horovod's
background threads take no processor time from its peers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from benchmarks.netns import INTERFACE, Lan
from benchmarks.results_file import REPOSITORY
from benchmarks.ring_rank import BARRIER
from benchmarks.ring_round import WAIT_S, Ring, Round
from benchmarks.ring_vectors import expected_sum, fingerprint
from common import fixedpoint
from common.errors import ParityError, RingError
from edge.rank_process import KEEP_MEMORY
from edge.rank_protocol import Computed, Joined, Warm, line, parse_event

LEAD_S = 0.1  # between the word and the start, so that all have heard it
WHOLE = 1 << 30  # bytes of a chunk that no payload reaches
Said = TypeVar("Said", Computed, Joined, Warm)


def environment(**more: str) -> dict[str, str]:
    """What every process of the benchmark gets."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "GLOO_SOCKET_IFNAME": INTERFACE,  # of torch.distributed
        **more,
    }


@dataclass(frozen=True)
class Measured:
    """Seconds from the common start to the last site's result, and parts of it where known."""

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


class _Processes:
    """One process a site, all of them ours to stop and to end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.signal(signal.SIGKILL)
        for child in self.children:
            child.communicate()

    def own(self, child: subprocess.Popen[str]) -> subprocess.Popen[str]:
        self.children.append(child)
        return child

    def signal(self, number: signal.Signals) -> None:
        """To every process and what it forked: each leads a group of its own."""
        for child in self.children:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)


def rendezvous(lan: Lan, members: tuple[str, ...], owner: _Processes) -> int:
    """Serve a ring's rendezvous on the switch's address and return its port."""
    program = [sys.executable, "-m", "benchmarks.ring_rendezvous", lan.hub.address, *members]
    server = lan.hub.start(program, environment())
    owner.own(server)
    return int(_line(server))


class Peers(_Processes):
    """An arm of `benchmarks.ring_site`."""

    def __init__(self, lan: Lan, arm: str) -> None:
        super().__init__()
        self._num, members = len(lan.sites), tuple(f"site-{i}" for i in range(len(lan.sites)))
        port = rendezvous(lan, members, self) if arm == "horovod" else 0
        program = [sys.executable, "-m", "benchmarks.ring_site", arm]
        self._sites = [
            self.own(
                site.start(
                    [*program, str(i), str(self._num), lan.sites[0].address],
                    environment(**(_horovod(i, members, lan.hub.address, port) if port else {})),
                )
            )
            for i, site in enumerate(lan.sites)
        ]
        for site in self._sites:
            _line(site)
        self.signal(signal.SIGSTOP)

    def run(self, size: int, chunk_bytes: int = WHOLE) -> Measured:
        """Exchange vectors of `size` float32 numbers once."""
        self.signal(signal.SIGCONT)
        self._say(size=size, chunk_bytes=chunk_bytes)
        for site in self._sites:
            _line(site)
        at = time.monotonic() + LEAD_S
        self._say(at=at)
        said = [json.loads(_line(site)) for site in self._sites]
        self.signal(signal.SIGSTOP)
        _same({one["fingerprint"] for one in said}, _fingerprint(self._num, size))
        return Measured(max(one["end"] for one in said) - at)

    def _say(self, **what: float) -> None:
        for site in self._sites:
            _tell(site, json.dumps(what) + "\n")


class Ours(_Processes):
    """Real ranks, told to join as their edge nodes tell them, several rounds in one ring."""

    def __init__(self, lan: Lan, folder: Path) -> None:
        super().__init__()
        self._folder, self._round_id = folder, 0
        folder.mkdir(parents=True)
        members = tuple(f"site-{i}" for i in range(len(lan.sites)))
        port = rendezvous(lan, members, self)
        self._ring = Ring(members, lan.hub.address, port, INTERFACE)
        self._rounds: dict[tuple[int, fixedpoint.Bits], Round] = {}
        barrier = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        barrier.bind(str(folder / "barrier"))
        barrier.listen(len(members))
        at_barrier = environment(**KEEP_MEMORY, **{BARRIER: str(folder / "barrier")})
        program = [sys.executable, "-m", "benchmarks.ring_rank"]
        self._ranks = [self.own(site.start(program, at_barrier)) for site in lan.sites]
        self._barriers = [
            self._stack.enter_context(barrier.accept()[0].makefile("rw")) for _ in members
        ]
        for rank in self._ranks:
            _expect(rank, Warm)
        self._formed = False
        self.signal(signal.SIGSTOP)

    def run(self, size: int, bits: fixedpoint.Bits = 16) -> Measured:
        """One round of a model of `size` parameters: pack, allreduce, unpack."""
        if (size, bits) not in self._rounds:
            folder = self._folder / f"{size}-{bits}"
            self._rounds[size, bits] = Round(folder, self._ring, size, bits)
        work = self._rounds[size, bits]
        self._round_id += 1
        self.signal(signal.SIGCONT)
        for number, rank in enumerate(self._ranks):
            _tell(rank, line(work.join(number, self._round_id)))
        if not self._formed:
            for rank in self._ranks:
                _expect(rank, Joined)
            self._formed = True
        at, times = self._pass_barrier()
        said = [_expect(rank, Computed) for rank in self._ranks]
        self.signal(signal.SIGSTOP)
        _same({one.sums_digest for one in said}, work.sums_digest)
        packed, summed, unpacked = (max(column) for column in zip(*times, strict=True))
        parts = {"pack_s": packed - at, "allreduce_s": summed - packed}
        return Measured(unpacked - at, parts | {"unpack_s": unpacked - summed})

    def _pass_barrier(self) -> tuple[float, list[list[float]]]:
        for gate in self._barriers:
            if not gate.readline():
                self._explain()
        at = time.monotonic() + LEAD_S
        for gate in self._barriers:
            gate.write(f"{at!r}\n")
            gate.flush()
        times = [gate.readline().split() for gate in self._barriers]
        if not all(times):
            self._explain()
        return at, [[float(moment) for moment in site] for site in times]

    def _explain(self) -> None:
        for rank in self._ranks:
            _expect(rank, Computed)
        raise RingError("a rank ended without a word")


def _horovod(rank: int, members: tuple[str, ...], host: str, port: int) -> dict[str, str]:
    """Where the ring is, as `horovodrun` says it; all else stays Horovod's default."""
    size = str(len(members))
    return {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": INTERFACE,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(int(WAIT_S)),
        "HOROVOD_HOSTNAME": members[rank],
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": size,
        "HOROVOD_LOCAL_RANK": "0",
        "HOROVOD_LOCAL_SIZE": "1",
        "HOROVOD_CROSS_RANK": str(rank),
        "HOROVOD_CROSS_SIZE": size,
    }


def _fingerprint(num_sites: int, size: int) -> str:
    known = _KNOWN.get((num_sites, size))
    if known is None:
        known = _KNOWN[num_sites, size] = fingerprint(expected_sum(num_sites, size, 16))
    return known


_KNOWN: dict[tuple[int, int], str] = {}


def _same(found: set[str], expected: str) -> None:
    if found != {expected}:
        raise ParityError("an arm's result is not the sum of the sites' vectors")


def _expect(rank: subprocess.Popen[str], kind: type[Said]) -> Said:
    event = parse_event(_line(rank))
    if not isinstance(event, kind):
        raise RingError(f"a rank said {event}")
    return event


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    text = child.stdout.readline()
    if not text:
        raise RingError(f"a process of the benchmark ended: {child.args!r}")
    return text


def _tell(child: subprocess.Popen[str], text: str) -> None:
    assert child.stdin is not None
    child.stdin.write(text)
    child.stdin.flush()
