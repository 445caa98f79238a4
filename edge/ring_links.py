"""How long a rank's own link held a ring up, as the kernel saw it.

In a ring every member takes as long as the slowest, so its own clock tells a rank nothing of its
link.  The kernel does: TCP_INFO's ``tcpi_busy_time`` counts, for each connection, how long sent
data was on its way to the peer, and stands still while the rank waits for others.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

INFO_BYTES = 192
BUSY_TIME_OFFSET = 168  # of struct tcp_info in linux/tcp.h, since Linux 4.10
MICROSECONDS = 1e6


def busy_s() -> float:
    """Seconds that this process's open TCP connections were busy sending, all together.

    0 where the kernel does not tell.
    """
    descriptors = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    return sum(map(_busy_us, descriptors)) / MICROSECONDS


def _busy_us(descriptor: int) -> int:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return 0
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:  # closed since it was listed, or no TCP socket
        return 0
    if len(info) < INFO_BYTES:
        return 0
    (busy_us,) = struct.unpack_from("<Q", info, BUSY_TIME_OFFSET)
    return int(busy_us)
