from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from common.errors import ConfigError, RingError
from regional.rendezvous import Rendezvous


@pytest.fixture
def rendezvous() -> Iterator[Rendezvous]:
    running = Rendezvous("127.0.0.1")
    yield running
    running.stop()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, b""


def test_listens_on_the_configured_address_only(rendezvous: Rendezvous) -> None:
    port = rendezvous.start(("east", "west"))
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=1)


def test_keeps_what_ranks_put(rendezvous: Rendezvous) -> None:
    port = rendezvous.start(("east", "west"))
    assert ask(port, "PUT", "/global/0", b"address")[0] == 200
    assert ask(port, "GET", "/global/0") == (200, b"address")
    assert ask(port, "GET", "/global/1")[0] == 404


def test_a_new_generation_knows_nothing_of_the_last(rendezvous: Rendezvous) -> None:
    first = rendezvous.start(("east", "west"))
    ask(first, "PUT", "/global/0", b"stale")
    second = rendezvous.start(("east", "west"))
    assert ask(second, "GET", "/global/0")[0] == 404
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", first), timeout=1)


def test_stop_closes_the_port_and_may_be_repeated(rendezvous: Rendezvous) -> None:
    port = rendezvous.start(("east",))
    rendezvous.stop()
    rendezvous.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/", 405), ("HEAD", "/etc/passwd", 405), ("GET", "/x", 400), ("GET", "/a/b", 404)],
)
def test_serves_no_files(rendezvous: Rendezvous, method: str, path: str, status: int) -> None:
    assert ask(rendezvous.start(("east",)), method, path)[0] == status


def test_refuses_a_huge_value_before_reading_it(rendezvous: Rendezvous) -> None:
    port = rendezvous.start(("east",))
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"PUT /global/0 HTTP/1.0\r\nContent-Length: 99999999999\r\n\r\n")
        assert b"413" in client.recv(200)


def test_an_address_that_is_not_ours_is_named_before_any_ring() -> None:
    with pytest.raises(ConfigError, match="rendezvous_host"):
        Rendezvous("203.0.113.7").check()
    with pytest.raises(RingError):
        Rendezvous("203.0.113.7").start(("east",))
