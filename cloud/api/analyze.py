"""``POST /v1/ecg/analyze``: a strip in, its beats out."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from cloud.api.answers import AnalyzeAnswer, answer
from cloud.api.bodies import Body, read_body, slot
from cloud.api.errors import ApiError, no_release
from cloud.api.limits import ApiLimits
from cloud.api.observe import Metrics
from cloud.api.strips import SAMPLES, Strip, StripRequest, strip_from_json, strip_from_raw
from cloud.inference.analysis import analyze
from cloud.inference.model import ServedModel
from cloud.inference.serving import ModelsInService
from common.errors import SignalError

JSON = "application/json"
RAW = "application/octet-stream"
TASK = "beats"

_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": StripRequest.model_json_schema()},
        RAW: {"schema": {"type": "string", "format": "binary"}},
    },
}
_RAW_HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": kind}, "description": text}
    for name, kind, text in (
        ("X-Fs-Hz", "number", f"Sampling rate in Hz, with {RAW}"),
        ("X-Lead", "string", f"Lead, with {RAW}"),
        ("X-Start", "string", f"ISO 8601 time of the first sample with offset, with {RAW}"),
    )
]


def analyze_routes(models: ModelsInService, limits: ApiLimits, metrics: Metrics) -> APIRouter:
    """Routes of the analysis of strips; the work is done in threads of its own."""
    router = APIRouter(tags=["ECG"])
    slots = anyio.Semaphore(limits.max_analyses)
    threads = anyio.CapacityLimiter(2)

    @router.post(
        "/v1/ecg/analyze",
        response_model=AnalyzeAnswer,
        openapi_extra={"requestBody": _BODY, "parameters": _RAW_HEADERS},
    )
    async def analyze_strip(request: Request) -> Response:
        """Find and classify the beats of one strip: JSON, or raw little-endian float32 in mV."""
        with slot(slots):
            kind = _content_type(request)
            body = await _body(request, kind, limits)
            headers = request.headers if kind == RAW else None
            payload, analyzed_s = await anyio.to_thread.run_sync(
                _analyzed, models, body, headers, limiter=threads
            )
        metrics.analyzed_seconds.inc(analyzed_s)
        return Response(payload, media_type=JSON)

    return router


def _content_type(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, RAW):
        message = f"Send {JSON}, or {RAW} with the headers X-Fs-Hz and X-Lead."
        raise ApiError(415, "content_type", message, "Content-Type")
    return kind


async def _body(request: Request, kind: str, limits: ApiLimits) -> Body:
    if kind == RAW:
        advice = "Send the recording in parts."
        return await read_body(request, limits.raw_mib, limits.read_timeout_s, advice)
    advice = f"Send {RAW}, of which {limits.raw_mib} MiB are taken, or the recording in parts."
    return await read_body(request, limits.json_mib, limits.read_timeout_s, advice)


def _analyzed(
    models: ModelsInService, body: Body, headers: Mapping[str, str] | None
) -> tuple[bytes, float]:
    strip = strip_from_json(body) if headers is None else strip_from_raw(body, headers)
    model = _beat_model(models)
    try:
        analysis = analyze(model, strip.ecg_mv, strip.facts.fs_hz)
    except SignalError as fault:
        raise _signal_error(fault, strip) from fault
    return answer(analysis, strip.facts, model), analysis.duration_s


def _beat_model(models: ModelsInService) -> ServedModel:
    model = models.current()
    if model is None or model.release.task != TASK:
        raise no_release(models.refusal)
    return model


def _signal_error(fault: SignalError, strip: Strip) -> ApiError:
    code = "empty_signal" if not len(strip.ecg_mv) else "unusable_signal"
    return ApiError(422, code, fault.message, SAMPLES)
