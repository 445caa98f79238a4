"""The raw model by the Open Inference Protocol v2 (KServe), as Triton's clients speak it."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud.api.bodies import Body, read_body, slot
from cloud.api.errors import ApiError
from cloud.api.limits import ApiLimits
from cloud.api.tensors import HEADER_LENGTH, Encoded, decode, encode
from cloud.inference.model import ServedModel, TensorSpec
from cloud.inference.serving import ModelsInService
from common.errors import ContractError, PulseRingError

EXTENSIONS = ["binary_tensor_data"]
PLATFORM = "onnxruntime_onnx"
JSON, BINARY = "application/json", "application/octet-stream"
MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


def oip_routes(models: ModelsInService, limits: ApiLimits, server_version: str) -> APIRouter:
    """Routes of the protocol; a version is the name of a release or its day."""
    router = APIRouter(tags=["Open Inference Protocol v2"])
    slots = anyio.Semaphore(limits.max_analyses)

    @router.get("/v2")
    async def server() -> Response:
        """Name and extensions of the server."""
        facts = {"name": "pulsering", "version": server_version, "extensions": EXTENSIONS}
        return JSONResponse(facts)

    @router.get("/v2/health/live")
    async def live() -> Response:
        """Whether the server answers."""
        return JSONResponse({"live": True})

    @router.get("/v2/health/ready")
    async def ready() -> Response:
        """Whether a model is in service: 200, else 400 as the protocol asks."""
        served = await anyio.to_thread.run_sync(models.current)
        return JSONResponse({"ready": served is not None}, 200 if served else 400)

    @router.get(MODEL)
    @router.get(VERSION)
    async def metadata(model: str, version: str = "") -> Response:
        """Inputs and outputs of a model."""
        return JSONResponse(await anyio.to_thread.run_sync(_metadata, models, model, version))

    @router.get(f"{MODEL}/ready")
    @router.get(f"{VERSION}/ready")
    async def model_ready(model: str, version: str = "") -> Response:
        """Whether a model can be asked: 200, else 400."""
        try:
            served = await anyio.to_thread.run_sync(_find, models, model, version)
        except (ApiError, PulseRingError):
            return JSONResponse({"name": model, "ready": False}, 400)
        return JSONResponse({"name": served.release.task, "ready": True})

    @router.post(f"{MODEL}/infer")
    @router.post(f"{VERSION}/infer")
    async def infer(request: Request, model: str, version: str = "") -> Response:
        """Scores for a batch, JSON or binary tensors."""
        served = await anyio.to_thread.run_sync(_find, models, model, version)
        length = request.headers.get(HEADER_LENGTH)
        with slot(slots):
            body = await read_body(
                request, limits.infer_mib, limits.read_timeout_s, "Split the batch."
            )
            encoded = await anyio.to_thread.run_sync(_infer, served, body, length)
        if encoded.header_length is None:
            return Response(encoded.body, media_type=JSON)
        headers = {HEADER_LENGTH: str(encoded.header_length)}
        return Response(encoded.body, headers=headers, media_type=BINARY)

    return router


def _find(models: ModelsInService, model: str, version: str) -> ServedModel:
    served = models.get(version) if version else models.current()
    if served is None or served.release.task != model:
        wanted = f"version {version[:100]!r} of {model[:100]!r}" if version else f"{model[:100]!r}"
        raise ApiError(404, "unknown_model", f"no model {wanted} is in service")
    return served


def _metadata(models: ModelsInService, model: str, version: str) -> dict[str, Any]:
    served = _find(models, model, version)
    task = served.release.task
    return {
        "name": task,
        "versions": [r.name for r in models.releases() if r.task == task],
        "platform": PLATFORM,
        "inputs": [_described(spec) for spec in served.inputs],
        "outputs": [_described(spec) for spec in served.outputs],
    }


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _infer(served: ServedModel, body: Body, header_length: str | None) -> Encoded:
    request, inputs = decode(body, header_length, served.inputs)
    try:
        outputs = served.run(inputs)
    except ContractError as fault:
        raise ApiError(400, "invalid_request", fault.message) from fault
    release = served.release
    return encode(request, outputs, model_name=release.task, model_version=release.name)
