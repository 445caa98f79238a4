"""Example strips: recorded ECG of people the model never learned from, else a synthetic stand-in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import orjson
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from cloud.api.errors import ApiError
from common.ecg.labels import SYMBOLS
from common.ecg.records import Record
from common.ecg.sources import EcgSource, open_source
from common.errors import PulseRingError

SECONDS = 30.0
MIT_BIH = "MIT-BIH Arrhythmia Database 1.0.0, record {name} (ODC-By 1.0)"
SYNTHETIC = "SYNTHETIC ECG, patient {name} of McSharry's model: not a recording of a person"
ECTOPIC = frozenset(SYMBOLS["S"] + SYMBOLS["V"] + SYMBOLS["F"])


class Examples:
    """Strips of one source's test patients.

    Parameters
    ----------
    data_root : Path
        Directory that may hold MIT-BIH.
    """

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self.record = lru_cache(maxsize=4)(self._record)

    def source(self) -> EcgSource:
        """What is on this machine now; data may come while the server runs."""
        return open_source(self._data_root)

    def names(self) -> tuple[str, ...]:
        """Names of the strips."""
        return self.source().test_names

    def strip(self, name: str, seconds: float, start_s: float | None) -> dict[str, Any]:
        """A strip as `analyze` takes it, with its source, which `analyze` does not take.

        Without `start_s` it is the part with the most ectopic beats by the annotations.

        Raises
        ------
        ApiError
            404 when there is no such strip.
        """
        if name not in self.names():
            raise ApiError(404, "not_found", f"no example {name[:100]!r}; see /v1/examples")
        try:
            record = self.record(name)
        except PulseRingError as fault:
            raise ApiError(404, "not_found", f"example {name}: {fault.message}") from fault
        begin_s = busiest_start_s(record, seconds) if start_s is None else start_s
        first = round(begin_s * record.fs_hz)
        ecg_mv = record.ecg_mv[first : first + round(seconds * record.fs_hz)]
        if len(ecg_mv) < 3 * record.fs_hz:
            raise ApiError(422, "invalid_value", "start_s: the strip ends before", "start_s")
        return {
            "name": name,
            "source": _source_text(record),
            "start_s": first / record.fs_hz,
            "fs_hz": record.fs_hz,
            "lead": record.lead,
            "ecg_mv": ecg_mv.astype(np.float64).round(4),
        }

    def _record(self, name: str) -> Record:
        return self.source().read(name)


def busiest_start_s(record: Record, seconds: float) -> float:
    """Start in whole seconds of the part with the most annotated S, V and F beats.

    Of parts with equally many, the first.
    """
    ectopic_idx = record.r_idx[[symbol in ECTOPIC for symbol in record.symbols]]
    starts = np.arange(0, max(1.0, record.duration_s - seconds + 1))
    return float(starts[_within(ectopic_idx / record.fs_hz, starts, seconds).argmax()])


def _within(
    times_s: NDArray[np.floating], starts: NDArray[np.floating], seconds: float
) -> NDArray[np.int64]:
    return np.searchsorted(times_s, starts + seconds) - np.searchsorted(times_s, starts)


def _source_text(record: Record) -> str:
    template = SYNTHETIC if record.source == "synthetic" else MIT_BIH
    return template.format(name=record.name)


def example_routes(examples: Examples) -> APIRouter:
    """Routes of the example strips."""
    router = APIRouter(prefix="/v1/examples", tags=["ECG"])

    @router.get("")
    async def names() -> Response:
        """Names of the example strips."""
        source = await anyio.to_thread.run_sync(examples.source)
        return JSONResponse(
            {"examples": source.test_names, "synthetic": source.kind == "synthetic"}
        )

    @router.get("/{name}")
    async def strip(
        name: str,
        seconds: float = Query(SECONDS, ge=3, le=3600),
        start_s: float | None = Query(None, ge=0, le=86_400),
    ) -> Response:
        """One example strip in mV; by default the half minute with the most ectopic beats."""
        found = await anyio.to_thread.run_sync(examples.strip, name, seconds, start_s)
        body = orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")

    return router
