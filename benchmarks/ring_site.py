"""One site of the ring benchmark's peers: ``python -m benchmarks.ring_site ARM SITE NUM_SITES``.

Obeys JSON lines on stdin and answers on stdout.  It prepares a vector, waits for the moment that
all sites start, exchanges it, and says when it had the result and what the result was.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks import star
from benchmarks.ring_vectors import fingerprint, hospital_sum

Float32 = npt.NDArray[np.float32]
Exchange = Callable[[Float32, int], Float32]  # vector, bytes of a chunk (the star's only)
GLOO_PORT = 29_500
MEANS = ("star",)  # arms that give the mean; the others give the sum


def _star(site: int, num_sites: int, address: str) -> Exchange:
    if site == 0:
        return star.Server(address, num_sites).mean
    client = star.Client(address)
    return lambda vector, chunk_bytes: client.mean(vector)


def _gloo(site: int, num_sites: int, address: str) -> Exchange:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    where = f"tcp://{address}:{GLOO_PORT}"
    dist.init_process_group("gloo", init_method=where, rank=site, world_size=num_sites)

    def exchange(vector: Float32, chunk_bytes: int) -> Float32:
        dist.all_reduce(torch.from_numpy(vector))
        return vector

    return exchange


def _horovod(site: int, num_sites: int, address: str) -> Exchange:
    """As a user calls it; ring and rendezvous come from the environment."""
    import horovod.torch as hvd
    import torch

    torch.set_num_threads(1)
    hvd.init()

    def exchange(vector: Float32, chunk_bytes: int) -> Float32:
        total = hvd.allreduce(torch.from_numpy(vector), op=hvd.Sum, name=f"sum.{vector.size}")
        return np.asarray(total.numpy(), np.float32)

    return exchange


ARMS: dict[str, Callable[[int, int, str], Exchange]] = {
    "star": _star,
    "gloo": _gloo,
    "horovod": _horovod,
}


def main() -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print

    def say(**what: float | str) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    arm, site, num_sites = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    exchange = ARMS[arm](site, num_sites, sys.argv[4])
    say(formed=True)
    vectors: dict[int, Float32] = {}
    for text in sys.stdin:
        size, chunk_bytes = json.loads(text)["size"], json.loads(text)["chunk_bytes"]
        if size not in vectors:
            vectors = {size: hospital_sum(site, size, 16).astype(np.float32)}
        vector = vectors[size].copy()
        say(ready=True)
        time.sleep(max(0.0, json.loads(sys.stdin.readline())["at"] - time.monotonic()))
        result = exchange(vector, chunk_bytes)
        end = time.monotonic()
        say(end=end, fingerprint=fingerprint(result, num_sites if arm in MEANS else 1))


if __name__ == "__main__":
    main()
