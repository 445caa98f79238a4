"""How much a request may ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MebiBytes = Annotated[int, Field(ge=1, le=4096)]


class ApiLimits(BaseModel):
    """Limits of the API, checked before anything is parsed.

    `json_mib` holds an hour at 360 Hz with every digit of float64, `raw_mib` 24 h at 360 Hz as
    float32.  More than `max_analyses` at once are turned away, so that memory stays bounded; the
    raw model's inferences have as many places of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    json_mib: MebiBytes = 32
    raw_mib: MebiBytes = 128
    infer_mib: MebiBytes = 16
    read_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    max_analyses: Annotated[int, Field(ge=1, le=1024)] = 8
