"""Bytes of messages: JSON, or one safetensors file whose metadata holds the JSON header.

The metadata has exactly one key, ``pulsering``, since several would be written in random order.
Decoding checks size first, then the file's form (in safetensors' Rust parser), then the schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from pydantic import ValidationError

from common.contract import Contract
from common.digest import Tensors
from common.errors import ContractError
from common.messages import Reason
from common.packed import Layout, Packed, Place

METADATA_KEY = "pulsering"
MAX_HEADER_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 20
MAX_TENSOR_MESSAGE_BYTES = 8 << 20
_DTYPES = frozenset({"F32", "F64", "I8", "I16", "I64"})

M = TypeVar("M", bound=Contract)


def encode_json(message: Contract) -> bytes:
    """JSON of `message` with sorted keys."""
    return json.dumps(message.model_dump(mode="json"), sort_keys=True).encode()


def decode_json(data: bytes, kind: type[M], max_bytes: int = MAX_JSON_BYTES) -> M:
    """Parse and check a JSON message.

    Raises
    ------
    ContractError
        With ``data["reason"]``: ``oversize``, or ``schema`` when it is no `kind`.
    """
    _check_size(data, max_bytes)
    return _header(data, kind)


def encode(message: Contract, tensors: Tensors) -> bytes:
    """One safetensors file with `message` as its header; the same input gives the same bytes."""
    arrays = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    metadata = {METADATA_KEY: encode_json(message).decode()}
    return safetensors.numpy.save(arrays, metadata=metadata)


def decode(
    data: bytes,
    kind: type[M],
    max_bytes: int = MAX_TENSOR_MESSAGE_BYTES,
    max_header_bytes: int = MAX_HEADER_BYTES,
) -> tuple[M, dict[str, npt.NDArray[Any]]]:
    """Parse and check a message with tensors.

    Parameters
    ----------
    max_header_bytes : int
        Of the file's header, whose entries cost a hundred times more than tensors of their size.

    Returns
    -------
    message : Contract
        Of type `kind`.
    tensors : dict of str to array
        float32, float64, int8, int16 or int64; read-only views of `data`.

    Raises
    ------
    ContractError
        With ``data["reason"]``: ``oversize``, ``malformed`` or ``schema``.
    """
    message, tensors = decode_packed(data, kind, max_bytes, max_header_bytes)
    return message, dict(tensors)


def decode_packed(
    data: bytes,
    kind: type[M],
    max_bytes: int = MAX_TENSOR_MESSAGE_BYTES,
    max_header_bytes: int = MAX_HEADER_BYTES,
) -> tuple[M, Packed]:
    """As `decode`, with tensors that are cut out of `data` only when asked for."""
    _check_size(data, max_bytes)
    length = _header_length(data, max_header_bytes)
    opened = _open_known(data, length) or _open(data, length)
    return _header(opened.metadata, kind), opened.tensors


@dataclass(frozen=True)
class _Opened:
    metadata: str
    tensors: Packed


_HEAD = '{"__metadata__":{"' + METADATA_KEY + '":'
_read_json = json.JSONDecoder().raw_decode
_MAX_KNOWN, _MAX_TABLE = 64, 16 << 10
_known: dict[str, Layout] = {}  # by the header's text behind the metadata's string


def _open_known(data: bytes, length: int) -> _Opened | None:
    """Read a file whose table of tensors was seen in a file that `_open` has accepted.

    The header is that file's but for one JSON string without escaped code points, so it is as
    well-formed.
    """
    try:
        text = str(data[8 : 8 + length], "ascii")
        metadata, table = _split(text)
    except ValueError:
        return None
    layout = _known.get(table)
    if layout is None or len(data) != 8 + length + layout.num_bytes:
        return None
    return _Opened(metadata, Packed(layout, data, 8 + length))


def _open(data: bytes, length: int) -> _Opened:
    try:
        checked = safetensors.numpy.load(data)
        text = data[8 : 8 + length].decode()
        header = json.loads(text)  # whose depth `load` has bounded
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as fault:
        raise _malformed(f"not a safetensors file: {str(fault)[:200]}") from fault
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {METADATA_KEY}:
        raise _malformed(f"metadata must have the one key {METADATA_KEY}")
    for name, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise _malformed(f"tensor {name[:80]} has dtype {entry['dtype']}")
    layout = _layout(header, checked, len(data) - 8 - length)
    _remember(text, layout)
    return _Opened(metadata[METADATA_KEY], Packed(layout, data, 8 + length))


def _layout(header: Mapping[str, Any], checked: Tensors, num_bytes: int) -> Layout:
    places = {
        name: Place(tensor.dtype, tensor.shape, header[name]["data_offsets"][0])
        for name, tensor in sorted(checked.items())
    }
    end = 0
    for place in sorted(places.values(), key=lambda place: (place.start, place.end)):
        if place.start != end:
            raise _malformed("its tensors do not lie one after another")
        end = place.end
    if end != num_bytes or len(header) != len(places):
        raise _malformed("its header does not name its tensors, each once")
    return Layout(places)


def _remember(text: str, layout: Layout) -> None:
    try:
        _, table = _split(text)
    except ValueError:
        return
    if len(table) <= _MAX_TABLE:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[table] = layout


def _split(text: str) -> tuple[str, str]:
    """Metadata and what follows it, padding aside."""
    if not text.startswith(_HEAD + '"'):
        raise ValueError
    metadata, end = _read_json(text, len(_HEAD))
    if "\\u" in text[:end]:  # where Python and Rust could differ: half a surrogate pair
        raise ValueError
    if text[end : end + 1] != "}":  # a second key, which may be the same again and then wins
        raise ValueError
    return metadata, text[end:].rstrip(" ")


def with_prefix(prefix: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
    """The same tensors, named ``{prefix}/{name}``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
    """Tensors named ``{prefix}/{name}``, by ``name``; others are left out."""
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def shapes_of(tensors: Tensors) -> Mapping[str, tuple[int, ...]]:
    """Shape of each tensor by name."""
    return {name: tuple(np.shape(tensor)) for name, tensor in sorted(tensors.items())}


def _header_length(data: bytes, most: int) -> int:
    length = int.from_bytes(data[:8], "little")
    if length > most:
        raise _malformed(f"its header has {length} bytes, more than {most}")
    return length


def _header(data: bytes | str, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(data)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        raise ContractError(
            f"not a valid {kind.__name__}: {where}: {first['msg'][:200]}", reason=Reason.SCHEMA
        ) from fault


def _check_size(data: bytes, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise ContractError(
            f"message of {len(data)} bytes exceeds {max_bytes}", reason=Reason.OVERSIZE
        )


def _malformed(why: str) -> ContractError:
    return ContractError(why, reason=Reason.MALFORMED)
