"""From a release's float32 ONNX file to one with 8-bit weights, of at most 64 kB.

Weights become int8 with a scale for each output channel; the values between layers stay float32,
so no calibration data is needed. Only Conv, Gemm and MatMul are touched: what leads into the
first of them (normalisation, scaling, clipping) and out of the last (softmax, sigmoid, decision
rules) stays as it is.

In the file each weight is an int8 tensor that a DequantizeLinear turns back to float32, which a
runtime does once: scale quantization of Wu, Judd, Zhang, Isaev, Micikevicius: Integer quantization
for deep learning inference, 2020, arXiv 2004.09602.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from cloud.model_file import QUANTIZERS, check_graph
from common.errors import ContractError
from common.tasks.task import Task

MAX_QUANTIZED_BYTES = 64_000
LAYERS = ("Conv", "Gemm", "MatMul")
WEIGHT = 1  # a layer's second input
MAX_INT8 = 127


def quantize_weights(onnx_bytes: bytes, task: Task) -> bytes:
    """Quantize the weights (symmetric int8, one scale a channel) and nothing else.

    Parameters
    ----------
    onnx_bytes : bytes
        From `cloud.export.export_onnx`.
    task : Task
        Whose inputs and labels the file has; the result has the same.

    Returns
    -------
    bytes
        At most 64,000, the same for the same arguments.

    Raises
    ------
    ContractError
        When the file is not of the released form, is quantized already, holds a weight that is
        not finite, or stays too large.
    """
    model = _float_model(onnx_bytes, task)
    _quantize_float_weights(model.graph)
    return _finished(model, task)


def _float_model(onnx_bytes: bytes, task: Task) -> ModelProto:
    check_graph(onnx_bytes, task.input_shapes, len(task.labels))
    model = onnx.load_model_from_string(onnx_bytes)
    if any(node.op_type in QUANTIZERS for node in model.graph.node):
        raise ContractError("the ONNX file is quantized already")
    _check_finite(model.graph)
    return model


def _check_finite(graph: GraphProto) -> None:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for layer in (node for node in graph.node if node.op_type in LAYERS):
        for name in (name for name in layer.input if name in tensors):
            if not np.isfinite(numpy_helper.to_array(tensors[name])).all():
                raise ContractError(f"{name} in the ONNX file is not finite")


def _finished(model: ModelProto, task: Task) -> bytes:
    """Drop all notes and check the result."""
    for part in (model, model.graph, *model.graph.node):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    onnx_bytes = bytes(model.SerializeToString(deterministic=True))
    check_graph(onnx_bytes, task.input_shapes, len(task.labels))
    if len(onnx_bytes) > MAX_QUANTIZED_BYTES:
        raise ContractError(
            f"the int8 ONNX file has {len(onnx_bytes)} bytes, at most {MAX_QUANTIZED_BYTES} may be"
        )
    return onnx_bytes


def _quantize_float_weights(graph: GraphProto) -> None:
    """Put an int8 tensor and a DequantizeLinear in the place of each layer's float weight."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for layer in (node for node in graph.node if node.op_type in LAYERS):
        name = layer.input[WEIGHT]
        if name not in tensors:  # a value of another node, or shared and done
            continue
        weight = tensors.pop(name)
        axis = _channel_axis(layer, len(weight.dims))
        values, scale = _int8(numpy_helper.to_array(weight), axis)
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(values, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def _channel_axis(layer: NodeProto, num_axes: int) -> int:
    """Axis of a weight that runs over the layer's outputs."""
    transposed = any(a.name == "transB" and a.i for a in layer.attribute)
    return 0 if layer.op_type == "Conv" or transposed else num_axes - 1


def _int8(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric integers of a weight and their scale (C,), the largest of a channel being 127."""
    largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    scale = np.where(largest > 0, largest / MAX_INT8, 1).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    integers = np.rint(weight / scale.reshape(shape)).clip(-MAX_INT8, MAX_INT8)
    return integers.astype(np.int8), scale
