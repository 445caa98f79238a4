"""Bytes that are no safetensors file: lengths, encodings, nesting, flipped bits, splices."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from typing import Any

from tests.faults.hostile import ANY_BUT_STORED, BOTH, Case, Letter, kind

METADATA = "__metadata__"
HUGE = (1 << 20) + 1, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1
JUNK: tuple[Any, ...] = (None, True, 1.5, -1, "", "x", [], [[]], {}, {"a": 1}, 10**30, 1e300)


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The file's header and body."""
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header, data[8 + length :]


def file_of(header: object, body: bytes, length: int | None = None) -> bytes:
    """A file from its header (JSON, or bytes as they are) and body, with any length claimed."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + body


@kind("malformed")
def empty(case: Case) -> bytes:
    return b""


@kind("malformed")
def truncated(case: Case) -> bytes:
    return case.valid[: case.rng.randrange(len(case.valid))]


@kind("malformed")
def random_bytes(case: Case) -> bytes:
    return case.rng.randbytes(case.rng.randrange(1, 2000))


@kind("malformed")
def text_of_another_kind(case: Case) -> bytes:
    letters = b"\x80\x04", b"PK\x03\x04", b"\x1f\x8b", b"<?xml?>", b"{}", b"GET / HTTP/1.1\r\n"
    return case.rng.choice(letters) + case.valid


@kind("malformed")
def pickled(case: Case) -> bytes:
    return pickle.dumps({"update": case.valid})


@kind("malformed")
def compressed(case: Case) -> bytes:
    return zlib.compress(case.valid)


@kind("malformed")
def header_length_huge(case: Case) -> bytes:
    return struct.pack("<Q", case.rng.choice(HUGE)) + case.valid[8:]


@kind("malformed")
def header_length_zero(case: Case) -> bytes:
    return bytes(8) + case.valid[8:]


@kind("malformed")
def header_length_a_little_off(case: Case) -> bytes:
    (length,) = struct.unpack("<Q", case.valid[:8])
    return struct.pack("<Q", length + case.rng.choice((-9, -2, -1, 1, 2, 9))) + case.valid[8:]


@kind("malformed")
def header_length_beyond_the_file(case: Case) -> bytes:
    return struct.pack("<Q", len(case.valid) + case.rng.randrange(1000)) + case.valid[8:]


@kind("malformed")
def trailing_bytes(case: Case) -> bytes:
    return case.valid + case.rng.randbytes(case.rng.randrange(1, 100))


@kind("oversize")
def oversize(case: Case) -> bytes:
    return case.valid + bytes(1 << 20)


@kind("malformed", "oversize")
def nested_deeply(case: Case) -> bytes:
    depth = case.rng.choice((100, 1000, 30_000))
    bomb = case.rng.choice((b"[", b'{"a":', b'{"__metadata__":')) * depth
    return file_of(bomb, b"")


@kind("malformed")
def numbers_that_json_lacks(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    number = case.rng.choice(("NaN", "Infinity", "-Infinity", "1e400", "9" * 5000, "0x10", "01"))
    text = json.dumps(header).replace('"shape": [', f'"shape": [{number}, ', 1)
    return file_of(text.encode(), body)


@kind("malformed")
def header_that_is_no_text(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    text = json.dumps(header)
    bad = case.rng.choice(
        (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8", b"\0", b'\\ud800"', b"\\x")
    )
    place = text.index(METADATA) + 3
    return file_of(text[:place].encode() + bad + text[place:].encode(), body)


@kind("malformed")
def header_in_another_encoding(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    encoding = case.rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-be", "utf-7"))
    text = json.dumps(header)
    return file_of(
        b"+" + text.encode(encoding) if encoding == "utf-7" else text.encode(encoding), body
    )


@kind("malformed")
def header_of_other_type(case: Case) -> bytes:
    return file_of(case.rng.choice(JUNK), b"")


@kind(*ANY_BUT_STORED)
def bits_flipped(case: Case) -> bytes:
    data = bytearray(case.valid)
    for _ in range(case.rng.choice((1, 1, 1, 2, 8))):
        data[case.rng.randrange(len(data))] ^= 1 << case.rng.randrange(8)
    return bytes(data)


@kind(*ANY_BUT_STORED)
def header_bits_flipped(case: Case) -> bytes:
    data = bytearray(case.valid)
    (length,) = struct.unpack("<Q", data[:8])
    data[case.rng.randrange(8 + length)] ^= 1 << case.rng.randrange(8)
    return bytes(data)


@kind(*ANY_BUT_STORED)
def two_messages_spliced(case: Case) -> bytes:
    subject = case.rng.choice(BOTH)
    one, two = case.valid, case.target.valid(case.other(), subject)
    if case.rng.random() < 0.5:
        (first,), (second,) = struct.unpack("<Q", one[:8]), struct.unpack("<Q", two[:8])
        return one[: 8 + first] + two[8 + second :]
    return one[: case.rng.randrange(len(one))] + two[case.rng.randrange(len(two)) :]


@kind(*ANY_BUT_STORED)
def slices_moved(case: Case) -> bytes:
    data = case.valid
    one, two, three = sorted(case.rng.randrange(len(data)) for _ in range(3))
    return data[:one] + data[two:three] + data[one:two] + data[three:]


@kind("malformed")
def slice_repeated(case: Case) -> Letter | bytes:
    data = case.valid
    start = case.rng.randrange(len(data))
    return (
        data[:start] + data[max(0, start - case.rng.randrange(1, 50)) :] if start else b"x" + data
    )
