from __future__ import annotations

import socket

import pytest

from common.errors import RingError
from edge import interface


def test_loopback_has_its_address_and_an_unknown_interface_none() -> None:
    assert "127.0.0.1" in interface.addresses("lo")
    assert interface.addresses("no-such-if") == []


def test_a_ring_on_an_interface_that_is_not_there_is_refused_by_name() -> None:
    interface.require_address("lo")
    with pytest.raises(RingError, match="'no-such-if' is not here"):
        interface.require_address("no-such-if")


@pytest.mark.parametrize(
    ("local", "own", "stray"),
    [
        ([], ["10.0.0.1"], []),
        (["10.0.0.1"], ["10.0.0.1"], []),
        (["10.0.0.1"], ["10.0.0.1", "fd00::1"], []),
        (["fd00::1", "10.0.0.1"], ["fd00::1"], ["10.0.0.1"]),
        (["192.0.2.7", "10.0.0.2", "10.0.0.1"], ["10.0.0.1"], ["10.0.0.2", "192.0.2.7"]),
        (["127.0.1.1"], ["127.0.0.1", "::1"], []),  # Debian's line for the host's own name
        (["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]),
        (["10.0.0.1"], [], ["10.0.0.1"]),
        (["0.0.0.0"], ["10.0.0.1"], ["0.0.0.0"]),
    ],
)
def test_addresses_outside_an_interface(local: list[str], own: list[str], stray: list[str]) -> None:
    assert interface.outside(local, own) == stray


def test_sockets_that_listen_and_that_are_connected_are_seen_and_others_not() -> None:
    before = interface.tcp_addresses()
    with (
        socket.create_server(("127.0.0.9", 0)) as server,
        socket.create_connection(server.getsockname(), source_address=("127.0.0.8", 0)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    ):
        datagrams.bind(("127.0.0.7", 0))
        assert interface.tcp_addresses() - before == {"127.0.0.8", "127.0.0.9"}
    assert interface.tcp_addresses() == before


def test_a_socket_outside_is_named_with_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not those of this process, in which other tests may have left some to the collector.
    monkeypatch.setattr(interface, "tcp_addresses", lambda: {"127.0.0.1"})
    interface.require_ring_on("lo")
    with pytest.raises(RingError, match=r"127\.0\.0\.1 and not from interface 'no-such-if'"):
        interface.require_ring_on("no-such-if")
