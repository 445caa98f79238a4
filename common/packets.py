"""What is taken out of an MQTT 5 packet before paho reads it."""

from __future__ import annotations

MAX_LENGTH_BYTES = 4


def without_properties(body: bytes | bytearray, qos: int) -> bytes | bytearray:
    """A PUBLISH packet's body with an empty list of properties, unread.

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

    Returns
    -------
    bytes
        `body` itself when it has none, or ends before they do.
    """
    start = 2 + int.from_bytes(body[:2], "big") + (2 if qos else 0)
    length = 0
    for place, byte in enumerate(body[start : start + MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if length == 0:
                return body
            end = start + place + 1 + length
            return body[:start] + b"\0" + body[end:] if end <= len(body) else body
    return body
