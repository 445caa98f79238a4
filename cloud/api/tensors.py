"""Tensors of the Open Inference Protocol v2: JSON, and the binary tensor data extension.

With binary tensors a body is a JSON header of ``Inference-Header-Content-Length`` bytes, then the
little-endian row-major bytes of each tensor that states a ``binary_data_size``, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from cloud.api.bodies import Body
from cloud.api.errors import ApiError
from cloud.inference.model import TensorSpec

DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4"}
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_TENSORS = 64
MAX_BRACKETS = 250_000  # 60 bytes or more each once parsed; a nested batch has 3 a beat
MAX_QUOTES = 20_000

Size = Annotated[int, Field(ge=0, le=1 << 31)]
Arrays = dict[str, NDArray[Any]]


class _Tensor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InputParameters(_Tensor):
    """Where an input's data are."""

    binary_data_size: Size | None = None


class InferInput(_Tensor):
    """An input tensor; `data` is flat or nested, or lies behind the header."""

    name: str
    shape: tuple[Size, ...] = Field(max_length=8)
    datatype: str
    parameters: InputParameters = InputParameters()
    data: Any = None


class OutputParameters(_Tensor):
    """How an output is wanted."""

    binary_data: bool | None = None


class InferOutput(_Tensor):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Tensor):
    """How all outputs are wanted."""

    binary_data_output: bool = False


class InferRequest(_Tensor):
    """A request of inference; no outputs named means all of them."""

    id: Annotated[str, Field(max_length=200)] = ""
    parameters: RequestParameters = RequestParameters()
    inputs: tuple[InferInput, ...] = Field(min_length=1, max_length=MAX_TENSORS)
    outputs: tuple[InferOutput, ...] = Field(default=(), max_length=MAX_TENSORS)

    def wants_binary(self, output: InferOutput) -> bool:
        """Whether `output` goes behind the header."""
        own = output.parameters.binary_data
        return self.parameters.binary_data_output if own is None else own


@dataclass(frozen=True)
class Encoded:
    """A body, and the length of its JSON header when binary tensors follow it."""

    body: bytes
    header_length: int | None


def decode(
    body: Body, header_length: str | None, specs: Sequence[TensorSpec]
) -> tuple[InferRequest, Arrays]:
    """Read a request of inference for a model with inputs `specs`.

    Raises
    ------
    ApiError
        400 naming the tensor that does not fit.
    """
    length = _checked_length(header_length, len(body))
    request = _request(body[:length])
    binary = memoryview(body)[length:]
    known = {spec.name: spec for spec in specs}
    arrays: Arrays = {}
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size or 0
        if tensor.name not in known or tensor.name in arrays:
            raise _bad(f"input {tensor.name[:100]!r} is unknown or given twice")
        arrays[tensor.name] = _array(tensor, known[tensor.name], binary[:size])
        binary = binary[size:]
    if len(binary):
        raise _bad(f"{len(binary)} bytes follow the last binary tensor")
    return request, arrays


def encode(request: InferRequest, outputs: Mapping[str, NDArray[Any]], **facts: str) -> Encoded:
    """Write an answer with `facts` such as ``model_name``.

    Raises
    ------
    ApiError
        400 when an output is asked for that the model does not have.
    """
    wanted = request.outputs or tuple(InferOutput(name=name) for name in outputs)
    described, behind = [], []
    for output in wanted:
        if output.name not in outputs:
            raise _bad(f"the model has no output {output.name[:100]!r}")
        array = np.ascontiguousarray(outputs[output.name])
        entry: dict[str, object] = {
            "name": output.name,
            "datatype": _datatype(array),
            "shape": list(array.shape),
        }
        if request.wants_binary(output):
            behind.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
            entry["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            entry["data"] = array.ravel()
        described.append(entry)
    answer: dict[str, Any] = {**facts, "outputs": described}
    if request.id:
        answer["id"] = request.id
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Encoded(b"".join([header, *behind]), len(header) if behind else None)


def _checked_length(stated: str | None, total: int) -> int:
    if stated is None:
        return total
    if not (stated.isascii() and stated.isdigit() and len(stated) < 12 and int(stated) <= total):
        raise _bad(f"{HEADER_LENGTH} is no length within the body")
    return int(stated)


def _request(header: Body) -> InferRequest:
    if header.count(b"[") + header.count(b"{") > MAX_BRACKETS or header.count(b'"') > MAX_QUOTES:
        raise _bad("too many lists, objects or strings; write data flat or send it as binary")
    try:
        parsed: JsonValue = orjson.loads(header)
        return InferRequest.model_validate(parsed)
    except orjson.JSONDecodeError as fault:
        raise _bad(f"the request is no JSON: {fault}") from fault
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        raise _bad(f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg']}") from fault


def _array(tensor: InferInput, spec: TensorSpec, behind: memoryview) -> NDArray[Any]:
    if tensor.datatype != spec.datatype:
        raise _bad(f"input {spec.name} has datatype {spec.datatype}, not {tensor.datatype[:20]!r}")
    if not spec.fits(tensor.shape):
        raise _bad(f"input {spec.name} has shape {list(spec.shape)}, not {list(tensor.shape)}")
    if tensor.parameters.binary_data_size is None:
        flat = _from_json(tensor, spec)
    else:
        flat = _from_bytes(tensor, spec, behind)
    if flat.size != prod(tensor.shape):
        raise _bad(f"input {spec.name} holds {flat.size} numbers for shape {list(tensor.shape)}")
    if not np.isfinite(flat).all():
        raise _bad(f"input {spec.name} holds numbers that are not finite")
    return flat.reshape(tensor.shape)


def _from_bytes(tensor: InferInput, spec: TensorSpec, behind: memoryview) -> NDArray[Any]:
    if tensor.data is not None:
        raise _bad(f"input {spec.name} has both data and binary_data_size")
    dtype = np.dtype(DTYPES[spec.datatype])
    size = tensor.parameters.binary_data_size
    if len(behind) != size or len(behind) % dtype.itemsize:
        raise _bad(f"input {spec.name} states {size} bytes, {len(behind)} are there")
    return np.frombuffer(behind, dtype)


def _from_json(tensor: InferInput, spec: TensorSpec) -> NDArray[Any]:
    try:
        array = np.asarray(tensor.data)
    except ValueError as fault:
        raise _bad(f"data of input {spec.name} are no regular list") from fault
    if array.dtype.kind not in "iuf" and array.size:
        raise _bad(f"data of input {spec.name} are no regular list of numbers")
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        return array.astype(DTYPES[spec.datatype]).ravel()


def _datatype(array: NDArray[Any]) -> str:
    return next(name for name, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype)


def _bad(message: str) -> ApiError:
    return ApiError(400, "invalid_request", message)
