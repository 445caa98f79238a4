"""The process of an embedded broker: iotcore on a thread of it, or mosquitto as its child."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from common.errors import ConfigError
from simulators.limits import most_connections

Kind = Literal["iotcore", "mosquitto"]

MAX_PAYLOAD_BYTES = 2 << 20
MAX_CONNECTIONS = 20_000
STOP_TIMEOUT_S = 5.0
POLL_S = 0.05
APT = "sudo apt-get install -y mosquitto"

# A filter's log keeps `max_segment_count` segments: 2000 updates of 64 kB that wait for a slow
# reader are 128 MB, and with 10 segments of 1 MB a twentieth of them was lost.
IOTCORE_TOML = """\
id = 0
[router]
id = 0
max_connections = {max_connections}
max_outgoing_packet_count = 200
max_segment_size = 20971520
max_segment_count = 10
[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload}
max_inflight_count = 100
dynamic_filters = true
"""

MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
persistence false
max_packet_size {max_payload}
max_queued_messages 20000
max_inflight_messages 100
"""


def default_kind() -> Kind:
    """What this machine has: iotcore, else mosquitto.

    Raises
    ------
    ConfigError
        When there is neither.
    """
    if find_spec("iotcore"):
        return "iotcore"
    if mosquitto_program():
        return "mosquitto"
    raise ConfigError(f"no MQTT broker here: install mosquitto ({APT})")


def require_kind(kind: str) -> None:
    """Refuse a broker that this machine lacks, before anything is started.

    Raises
    ------
    ConfigError
        With the command that installs it.
    """
    if kind == "mosquitto" and mosquitto_program() is None:
        raise ConfigError(f"mosquitto is not installed: {APT}, or take --broker iotcore")
    if kind == "iotcore" and not find_spec("iotcore"):
        raise ConfigError("iotcore has no wheel for this machine: take --broker mosquitto")


def serve(
    host: str, port: int, kind: Kind, state_dir: Path | None = None, parent: int | None = None
) -> None:
    """Run a broker in this process until SIGINT, SIGTERM or the end of process `parent`.

    Parameters
    ----------
    state_dir : Path, optional
        Where its configuration file is kept; a temporary directory when not given.

    Raises
    ------
    ConfigError
        When the port is in use or this machine lacks `kind`.
    """
    require_free(host, port)
    stop_requested = False

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop_requested
        stop_requested = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request_stop)
    with contextlib.ExitStack() as stack:
        folder = state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        start = _start_iotcore if kind == "iotcore" else _start_mosquitto
        broker = start(_write_config(folder, kind, host, port))
        stack.callback(broker.stop)
        while not stop_requested and (parent is None or os.getppid() == parent):
            if not broker.is_alive():
                raise ConfigError(f"{kind} ended by itself; can {host}:{port} be used?")
            time.sleep(POLL_S)


def require_free(host: str, port: int) -> None:
    """Refuse a port that somebody listens on.

    Raises
    ------
    ConfigError
        With the address named.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as fault:
            raise ConfigError(
                f"port {port} on {host} cannot be used: {fault.strerror}; choose another --port"
            ) from fault


class _Broker(Protocol):
    def is_alive(self) -> bool: ...
    def stop(self) -> None: ...


class _Native:
    """iotcore's broker on a daemon thread: it has no shutdown and ends with the process."""

    def __init__(self, thread: threading.Thread) -> None:
        self.is_alive = thread.is_alive

    def stop(self) -> None:
        pass


class _Child:
    """mosquitto as a child process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT_S)


def _start_iotcore(config: Path) -> _Broker:
    if not find_spec("iotcore"):
        raise ConfigError("iotcore has no wheel for this machine: use --kind mosquitto")
    from iotcore import IotCoreBroker

    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)  # each packet's span comes as an ERROR
    broker = IotCoreBroker(config_path=str(config))
    thread = threading.Thread(target=broker.run_forever, name="broker", daemon=True)
    thread.start()
    return _Native(thread)


def _start_mosquitto(config: Path) -> _Broker:
    program = mosquitto_program()
    if program is None:
        raise ConfigError(f"mosquitto is not installed: {APT}")
    return _Child(subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL))


def mosquitto_program() -> str | None:
    """Path of an installed mosquitto; Debian keeps it where only root's PATH looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _write_config(folder: Path, kind: Kind, host: str, port: int) -> Path:
    form, name = (
        (IOTCORE_TOML, "broker.toml") if kind == "iotcore" else (MOSQUITTO_CONF, "broker.conf")
    )
    text = form.format(
        host=host,
        port=port,
        max_payload=MAX_PAYLOAD_BYTES,
        max_connections=min(MAX_CONNECTIONS, most_connections()),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(text)
    except OSError as fault:
        raise ConfigError(f"state directory {folder}: {fault.strerror}") from fault
    return path
