"""A strip of ECG from the body of a request: JSON, or raw float32 with its facts in headers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from cloud.api.bodies import Body
from cloud.api.errors import ApiError
from common.ecg.filters import FS_RANGE_HZ

MAX_BRACKETS = 64  # a strip has one object and one list
MAX_QUOTES = 256
SAMPLES = "ecg_mv"
HEADERS = {"fs_hz": "X-Fs-Hz", "lead": "X-Lead", "start": "X-Start"}

Lead = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^[\w .+-]+$")]


class StripFacts(BaseModel):
    """What must be known of a strip besides its samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fs_hz: Annotated[FiniteFloat, Field(strict=True, ge=FS_RANGE_HZ[0], le=FS_RANGE_HZ[1])]
    lead: Lead
    start: AwareDatetime | None = None


class StripRequest(StripFacts):
    """The JSON body: samples of one lead in mV, at least 3 s."""

    ecg_mv: list[FiniteFloat]


@dataclass(frozen=True)
class Strip:
    """Samples (T,) in mV, float32 or float64, and their facts."""

    ecg_mv: NDArray[np.floating]
    facts: StripFacts


def strip_from_json(body: Body) -> Strip:
    """Read ``{"ecg_mv": […], "fs_hz": 250, "lead": "MLII"}``.

    Raises
    ------
    ApiError
        400 when it is no JSON, 422 naming the field that cannot be used.
    """
    fields = _parsed(body)
    if SAMPLES not in fields:
        raise ApiError(422, "missing", f"{SAMPLES}: the samples in mV are missing", SAMPLES)
    samples = _samples(fields.pop(SAMPLES))
    return Strip(samples, _facts(fields))


def strip_from_raw(body: Body, headers: Mapping[str, str]) -> Strip:
    """Read little-endian float32 samples; ``X-Fs-Hz``, ``X-Lead`` and ``X-Start`` are headers.

    Raises
    ------
    ApiError
        422 naming the header or body that cannot be used.
    """
    if len(body) % 4:
        message = f"{len(body)} bytes are no whole number of float32 samples"
        raise ApiError(422, "invalid_value", message, SAMPLES)
    given: dict[str, Any] = {k: headers[name] for k, name in HEADERS.items() if name in headers}
    with suppress(KeyError, ValueError):
        given["fs_hz"] = float(given["fs_hz"])
    return Strip(np.frombuffer(body, "<f4"), _facts(given, HEADERS))


def _parsed(body: Body) -> dict[str, Any]:
    """Parse a flat object; nesting is refused before it costs memory."""
    if body.count(b"{") + body.count(b"[") > MAX_BRACKETS or body.count(b'"') > MAX_QUOTES:
        message = f"Write one object, with {SAMPLES} as one flat list of numbers."
        raise ApiError(422, "not_a_strip", message)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        hint = " JSON has no NaN or Infinity." if b"NaN" in body or b"Inf" in body else ""
        raise ApiError(400, "invalid_json", f"The body is no JSON: {fault}.{hint}") from fault
    if not isinstance(parsed, dict):
        raise ApiError(422, "not_a_strip", "The body is no JSON object.")
    return parsed


def _samples(values: object) -> NDArray[np.float64]:
    if not isinstance(values, list):
        raise ApiError(422, "invalid_value", f"{SAMPLES}: write a list of numbers", SAMPLES)
    if not set(map(type, values)) <= {int, float}:
        at = next(i for i, value in enumerate(values) if type(value) not in (int, float))
        kind = "null" if values[at] is None else type(values[at]).__name__
        message = f"{SAMPLES}[{at}] is {kind}, not a number; cut gaps out or send the parts"
        raise ApiError(422, "invalid_value", message, SAMPLES)
    return np.array(values, np.float64)


def _facts(fields: Mapping[str, Any], names: Mapping[str, str] | None = None) -> StripFacts:
    try:
        return StripFacts.model_validate(fields)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        key = str(first["loc"][0])[:100] if first["loc"] else ""
        name = (names or {}).get(key, key)
        code = {"missing": "missing", "extra_forbidden": "unknown_field"}.get(first["type"])
        reason = "unknown field" if code == "unknown_field" else first["msg"]
        raise ApiError(422, code or "invalid_value", f"{name}: {reason}", name) from fault
