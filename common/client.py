"""Paho's client, deaf to properties, and one with few system calls for an edge node's traffic.

Paho builds objects for the properties and reason of each packet, even where there are none.  It
reads a packet's first byte, each byte of its length and its body by a call of their own, and
sends each packet by itself.  Where another thread computes, each such call also waits for Python's
lock.  `BusyClient` reads ahead what has come, and sends at once all that is to go.

Only methods through which paho itself meets its socket are overridden; what they did is still done.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from common.packets import read_publish

READ_AHEAD = 128 << 10
SEND_AT_ONCE = 64 << 10
_DISCONNECT = 0xE0
_BARE_PUBACK = 2  # a packet id, and so success (OASIS MQTT 5.0, section 3.4.2.1)


class Client(mqtt.Client):
    """Paho's client, deaf to the properties of what is published (`read_publish` says why)."""

    def _handle_publish(self) -> MQTTErrorCode:
        command = self._in_packet["command"]
        qos = command >> 1 & 3
        read = read_publish(self._in_packet["packet"], qos)
        if read is None or qos > 1:  # nothing here subscribes to more
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        message = mqtt.MQTTMessage(read.mid, read.topic)
        message.payload = read.payload
        message.qos, message.retain, message.dup = qos, bool(command & 1), bool(command & 8)
        self._handle_on_message(message)
        if qos == 1 and not self._manual_ack:
            return self._send_puback(read.mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        body = self._in_packet["packet"]
        if len(body) != _BARE_PUBACK or self.on_publish or cmd != "PUBACK":
            return super()._handle_pubackcomp(cmd)
        with self._out_message_mutex:
            message = self._out_messages.pop(int.from_bytes(body, "big"), None)
            if message is None:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            message.info._set_as_published()
            self._inflight_messages -= 1
            return self._update_inflight()


class BusyClient(Client):
    """One that reads ahead and sends at once; it takes 128 KiB of memory for that."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 (paho's own)
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0  # of what was read ahead
        self._unsent = bytearray()
        super().__init__(*arguments, **named)

    def reconnect(self) -> MQTTErrorCode:
        """Connect with nothing left of the connection before."""
        self._start = self._end = 0
        self._unsent.clear()
        return super().reconnect()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle what has come, and what was read ahead, which no selector would tell of."""
        result = super().loop_read(max_packets)
        while result == MQTTErrorCode.MQTT_ERR_SUCCESS and self._start < self._end:
            if self.socket() is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            result = super().loop_read(max_packets)
        return result

    def want_write(self) -> bool:
        """Whether there is something to send."""
        return bool(self._unsent) or super().want_write()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._start == self._end:
            self._start, self._end = 0, self._read_ahead()
        start = self._start
        self._start = min(start + bufsize, self._end)
        return bytes(self._ahead[start : self._start])

    def _read_ahead(self) -> int:
        sock = self.socket()
        if not isinstance(sock, socket.socket):
            raise ConnectionError("there is no socket")
        try:
            return sock.recv_into(self._ahead)
        except ssl.SSLWantReadError as fault:
            raise BlockingIOError from fault
        except ssl.SSLWantWriteError as fault:
            self._call_socket_register_write()
            raise BlockingIOError from fault

    def _packet_write(self) -> MQTTErrorCode:
        result = super()._packet_write()
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self.socket() is None:
            return result
        try:
            self._send_unsent()
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return result

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if len(self._unsent) + len(buf) > SEND_AT_ONCE:
            self._send_unsent()
            if not self._unsent:
                return super()._sock_send(buf)
        self._unsent += buf
        if buf[0] == _DISCONNECT:  # after which paho closes
            with suppress(BlockingIOError):
                self._send_unsent()
        return len(buf)

    def _send_unsent(self) -> None:
        """Send what waits; what the socket does not take goes first next time."""
        while self._unsent:
            num = super()._sock_send(self._unsent)
            del self._unsent[:num]
