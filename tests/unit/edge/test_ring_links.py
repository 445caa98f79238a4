from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from edge.ring_links import Sent, connections, held_up_s

SECOND = 1.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(server.getsockname()))
        theirs = stack.enter_context(server.accept()[0])
        yield ours, theirs


def test_kernel_counts_what_a_connection_carried(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    before = connections()
    ours.sendall(bytes(100_000))
    received = 0
    while received < 100_000:
        received += len(theirs.recv(1 << 16))
    ours.sendall(b"1")  # whose acknowledgement carries all before
    theirs.recv(1)
    sent = [
        each.num_bytes - before.get(i, Sent(0, 0)).num_bytes for i, each in connections().items()
    ]
    assert max(sent) >= 100_000


def test_what_is_no_connection_is_passed_over() -> None:
    with socket.socket(socket.AF_UNIX) as local, socket.socket() as unconnected:
        assert local.fileno() != unconnected.fileno()
        connections()


def test_link_is_as_slow_as_the_quicker_of_two_neighbours_was_to_send_to() -> None:
    before = {1: Sent(10, 5.0), 2: Sent(10, 5.0), 3: Sent(0, 0.0)}
    after = {1: Sent(1010, 9.0), 2: Sent(1010, 5.5), 3: Sent(20, 0.1)}
    assert held_up_s(before, after) == 0.5


def test_new_connections_count_from_their_opening() -> None:
    assert held_up_s({}, {1: Sent(1000, 2.0), 2: Sent(900, 3.0)}) == 2.0


@pytest.mark.parametrize("after", [{}, {1: Sent(1000, 2.0)}, {1: Sent(1000, 2.0), 2: Sent(0, 1.0)}])
def test_without_two_neighbours_nothing_is_known(after: dict[int, Sent]) -> None:
    assert held_up_s({}, after) is None
