"""What may stand in an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cloud.model_file import check_graph, make_session
from common.errors import ContractError

SHAPES = {"features": (4,)}


def make_model(
    nodes: Sequence[NodeProto] = (helper.make_node("Identity", ["features"], ["scores"]),),
    constants: Sequence[TensorProto] = (),
    dtype: int = TensorProto.FLOAT,
    opset: int = 18,
    name: str = "features",
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, ["batch", 4])],
        [helper.make_tensor_value_info("scores", dtype, ["batch", 4])],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return bytes(model.SerializeToString())


def constant(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def external() -> TensorProto:
    tensor = constant("far", 1)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def lying() -> TensorProto:
    tensor = constant("lie", 1)
    tensor.dims[:] = [1 << 40]
    return tensor


def integers(
    scale: object = 0.1, zero_point: object = 0, step: str = "scale"
) -> tuple[list[NodeProto], list[TensorProto]]:
    """8-bit weights on features; `step` names the scale."""
    nodes = [
        helper.make_node("DequantizeLinear", ["integers", step, "zero"], ["weights"]),
        helper.make_node("Mul", ["features", "weights"], ["scores"]),
    ]
    constants = [
        numpy_helper.from_array(np.arange(4, dtype=np.int8), "integers"),
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(zero_point, np.int8), "zero"),
    ]
    return nodes, constants


def branch() -> NodeProto:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["features"], ["out"])],
        "inner",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 4])],
    )
    return helper.make_node("If", ["yes"], ["scores"], then_branch=inner, else_branch=inner)


def check(onnx_bytes: bytes) -> None:
    check_graph(onnx_bytes, SHAPES, 4)


def test_accepts_a_plain_graph() -> None:
    check(make_model())


def test_accepts_weights_that_are_integers() -> None:
    check(make_model(*integers()))


@pytest.mark.parametrize("scale", [0.0, -0.1, np.nan, np.inf, [0.1, 0.1, 0.1, 0.0], [[0.1]]])
def test_refuses_a_scale_that_is_no_step(scale: object) -> None:
    with pytest.raises(ContractError, match="scale"):
        check(make_model(*integers(scale)))


def test_refuses_a_scale_that_depends_on_the_input() -> None:
    nodes, constants = integers(step="width")
    width = helper.make_node("ReduceMax", ["features"], ["width"], keepdims=0)
    with pytest.raises(ContractError, match="no constant"):
        check(make_model([width, *nodes], constants))


def test_refuses_a_quantizer_without_a_scale() -> None:
    node = helper.make_node("DequantizeLinear", ["features"], ["scores"])
    with pytest.raises(ContractError):
        check(make_model([node]))


@pytest.mark.parametrize("data", [b"", b"\0", b"not onnx", b"\xff" * 1000, make_model()[:-20]])
def test_refuses_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises(ContractError):
        check(data)


def test_refuses_a_large_file_before_parsing_it() -> None:
    with pytest.raises(ContractError, match="bytes, more than"):
        check(bytes(2 << 20))


@pytest.mark.parametrize(
    "operator", ["ConstantOfShape", "Tile", "Expand", "Loop", "NonZero", "QuantizeLinear"]
)
def test_refuses_operators_beyond_the_list(operator: str) -> None:
    node = helper.make_node(operator, ["features"], ["scores"])
    with pytest.raises(ContractError, match="not allowed"):
        check(make_model([node]))


def test_refuses_operators_of_other_domains() -> None:
    node = helper.make_node("Add", ["features", "features"], ["scores"], domain="evil")
    with pytest.raises(ContractError, match="not allowed"):
        check(make_model([node]))


def test_refuses_graphs_inside_nodes() -> None:
    with pytest.raises(ContractError, match="not allowed"):
        check(make_model([branch()]))


def test_refuses_broadcasts_that_would_fill_the_memory() -> None:
    nodes = [
        helper.make_node("Mul", ["column", "row"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["features", "sum"], ["scores"]),
    ]
    with pytest.raises(ContractError, match="not bounded"):
        check(make_model(nodes, [constant("column", 60_000, 1), constant("row", 1, 60_000)]))


@pytest.mark.parametrize("tensor", [external(), lying()])
def test_refuses_tensors_that_are_not_in_the_file(tensor: TensorProto) -> None:
    node = helper.make_node("Add", ["features", tensor.name], ["scores"])
    with pytest.raises(ContractError):
        check(make_model([node], [tensor]))


@pytest.mark.parametrize("location", ["weights", "/etc/passwd", "../weights"])
def test_refuses_constants_that_are_not_in_the_file(location: str) -> None:
    tensor = external()
    tensor.external_data[0].value = location
    nodes = [
        helper.make_node("Constant", [], ["far"], value=tensor),
        helper.make_node("Add", ["features", "far"], ["scores"]),
    ]
    with pytest.raises(ContractError, match="external"):
        check(make_model(nodes))


def test_a_graph_that_onnxruntime_cannot_run_is_a_contract_error() -> None:
    nodes = [
        helper.make_node("Cast", ["features"], ["half"], to=TensorProto.BFLOAT16),
        helper.make_node("Erf", ["half"], ["erf"]),
        helper.make_node("Cast", ["erf"], ["scores"], to=TensorProto.FLOAT),
    ]
    onnx_bytes = make_model(nodes)
    check(onnx_bytes)
    with pytest.raises(ContractError, match="onnxruntime cannot open"):
        make_session(onnx_bytes)


def test_refuses_another_opset() -> None:
    with pytest.raises(ContractError, match="opset 18"):
        check(make_model(opset=17))


@pytest.mark.parametrize("changes", [{"dtype": TensorProto.DOUBLE}, {"name": "scores_in"}])
def test_refuses_other_inputs(changes: dict[str, int]) -> None:
    source = changes.get("name", "features")
    node = helper.make_node("Identity", [str(source)], ["scores"])
    with pytest.raises(ContractError):
        check(make_model([node], **changes))  # type: ignore[arg-type]  # one of the two


def test_refuses_a_fixed_batch() -> None:
    model = onnx.load_model_from_string(make_model())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ContractError):
        check(bytes(model.SerializeToString()))


def test_session_runs_on_one_thread() -> None:
    options = make_session(make_model()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
