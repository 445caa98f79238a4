"""A small beat model, a model pool in memory, and the API around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fastapi import FastAPI
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cloud.api.app import create_app
from cloud.api.examples import Examples
from cloud.api.limits import ApiLimits
from cloud.inference.model import OnnxSession, ServedModel
from cloud.inference.serving import ModelsInService
from cloud.model_file import OPSET, make_session
from cloud.release import Release, release_name
from common.digest import bytes_digest
from common.ecg.beats import INPUT_SHAPES
from common.ecg.labels import AAMI
from common.ecg.synthetic import synthesize

REGION = "county"
NUM_WINDOWS = INPUT_SHAPES["beat_mv"][0]
LOCAL = 4  # column of `rr`: log of RR before the beat over the local median


def make_onnx(premature_weight: float = 20.0) -> bytes:
    """A graph that calls early beats S and beats of much energy V, with the beat task's inputs."""
    num_features = NUM_WINDOWS + INPUT_SHAPES["rr"][0] + INPUT_SHAPES["rhythm"][0]
    weights = np.zeros((num_features, len(AAMI)), np.float32)
    weights[0, 2], weights[1, 2] = 40.0, -40.0  # energy of the beat less its template's
    weights[NUM_WINDOWS + LOCAL, 1] = -premature_weight
    bias = np.array([2.0, 0.0, 0.0, -3.0, -3.0], np.float32)
    constants: dict[str, NDArray[Any]] = {
        "axes": np.array([2], np.int64),
        "weights": weights,
        "bias": bias,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["beat_mv", "beat_mv"], ["square"]),
            helper.make_node("ReduceMean", ["square", "axes"], ["energy"], keepdims=0),
            helper.make_node("Concat", ["energy", "rr", "rhythm"], ["features"], axis=1),
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        "early_or_wide",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in INPUT_SHAPES.items()
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(AAMI)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def make_release(day: int = 1, **changes: Any) -> Release:
    """A release of that day; its digest follows from the day."""
    digest = bytes_digest(f"model of day {day}".encode())
    fields: dict[str, Any] = {
        "name": release_name(REGION, day, digest),
        "region": REGION,
        "day": day,
        "task": "beats",
        "labels": AAMI,
        "input_shapes": dict(INPUT_SHAPES),
        "model_digest": digest,
        "sealed_digest": bytes_digest(b"sealed"),
        "onnx_sha256": bytes_digest(b"onnx"),
        "size_bytes": 1000,
        "parity": 1e-7,
        "created_at": 1000.0 + day,
        "metrics": {},
    }
    return Release(**(fields | changes))


class FakePool:
    """A model pool in memory; `in_service` is the name of the current release."""

    def __init__(self, releases: Iterable[Release] = (), folder: Path = Path("nowhere")) -> None:
        self.all = list(releases)
        self.in_service = self.all[-1].name if self.all else ""
        self.num_reads = 0
        self._folder = folder

    def current(self, region: str) -> Release | None:
        self.num_reads += 1
        return next((r for r in self.releases(region) if r.name == self.in_service), None)

    def releases(self, region: str | None = None) -> list[Release]:
        return [release for release in self.all if region in (None, release.region)]

    def folder(self, name: str) -> Path:
        return self._folder / name

    def put(self, release: Release) -> None:
        """Add a release and put it into service."""
        self.all.append(release)
        self.in_service = release.name


def open_small_model(release: Release) -> OnnxSession:
    """Open `make_onnx`, whatever the release."""
    session: OnnxSession = make_session(make_onnx())
    return session


def make_model(**changes: Any) -> ServedModel:
    """The small model as served."""
    release = make_release(**changes)
    return ServedModel(release, open_small_model(release))


def make_models(
    pool: FakePool | None = None, opened: Callable[[Release], OnnxSession] = open_small_model
) -> ModelsInService:
    """Models of `pool`, looked up at every request; without one, of a pool with one release."""
    pool = FakePool([make_release()]) if pool is None else pool
    return ModelsInService(pool, REGION, opened, refresh_s=0)


def make_app(
    pool: FakePool | None = None,
    data: Path = Path("nowhere"),
    opened: Callable[[Release], OnnxSession] = open_small_model,
    **limits: Any,
) -> FastAPI:
    """The API around `make_models`."""
    return create_app(make_models(pool, opened), Examples(data), ApiLimits(**limits))


def make_strip(seconds: float = 20.0, name: str = "syn03") -> tuple[NDArray[np.float32], float]:
    """Samples in mV and their rate; syn03 has many ventricular beats."""
    record = synthesize(name, duration_s=seconds)
    return record.ecg_mv, record.fs_hz


def strip_json(seconds: float = 20.0, **changes: Any) -> dict[str, Any]:
    """The body of a request to analyze, with `changes` laid over it."""
    ecg_mv, fs_hz = make_strip(seconds)
    return {"ecg_mv": ecg_mv.round(4).tolist(), "fs_hz": fs_hz, "lead": "MLII"} | changes
