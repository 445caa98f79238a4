"""What a hospital's rank does, from its first command to its end.

It holds nothing between rounds and enters one generation in its life; it may die at any moment
without the loss of an update.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TextIO

import numpy.typing as npt

from common import wire
from common.contract import Contract
from common.digest import Tensors, tensors_digest
from common.errors import ContractError, PulseRingError, RingError
from common.fold import Scaled, Sums
from common.mailbox import MAX_FILE_BYTES, write_durably
from common.messages import (
    AggregateHeader,
    LateHeader,
    ModelHeader,
    RingPlan,
    ServerStateHeader,
)
from common.round_sums import sum_shapes
from edge import ring_links, ring_sum
from edge.rank_protocol import Computed, Failed, Join, Joined, line, parse_command

if TYPE_CHECKING:
    from edge.world import World


class Voice:
    """Says events on a file descriptor, each in one write, so that processes may share it."""

    def __init__(self, out: int) -> None:
        self._out = out

    def __call__(self, event: Contract) -> None:
        """Say one event."""
        os.write(self._out, line(event).encode())


def obey(commands: TextIO, say: Voice) -> None:
    """Obey commands until there are no more; any fault ends the process after saying it.

    Never returns.
    """
    from edge import world  # which the keeper has imported

    queue = _queue(commands)
    joined: World | None = None
    try:
        while True:
            command = parse_command(queue.get())
            if not isinstance(command, Join):
                continue
            if joined is None:
                joined = world.World(command)
                say(Joined(generation=joined.generation))
            say(_compute(command, joined))
    except PulseRingError as fault:
        _end(say, fault.message)
    except Exception as fault:  # Horovod's own errors share no root
        _end(say, f"{type(fault).__name__}: {fault}")


def _compute(join: Join, joined: World) -> Computed:
    if join.plan.generation != joined.generation:
        raise RingError(f"in generation {joined.generation}, asked for {join.plan.generation}")
    spec, watch = join.spec, _Stopwatch()
    base = _read(join.base, ModelHeader)
    state: Tensors = {}
    if join.state is not None:
        state = _read(join.state, ServerStateHeader)
    if (tensors_digest(base), tensors_digest(state)) != (spec.base_digest, spec.state_digest):
        raise ContractError("base model or server state are not those of the round")
    late = _late(join.plan, join.late)
    tensors = _read(join.aggregate, AggregateHeader)
    shapes = sum_shapes(spec, wire.shapes_of(base))
    watch.lap("read_s")
    width = ring_sum.width_of(spec, join.plan)
    vector = ring_sum.flatten(tensors, shapes, spec, width)
    watch.lap("pack_s")
    before = ring_links.connections()
    joined.sum(vector)
    watch.lap("allreduce_s")
    watch.note("send_s", ring_links.held_up_s(before, ring_links.connections()))
    sums = ring_sum.unflatten(vector, shapes, width)
    watch.lap("unpack_s")
    result = ring_sum.finish(spec, join.plan, base, state, sums, late)
    watch.lap("step_s")
    write_durably(Path(join.out), result.sums_file)
    watch.lap("write_s")
    return Computed(**result.report.model_dump(), path=join.out, timings=watch.laps)


class _Stopwatch:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.note(name, now - self._since)
        self._since = now

    def note(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self.laps[name] = round(seconds, 6)


def _late(plan: RingPlan, path: str | None) -> Scaled | None:
    """The sums of slow groups that the plan counts with this ring's."""
    if plan.late is None:
        return None
    if path is None:
        raise ContractError("the plan counts late sums that the edge node did not fetch")
    header, tensors = wire.decode(Path(path).read_bytes(), LateHeader, MAX_FILE_BYTES)
    if tensors_digest(tensors) != plan.late.digest:
        raise ContractError("the late sums are not those of the plan")
    return Scaled(Sums(wire.without_prefix("update", tensors), header.weight), header.exponents)


def _read(path: str, kind: type[Contract]) -> dict[str, npt.NDArray[Any]]:
    return wire.decode(Path(path).read_bytes(), kind, MAX_FILE_BYTES)[1]


def _end(say: Voice, reason: str) -> None:
    say(Failed(reason=reason[:500]))
    os._exit(1)  # an orderly hvd.shutdown would wait for peers that may be gone


def _queue(commands: TextIO) -> SimpleQueue[str]:
    """Lines of `commands`; their end means that the keeper is gone, and ends this process."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for text in commands:
            lines.put(text)
        os._exit(0)

    Thread(target=read, name="commands", daemon=True).start()
    return lines
