"""The proxy lets all through, or just what it is told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import HOST, Proxies, Proxy, Weather

PATIENCE_S = 5.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before a server that gives back what it gets, and ends when its peer does."""
    with socket.create_server((HOST, 0)) as server, Proxies() as proxies:
        threading.Thread(target=echo_all, args=(server,), daemon=True).start()
        yield proxies.add(server.getsockname()[1])


def echo_all(server: socket.socket) -> None:
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=echo, args=(peer,), daemon=True).start()


def echo(peer: socket.socket) -> None:
    with peer:
        try:
            while data := peer.recv(1024):
                peer.sendall(data)
            peer.sendall(b"farewell")
        except OSError:
            return


def connected(proxy: Proxy) -> socket.socket:
    sock = socket.create_connection((HOST, proxy.port), timeout=PATIENCE_S)
    sock.sendall(b"hello")
    assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
    return sock


def heard(sock: socket.socket, timeout_s: float = PATIENCE_S) -> bytes | None:
    """What comes next; None for nothing within the time, empty for the end."""
    sock.settimeout(timeout_s)
    try:
        return sock.recv(1024)
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


def test_brings_bytes_there_and_back(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        data = bytes(range(256)) * 400
        threading.Thread(target=sock.sendall, args=(data,)).start()
        back = b""
        while len(back) < len(data):
            back += sock.recv(1 << 16)
        assert back == data


def test_cut_breaks_connections_and_takes_none_until_cleared(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        proxy.cut()
        assert heard(sock) == b""
    with socket.create_connection((HOST, proxy.port)) as refused:
        assert heard(refused) == b""
    proxy.clear()
    connected(proxy).close()


def test_reset_breaks_connections_and_takes_new_ones(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        proxy.reset()
        assert heard(sock) == b""
    connected(proxy).close()


def test_stalled_bytes_arrive_once_it_is_cleared(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        proxy.weather = Weather(stalled=True)
        sock.sendall(b"later")
        assert heard(sock, 0.2) is None
        proxy.clear()
        assert heard(sock) == b"later"


@pytest.mark.parametrize("weather", [Weather(delay_s=0.1), Weather(bytes_per_s=50.0)])
def test_slow_link_takes_its_time_each_way(proxy: Proxy, weather: Weather) -> None:
    with connected(proxy) as sock:
        proxy.weather = weather
        began = time.monotonic()
        sock.sendall(b"12345")
        assert heard(sock) == b"12345"
        assert time.monotonic() - began >= 0.2


def test_half_closed_connection_still_carries_the_other_way(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        proxy.half_close(towards_broker=True)
        assert heard(sock) == b"farewell"


def test_end_of_one_side_reaches_the_other(proxy: Proxy) -> None:
    with connected(proxy) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert heard(sock) == b"farewell"
        assert heard(sock) == b""
