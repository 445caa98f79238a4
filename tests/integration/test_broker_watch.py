"""A broker that ends every session which asks for ``$SYS`` is asked a few times, and then left alone."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from edge import broker_watch
from edge.broker_watch import MAX_REFUSALS, BrokerMeters, BrokerWatch

CONNACK = b"\x20\x03\x00\x00\x00"  # success, without properties (OASIS MQTT 5.0, 3.2)
QUIET_S = 0.5


def refuse_all(server: socket.socket, sessions: list[float]) -> None:
    """Welcome each session and end it when it asks for anything."""
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            sessions.append(time.monotonic())
            peer.recv(1024)
            peer.sendall(CONNACK)
            peer.recv(1024)


def test_stops_asking_a_broker_that_ends_its_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_watch, "MIN_DELAY_S", 0.02)
    sessions: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse_all, args=(server, sessions), daemon=True).start()
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        watch = BrokerWatch(url, "watch", BrokerMeters(CollectorRegistry()))
        watch.start()
        deadline = time.monotonic() + 10
        while not sessions or time.monotonic() < sessions[-1] + QUIET_S:
            assert time.monotonic() < deadline, f"{len(sessions)} sessions"
            time.sleep(0.02)
        watch.stop()
    assert len(sessions) == MAX_REFUSALS + 1
