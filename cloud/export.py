"""From a sealed model's parameters to an ONNX file that gives the same scores as torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from pydantic import JsonValue

from cloud.model_file import OPSET, OUTPUT, check_graph, make_session
from cloud.release import Release, release_name
from cloud.verify import Sealed
from common.digest import bytes_digest
from common.errors import ContractError, ParityError
from common.tasks.task import Parameters, Task, load_parameters, score

MAX_RELEASE_BYTES = 200_000
TOLERANCE = 1e-5
NUM_PROBES = 512
PROBE_SCALES = (0.0, 1e-3, 0.1, 1.0, 10.0, 100.0)
_CHUNK = 4096
_PROBE_SEED = 0

Rows = Mapping[str, NDArray[np.float32]]


def export_onnx(task: Task, params: Parameters) -> bytes:
    """Export the task's scorer: inputs named as the task's, batch first and dynamic.

    Returns
    -------
    bytes
        ONNX of opset 18, at most 200 kB, that passed `cloud.model_file.check_graph`.

    Raises
    ------
    ContractError
        When `params` are of another model, or the file is larger or not of the released form.
    """
    module = task.build()
    load_parameters(module, params)
    onnx_bytes = _stripped(_export(task.scorer(module).eval(), task.input_shapes))
    check_graph(onnx_bytes, task.input_shapes, len(task.labels))
    if len(onnx_bytes) > MAX_RELEASE_BYTES:
        raise ContractError(
            f"the ONNX file has {len(onnx_bytes)} bytes, a release at most {MAX_RELEASE_BYTES}"
        )
    return onnx_bytes


def build_release(
    sealed: Sealed, metrics: dict[str, JsonValue], now: float
) -> tuple[Release, bytes]:
    """Export a sealed model, prove parity with torch, and describe the result.

    Raises
    ------
    ContractError, ParityError
        When there is no ONNX file that may be released.
    """
    header, task = sealed.header, sealed.task
    onnx_bytes = export_onnx(task, sealed.parameters)
    inputs = probes(task, np.random.default_rng(_PROBE_SEED))
    parity = check_parity(task, sealed.parameters, onnx_bytes, inputs)
    release = Release(
        name=release_name(header.region, header.day, header.model_digest),
        region=header.region,
        day=header.day,
        task=header.task,
        labels=tuple(task.labels),
        input_shapes=dict(task.input_shapes),
        model_digest=header.model_digest,
        sealed_digest=sealed.sealed_digest,
        onnx_sha256=bytes_digest(onnx_bytes),
        size_bytes=len(onnx_bytes),
        parity=parity,
        created_at=now,
        data_source=header.data_source,
        metrics=metrics,
    )
    return release, onnx_bytes


def probes(task: Task, rng: np.random.Generator) -> Rows:
    """Draw inputs from nothing at all to far beyond what an ECG can be, float32, by input name."""
    return {
        name: np.concatenate(
            [
                np.float32(scale) * rng.standard_normal((NUM_PROBES, *shape), dtype=np.float32)
                for scale in PROBE_SCALES
            ]
        )
        for name, shape in task.input_shapes.items()
    }


def check_parity(task: Task, params: Parameters, onnx_bytes: bytes, inputs: Rows) -> float:
    """Compare onnxruntime with torch.

    Returns
    -------
    float
        Largest absolute difference of a score, at most 1e-5.

    Raises
    ------
    ParityError
        When it is larger, or a score is not finite.
    """
    try:
        expected = score(task, params, inputs)
    except ContractError as fault:
        raise ParityError(f"torch: {fault.message}") from fault
    difference = np.abs(onnx_scores(onnx_bytes, inputs) - expected)
    worst = float(difference.max(initial=0.0))
    if not worst <= TOLERANCE:
        raise ParityError(
            f"onnxruntime differs from torch by {worst:.2g}, more than {TOLERANCE:g}", worst=worst
        )
    return worst


def onnx_scores(onnx_bytes: bytes, inputs: Rows) -> NDArray[np.float32]:
    """Score examples with a checked ONNX file, in chunks: (B, C) float32."""
    session = make_session(onnx_bytes)
    num_rows = len(next(iter(inputs.values())))
    chunks = [
        session.run([OUTPUT], {name: x[start : start + _CHUNK] for name, x in inputs.items()})[0]
        for start in range(0, max(num_rows, 1), _CHUNK)
    ]
    return np.concatenate(chunks)


def _export(module: torch.nn.Module, input_shapes: Mapping[str, tuple[int, ...]]) -> ModelProto:
    # Two rows: torch would take a batch of one for a constant.
    examples = tuple(torch.zeros(2, *shape) for shape in input_shapes.values())
    batch = torch.export.Dim("batch")
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)  # it warns of torchvision, which nobody uses here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations inside its exporter
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_shapes),
                output_names=[OUTPUT],
                dynamic_shapes=tuple({0: batch} for _ in examples),
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    if program is None:
        raise ContractError("torch exported nothing")
    return program.model_proto


def _stripped(model: ModelProto) -> bytes:
    """Leave out notes on where in the source a node came from: a third of the file, and paths."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    return bytes(model.SerializeToString(deterministic=True))
