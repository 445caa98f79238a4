"""The ring's plainest peer: one site gathers all vectors over TCP, averages, and sends the mean back.

Written to be as fast as a star can be without leaving Python: connections live on, all are served
at once, nothing is copied or allocated on the way.  With `chunk_bytes` below the payload the site
sends each chunk back as soon as all have brought theirs, so that both directions are busy at once,
which parameter servers as they are used do not do.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Lock, Thread

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
PORT = 29_400
CONNECT_WITHIN_S = 30.0


class Server:
    """The site that gathers; it is one of the `num_sites` and brings a vector of its own."""

    def __init__(self, address: str, num_sites: int) -> None:
        with socket.create_server((address, PORT), backlog=num_sites) as listening:
            self._clients = [_prepared(listening.accept()[0]) for _ in range(num_sites - 1)]
        self._rooms: dict[int, list[Float32]] = {}

    def mean(self, vector: Float32, chunk_bytes: int) -> Float32:
        """Mean of all sites' vectors, in place of `vector`; returns when all sites were served."""
        chunks = _Chunks(vector, chunk_bytes, len(self._clients))
        rooms = self._rooms_for(vector.size)
        work: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        for client, room in zip(self._clients, rooms, strict=True):
            work += [(_gather, (client, room, chunks)), (_hand_out, (client, chunks))]
        _at_once(work)
        return vector

    def _rooms_for(self, size: int) -> list[Float32]:
        if size not in self._rooms:
            self._rooms = {size: [np.zeros(size, np.float32) for _ in self._clients]}
        return self._rooms[size]


class Client:
    """A site that sends its vector and gets the mean."""

    def __init__(self, address: str) -> None:
        self._server = _prepared(_connected(address))
        self._room = np.zeros(0, np.float32)

    def mean(self, vector: Float32) -> Float32:
        """Mean of all sites' vectors; the array is used again by the next call."""
        if self._room.size != vector.size:
            self._room = np.ones_like(vector)
        _at_once([(self._server.sendall, (_bytes(vector),)), (self._receive, ())])
        return self._room

    def _receive(self) -> None:
        _fill(self._server, _bytes(self._room))


class _Chunks:
    """Pieces of the total: added to as they come, ready when all sites' have."""

    def __init__(self, total: Float32, chunk_bytes: int, num_clients: int) -> None:
        self._total, self._step = total, max(1, chunk_bytes // total.itemsize)
        self._starts = range(0, total.size, self._step)
        self._lock = Lock()
        self._missing = [num_clients] * len(self._starts)
        self._num_sites = np.float32(num_clients + 1)
        self._ready = [Event() for _ in self._starts]

    def slices(self) -> Iterator[tuple[int, slice]]:
        for number, start in enumerate(self._starts):
            yield number, slice(start, start + self._step)

    def add(self, number: int, where: slice, values: Float32) -> None:
        with self._lock:
            total = self._total[where]
            np.add(total, values, out=total)
            self._missing[number] -= 1
            if not self._missing[number]:
                np.divide(total, self._num_sites, out=total)
                self._ready[number].set()

    def wait(self) -> Iterator[Float32]:
        for number, where in self.slices():
            self._ready[number].wait()
            yield self._total[where]


def _gather(client: socket.socket, room: Float32, chunks: _Chunks) -> None:
    for number, where in chunks.slices():
        _fill(client, _bytes(room[where]))
        chunks.add(number, where, room[where])


def _hand_out(client: socket.socket, chunks: _Chunks) -> None:
    for mean in chunks.wait():
        client.sendall(_bytes(mean))


def _at_once(work: Iterable[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    threads = [Thread(target=what, args=arguments) for what, arguments in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _bytes(vector: Float32) -> memoryview:
    return vector.view(np.uint8).data


def _fill(connection: socket.socket, room: memoryview) -> None:
    start = 0
    while start < len(room):
        num = connection.recv_into(room[start:])
        if not num:
            raise ConnectionError("the other side of the star has gone")
        start += num


def _prepared(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _connected(address: str) -> socket.socket:
    deadline = time.monotonic() + CONNECT_WITHIN_S
    while True:
        try:
            return socket.create_connection((address, PORT))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
