"""An MQTT 5 publisher that says anything: packets by OASIS MQTT 5.0, made by hand."""

from __future__ import annotations

import socket
from select import select
from types import TracebackType
from typing import Self

CONNECT_S, ANSWER_S = 20.0, 5.0
KEEPALIVE_S = 600  # it never pings
PUBACK, DISCONNECT = 0x40, 0xE0


def number(value: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    """Bytes behind their length in 16 bits (sections 1.5.4 and 1.5.6), be they UTF-8 or not."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def user_property(key: str | bytes, value: str | bytes) -> bytes:
    """A user property (section 3.3.2.3.7)."""
    return b"\x26" + text(key) + text(value)


def publish_packet(
    topic: str | bytes,
    payload: bytes,
    *,
    properties: bytes = b"",
    qos: int = 1,
    mid: int = 1,
    retain: bool = False,
) -> bytes:
    """A PUBLISH (section 3.3); nothing of it is checked."""
    rest = text(topic) + (mid.to_bytes(2, "big") if qos else b"")
    rest += number(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1 | retain]) + number(len(rest)) + rest


class RawPublisher:
    """One connection with a clean session."""

    def __init__(self, host: str, port: int, client_id: str) -> None:
        self._sock = socket.create_connection((host, port), timeout=CONNECT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = text("MQTT") + b"\x05\x02" + KEEPALIVE_S.to_bytes(2, "big") + b"\0" + text(client_id)
        self._sock.sendall(b"\x10" + number(len(rest)) + rest)
        answer = self._sock.recv(4096)
        assert answer[:1] == b"\x20", f"no CONNACK: {answer!r}"
        self._sock.settimeout(ANSWER_S)
        self.num_unanswered = 0
        self._unread = bytearray()

    def send(self, packet: bytes) -> bytes:
        """Send a packet and return the kind of what comes back; empty when nothing does, or an end."""
        try:
            self._sock.sendall(packet)
            return self._sock.recv(4096)[:1]
        except OSError:
            return b""

    def post(self, packet: bytes, window: int) -> None:
        """Send a PUBLISH at QoS 1 as soon as fewer than `window` of them are unanswered.

        Raises
        ------
        OSError
            When the broker has ended the connection, or answers nothing for `ANSWER_S`.
        """
        self._read(wait=False)
        while self.num_unanswered >= window:
            self._read(wait=True)
        self._sock.sendall(packet)
        self.num_unanswered += 1

    def settle(self) -> None:
        """Wait for every answer; raises as `post` does."""
        while self.num_unanswered:
            self._read(wait=True)

    def _read(self, *, wait: bool) -> None:
        if not wait and not select([self._sock], [], [], 0)[0]:
            return
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError("the broker has ended the connection")
        self._unread += data
        while len(self._unread) >= 2 and len(self._unread) >= 2 + self._unread[1]:
            kind, length = self._unread[0], self._unread[1]  # all answers are shorter than 128
            del self._unread[: 2 + length]
            if kind == PUBACK:
                self.num_unanswered -= 1
            elif kind == DISCONNECT:
                raise ConnectionResetError("the broker has ended the connection")

    def close(self) -> None:
        """End the connection without a farewell."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
