"""A TCP proxy that can be told to cut, stall, delay, throttle and half-close what goes through it.

It knows nothing of MQTT: a cut comes wherever the bytes happen to be.  All proxies of a region run
in one thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

CHUNK = 4096
POLL_S = 0.01
HOST = "127.0.0.1"


@dataclass
class Weather:
    """What the link does to bytes; changed from another thread, read for each chunk.

    Attributes
    ----------
    open : bool
        Whether connections are taken; a closed link ends the ones that there are.
    stalled : bool
        Whether bytes stand still, with nobody told.
    delay_s : float
        One way, for each chunk, in order.
    bytes_per_s : float or None
        Throughput of each direction; None for no limit.
    """

    open: bool = True
    stalled: bool = False
    delay_s: float = 0.0
    bytes_per_s: float | None = None


class Proxies:
    """One thread with an event loop for all proxies."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, port: int) -> Proxy:
        """A proxy to `port` of this machine, on a port of its own."""
        proxy = Proxy(port, self.call)
        self.run(proxy.listen())
        return proxy

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the thread and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, deed: Callable[[], None]) -> None:
        """Do something soon, in the thread."""
        self._loop.call_soon_threadsafe(deed)


class Proxy:
    """One link; `weather` holds until it is changed."""

    def __init__(self, target: int, call: Callable[[Callable[[], None]], None]) -> None:
        self.weather = Weather()
        self.port = 0
        self._target = target
        self._call = call
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The broker behind it, as an address of MQTT."""
        return f"mqtt://{HOST}:{self.port}"

    def clear(self) -> None:
        """Let all through again."""
        self.weather = Weather()

    def cut(self) -> None:
        """Break every connection and take none until `clear`."""
        self.weather = Weather(open=False)
        self.reset()

    def reset(self) -> None:
        """Break every connection, wherever its bytes are; new ones are taken."""
        self._call(self._abort_all)

    def half_close(self, *, towards_broker: bool) -> None:
        """End one direction of every connection in good order; the other goes on."""
        self._call(lambda: self._end_direction(0 if towards_broker else 1))

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.weather.open:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (far_writer, writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bring bytes from one side to the other, and their end."""
        with suppress(OSError, RuntimeError):  # written to after the end of its direction
            while data := await reader.read(CHUNK):
                await self._endure(len(data))
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def _endure(self, num_bytes: int) -> None:
        weather = self.weather
        seconds = weather.delay_s
        if weather.bytes_per_s:
            seconds += num_bytes / weather.bytes_per_s
        if seconds:
            await asyncio.sleep(seconds)
        while self.weather.stalled:
            await asyncio.sleep(POLL_S)

    def _abort_all(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()

    def _end_direction(self, which: int) -> None:
        for pair in list(self._pairs):
            with suppress(OSError, RuntimeError):
                pair[which].write_eof()


async def _end_all() -> None:
    """End every other task of this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
