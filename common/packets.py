"""MQTT 5 packets as far as paho is not asked to read them."""

from __future__ import annotations

from typing import NamedTuple

MAX_LENGTH_BYTES = 4


class Published(NamedTuple):
    """What a PUBLISH packet brings, its properties aside; `mid` is 0 at QoS 0."""

    topic: bytes
    mid: int
    payload: bytes


def read_publish(body: bytes | bytearray, qos: int) -> Published | None:
    """Read a PUBLISH packet's body; None when it ends before its payload begins.

    Nothing here uses a stranger's properties, and paho must not meet them: it ends the connection
    over some that brokers let pass, such as U+FEFF in a user property.  The broker would bring such
    a message again after each reconnect, and nothing else would ever be heard.  Many properties
    also cost paho their number squared.

    Parameters
    ----------
    body : bytes
        What follows the fixed header (OASIS MQTT 5.0, section 3.3.2).
    qos : int
        From the fixed header, 0 to 2.
    """
    topic_end = 2 + int.from_bytes(body[:2], "big")
    start = topic_end + (2 if qos else 0)
    mid = int.from_bytes(body[topic_end:start], "big")
    length = 0
    for place, byte in enumerate(body[start : start + MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            end = start + place + 1 + length
            if end > len(body):
                return None
            return Published(bytes(body[2:topic_end]), mid, bytes(memoryview(body)[end:]))
    return None
