"""From float32 ONNX to 8-bit weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from cloud.export import export_onnx, onnx_scores
from cloud.quantize import MAX_QUANTIZED_BYTES, quantize_weights
from common.errors import ContractError
from common.tasks.beats import BeatTask
from common.tasks.dummy import DummyTask, dummy_examples

Rows = dict[str, NDArray[np.float32]]
TASK = DummyTask()


def make_rows(num: int = 100) -> Rows:
    return dict(dummy_examples(seed=2, num=num).inputs)


def make_net(width: int = 8, weight: float = 1.0, shared: bool = False) -> bytes:
    """A float32 net of three layers: MatMul, Gemm with its weight transposed, Gemm, softmax."""
    rng = np.random.default_rng(5)
    shapes = {"w1": (4, width), "w2": (3, width), "b2": (3,), "w3": (3, 2), "b3": (2,)}
    constants = [
        numpy_helper.from_array(weight * rng.standard_normal(shape, dtype=np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "w1"], ["x1"]),
        helper.make_node("Relu", ["x1"], ["y1"]),
        helper.make_node("Gemm", ["y1", "w2", "b2"], ["x2"], transB=1),
        helper.make_node("Relu", ["x2"], ["y2"]),
        helper.make_node("Gemm", ["y2", "w3", "b3"], ["x3"]),
        helper.make_node("Softmax", ["x3"], ["scores"], axis=1),
    ]
    if shared:
        nodes.insert(1, helper.make_node("MatMul", ["features", "w1"], ["twin"]))
        nodes[2] = helper.make_node("Add", ["x1", "twin"], ["y1"])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def quantized(onnx_bytes: bytes) -> bytes:
    return quantize_weights(onnx_bytes, TASK)


def nodes_of(onnx_bytes: bytes, *kinds: str) -> Sequence[NodeProto]:
    nodes = onnx.load_model_from_string(onnx_bytes).graph.node
    return [node for node in nodes if node.op_type in kinds]


def tensors_of(onnx_bytes: bytes) -> dict[str, NDArray[Any]]:
    constants = onnx.load_model_from_string(onnx_bytes).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}


@pytest.fixture(scope="module")
def beats() -> bytes:
    task = BeatTask()
    return export_onnx(task, task.initial(seed=3))


def test_scores_stay_close() -> None:
    rows, onnx_bytes = make_rows(), make_net(weight=0.5)
    difference = onnx_scores(quantized(onnx_bytes), rows) - onnx_scores(onnx_bytes, rows)
    assert np.abs(difference).max() < 0.02


def test_beat_model_fits_64_kb(beats: bytes) -> None:
    assert len(quantize_weights(beats, BeatTask())) <= MAX_QUANTIZED_BYTES < len(beats)


def test_the_same_file_gives_the_same_bytes() -> None:
    assert quantized(make_net()) == quantized(make_net())


@pytest.mark.parametrize("num", [0, 1, 2, 5000])
def test_batch_stays_dynamic(num: int) -> None:
    assert onnx_scores(quantized(make_net()), make_rows(num)).shape == (num, 2)


def test_weights_are_int8_within_half_a_step() -> None:
    weights, tensors = tensors_of(make_net()), tensors_of(quantized(make_net()))
    for name in ("w1", "w3"):
        integers, scale = tensors[f"{name}_int8"], tensors[f"{name}_scale"]
        assert integers.dtype == np.int8
        error = np.abs(integers * scale - weights[name]).max(axis=0)
        assert (error <= scale / 2 * 1.001).all()


def test_a_transposed_weight_has_a_scale_for_each_output() -> None:
    tensors = tensors_of(quantized(make_net()))
    assert tensors["w2_int8"].shape == (3, 8)
    assert np.abs(tensors["w2_int8"]).max(axis=1).tolist() == [127] * 3


def test_no_layer_keeps_a_float_weight() -> None:
    assert not {"w1", "w2", "w3"} & set(tensors_of(quantized(make_net())))


def test_no_value_between_layers_is_rounded() -> None:
    assert not nodes_of(quantized(make_net()), "QuantizeLinear")


def test_a_weight_of_two_layers_is_stored_once() -> None:
    onnx_bytes = make_net(shared=True)
    assert np.isfinite(onnx_scores(quantized(onnx_bytes), make_rows())).all()
    assert len([name for name in tensors_of(quantized(onnx_bytes)) if name == "w1_int8"]) == 1


def test_weights_of_zero_stay_zero() -> None:
    assert (onnx_scores(quantized(make_net(weight=0.0)), make_rows()) == 0.5).all()


def test_the_file_holds_no_notes() -> None:
    model = onnx.load_model_from_string(quantized(make_net()))
    assert not model.metadata_props
    assert not model.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_refuses_what_is_quantized_already() -> None:
    with pytest.raises(ContractError, match="already"):
        quantized(quantized(make_net()))


def test_refuses_what_stays_too_large() -> None:
    with pytest.raises(ContractError, match="at most 64000"):
        quantized(make_net(width=12_000))


def test_refuses_weights_that_are_not_finite() -> None:
    with pytest.raises(ContractError, match="not finite"):
        quantized(make_net(weight=float("nan")))


def test_refuses_bytes_that_are_no_model() -> None:
    with pytest.raises(ContractError):
        quantized(b"not onnx")


def test_refuses_a_file_of_another_task(beats: bytes) -> None:
    with pytest.raises(ContractError):
        quantize_weights(beats, TASK)
