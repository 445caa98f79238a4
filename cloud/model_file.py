"""ONNX files: what may stand in one, checked before a session is made of it.

onnxruntime makes a session of any graph, also of one that asks for 256 GiB at its first row.  So
size, operators, shapes of all intermediate values, inputs and outputs are checked first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types
from onnx import (
    ModelProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    numpy_helper,
    shape_inference,
)
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from cloud.pool_files import MAX_MODEL_BYTES
from cloud.registry import Registry
from cloud.release import Release
from common.errors import ContractError

OPSET = 18
OUTPUT = "scores"
MAX_ELEMENTS_PER_ROW = 1 << 16
"""Largest intermediate value for one example; the beat net's has 2048."""

_ALLOWED = """
Abs Add ArgMax AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Erf
Exp Flatten Gather Gemm GlobalAveragePool GlobalMaxPool Identity InstanceNormalization LeakyRelu
Log MatMul Max MaxPool Min Mul Neg Pow Reciprocal ReduceMax ReduceMean ReduceMin
ReduceSum Relu Reshape Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose
Unsqueeze Where
"""
OPERATORS = frozenset(_ALLOWED.split())
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")

# They have no class in common below Exception.
_RUNTIME_FAULTS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


def check_graph(
    onnx_bytes: bytes, input_shapes: Mapping[str, tuple[int, ...]], num_classes: int
) -> None:
    """Check that bytes are a model of the released form, without running any of it.

    Parameters
    ----------
    onnx_bytes : bytes
        An ONNX file without external data.
    input_shapes : mapping of str to tuple of int
        Shape per example of each float32 input, in the order of the graph's inputs.
    num_classes : int
        C of the output ``scores`` (B, C).

    Raises
    ------
    ContractError
        When it is too large, no valid ONNX, uses an operator that is not allowed, could ask for
        much memory, or has other inputs or outputs.
    """
    if len(onnx_bytes) > MAX_MODEL_BYTES:
        raise ContractError(
            f"the ONNX file has {len(onnx_bytes)} bytes, more than {MAX_MODEL_BYTES}"
        )
    try:
        model = onnx.load_model_from_string(onnx_bytes)
        _check_operators(model)
        onnx.checker.check_model(model, full_check=True)
        _check_scales(model)
        _check_shapes(model)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as fault:
        raise ContractError(f"no valid ONNX file: {str(fault).splitlines()[0][:200]}") from fault
    expected = [(name, (None, *shape)) for name, shape in input_shapes.items()]
    if [_signature(value) for value in model.graph.input] != expected:
        raise ContractError(f"the ONNX file does not take the inputs {', '.join(input_shapes)}")
    if [_signature(value) for value in model.graph.output] != [(OUTPUT, (None, num_classes))]:
        raise ContractError(f"the ONNX file does not give {OUTPUT} (B, {num_classes})")


def make_session(onnx_bytes: bytes) -> onnxruntime.InferenceSession:
    """Open a checked graph on one thread of the CPU: the service runs many requests beside it.

    Raises
    ------
    ContractError
        When this onnxruntime cannot run the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    except _RUNTIME_FAULTS as fault:
        reason = str(fault).splitlines()[0][:200]
        raise ContractError(f"onnxruntime cannot open the ONNX file: {reason}") from fault


def open_session(registry: Registry, release: Release) -> onnxruntime.InferenceSession:
    """Open a release for inference: signature and digest first, then its graph, then a session.

    Raises
    ------
    ContractError
        When its files are not what was signed or the graph is not of the released form.
    """
    signed, onnx_bytes = registry.verified_model(release.name)
    check_graph(onnx_bytes, signed.input_shapes, len(signed.labels))
    return make_session(onnx_bytes)


def _check_operators(model: ModelProto) -> None:
    graph = model.graph
    if [(opset.domain, opset.version) for opset in model.opset_import] != [("", OPSET)]:
        raise ContractError(f"the ONNX file is not of opset {OPSET} alone")
    foreign = sorted({n.op_type for n in graph.node if n.domain or n.op_type not in OPERATORS})
    if foreign or model.functions:
        raise ContractError(f"operators that are not allowed: {', '.join(foreign) or 'functions'}")
    if any(a.HasField("g") or a.graphs for n in graph.node for a in n.attribute):
        raise ContractError("the ONNX file has a graph inside a node")
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute)]
    if graph.sparse_initializer or any(_is_external(tensor) for tensor in tensors):
        raise ContractError("the ONNX file has external or sparse tensors")
    for tensor in tensors:
        if min(tensor.dims, default=1) < 0 or prod(tensor.dims) > MAX_MODEL_BYTES:
            raise ContractError(f"tensor {tensor.name[:80]!r} in the ONNX file is too large")


def _check_scales(model: ModelProto) -> None:
    """A step between integers is stated in the file and never nothing, endless or negative."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in (n for n in model.graph.node if n.op_type in QUANTIZERS):
        if any(name and name not in constants for name in node.input[1:]):
            raise ContractError(f"{node.op_type} has a scale or zero point that is no constant")
        scale = numpy_helper.to_array(constants[node.input[1]])
        if scale.ndim > 1 or not ((scale > 0) & (scale < np.inf)).all():
            raise ContractError(f"{node.op_type} has a scale that is not finite and positive")


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == TensorProto.EXTERNAL


def _check_shapes(model: ModelProto) -> None:
    """Infer all shapes anew, not trusting those stated, and bound every value for one example."""
    bare = ModelProto()
    bare.CopyFrom(model)
    bare.graph.ClearField("value_info")
    inferred = shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True).graph
    known = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    for name in (name for node in inferred.node for name in node.output if name):
        if name not in known or not _is_small(known[name].type):
            raise ContractError(f"the size of {name[:80]!r} in the ONNX file is not bounded")


def _is_small(kind: TypeProto) -> bool:
    if not kind.tensor_type.HasField("shape"):
        return False
    dims = kind.tensor_type.shape.dim
    first_or_fixed = all(dim.HasField("dim_value") for dim in dims[1:])
    return first_or_fixed and prod(d.dim_value or 1 for d in dims) <= MAX_ELEMENTS_PER_ROW


def _signature(value: ValueInfoProto) -> tuple[str, tuple[int | None, ...]]:
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        return value.name, ()
    return value.name, tuple(
        dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
    )
