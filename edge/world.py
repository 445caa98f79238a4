"""One Horovod world.  Only the rank's process imports this module, since it imports torch."""

from __future__ import annotations

import math
import os

import horovod.torch as hvd
import numpy as np
import numpy.typing as npt
import torch

from edge import interface
from edge.rank_protocol import Join


def environment(join: Join) -> dict[str, str]:
    """The variables by which Horovod finds its ring, and the bounds of its waits."""
    rank, size = str(join.rank), str(len(join.plan.members))
    trace = {"HOROVOD_TIMELINE": join.trace} if join.trace else {}
    return trace | {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": join.plan.rendezvous_host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(join.plan.rendezvous_port),
        "HOROVOD_GLOO_IFACE": join.interface,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(math.ceil(join.plan.timeout_s)),
        "HOROVOD_HOSTNAME": join.hospital,
        "HOROVOD_RANK": rank,
        "HOROVOD_SIZE": size,
        "HOROVOD_LOCAL_RANK": "0",
        "HOROVOD_LOCAL_SIZE": "1",
        "HOROVOD_CROSS_RANK": rank,
        "HOROVOD_CROSS_SIZE": size,
        "HOROVOD_CYCLE_TIME": str(join.cycle_ms),
    }


class World:
    """The ring a rank is in, for the rest of its life.

    Returns from the constructor when all members are there; when one stays away, Horovod ends the
    process after its time limit.
    """

    def __init__(self, join: Join) -> None:
        torch.set_num_threads(1)
        os.environ.update(environment(join))
        interface.require_address(join.interface)  # without one, Gloo aborts the process wordlessly
        hvd.init()
        interface.require_ring_on(join.interface)
        self.generation = join.plan.generation

    def sum(self, vector: npt.NDArray[np.int64]) -> None:
        """Replace `vector`, shape (n,), by the sum of all ranks' vectors, by one allreduce.

        In place, so that nothing is copied; sums wrap around as 64-bit integers do.

        Raises
        ------
        horovod.common.exceptions.HorovodInternalError
            When a peer was lost.
        """
        hvd.allreduce_(torch.from_numpy(vector), op=hvd.Sum, name=f"sum.{vector.size}")
