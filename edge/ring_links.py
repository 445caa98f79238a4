"""How long a rank's own link held a ring up, as the kernel saw it.

In a ring every member takes as long as the slowest, so its own clock tells a rank nothing of its
link.  The kernel does: TCP_INFO's ``tcpi_busy_time`` counts, for each connection, how long sent
data was on its way to the peer, and stands still while the rank waits for others.  A rank sends to
both its neighbours; what only one of them took long for is that neighbour's link, not this rank's.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INFO_BYTES = 192
ACKED_OFFSET, BUSY_OFFSET = 120, 168  # in struct tcp_info of linux/tcp.h, since Linux 4.10
MICROSECONDS = 1e6
NUM_NEIGHBOURS = 2


@dataclass(frozen=True)
class Sent:
    """What one connection has carried to its peer since it was opened."""

    num_bytes: int
    busy_s: float


def connections() -> dict[int, Sent]:
    """TCP connections of the process by inode; none where the kernel does not tell."""
    seen = (_connection(int(path.name)) for path in Path("/proc/self/fd").iterdir())
    return dict(each for each in seen if each is not None)


def held_up_s(before: Mapping[int, Sent], after: Mapping[int, Sent]) -> float | None:
    """Seconds that sending took to the neighbour that was quicker to send to.

    Neighbours are the two peers that most was sent to; None when nothing was sent to two.
    """
    none = Sent(0, 0.0)
    carried = [
        (
            sent.num_bytes - before.get(inode, none).num_bytes,
            sent.busy_s - before.get(inode, none).busy_s,
        )
        for inode, sent in after.items()
    ]
    most = sorted((each for each in carried if each[0] > 0), reverse=True)[:NUM_NEIGHBOURS]
    if len(most) < NUM_NEIGHBOURS:
        return None
    return max(0.0, min(busy_s for _, busy_s in most))


def _connection(descriptor: int) -> tuple[int, Sent] | None:
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:  # closed since it was listed, or no TCP socket
        return None
    if len(info) < INFO_BYTES:
        return None
    (num_bytes,) = struct.unpack_from("<Q", info, ACKED_OFFSET)
    (busy_us,) = struct.unpack_from("<Q", info, BUSY_OFFSET)
    return status.st_ino, Sent(int(num_bytes), busy_us / MICROSECONDS)
