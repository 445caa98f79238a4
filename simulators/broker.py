"""The embedded MQTT 5 broker of demo, tests and simulations: a process of its own on loopback.

iotcore (rumqttd in a pip package) where it has a wheel, else an installed mosquitto.  Neither is
given access control or storage here: production runs mosquitto with the files in `deploy`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import ConfigError
from simulators.broker_process import POLL_S, STOP_TIMEOUT_S, Kind, default_kind, require_free

__all__ = ["EmbeddedBroker", "accepts_sessions", "free_port", "require_free"]

START_TIMEOUT_S = 15.0
PROBE_ID = b"pulsering-probe"


class EmbeddedBroker:
    """A broker in a process of its own, for fixtures and the demo.

    ::

        with EmbeddedBroker() as broker:
            connect(broker.url)

    Parameters
    ----------
    port : int
        On loopback; 0 takes a free one, which stays the same over `stop` and `start`.
    kind : "iotcore" or "mosquitto", optional
        By default what this machine has.
    """

    def __init__(self, port: int = 0, kind: Kind | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.kind = kind or default_kind()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``mqtt://127.0.0.1:port``."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process, 0 when it does not run."""
        return self._process.pid if self.running and self._process else 0

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it accepts an MQTT 5 session.

        Raises
        ------
        ConfigError
            When the port is in use or the broker does not come up within 15 s.
        """
        if self.running:
            return self
        require_free(self.host, self.port)
        command = [sys.executable, "-m", "simulators", "broker", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--kind", self.kind, "--parent", str(os.getpid())],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is for the parent to handle
        )
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        """End it in good order; safe to call twice."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would: sessions and retained messages are lost."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not accepts_sessions(self.host, self.port):
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise ConfigError(f"{self.kind} did not come up on {self.host}:{self.port}")
            time.sleep(POLL_S)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)


def accepts_sessions(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether an MQTT 5 CONNECT to `host`:`port` is answered with success.

    Packets by OASIS MQTT 5.0, sections 3.1 and 3.2.
    """
    body = b"\x00\x04MQTT\x05\x02\x00\x0a\x00" + len(PROBE_ID).to_bytes(2, "big") + PROBE_ID
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as sock:
            sock.sendall(b"\x10" + bytes([len(body)]) + body)
            answer = sock.recv(4, socket.MSG_WAITALL)
            sock.sendall(b"\xe0\x00")
    except OSError:
        return False
    return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])
