"""The model pool as the API shows it: releases and their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from cloud.api.errors import ApiError
from cloud.inference.serving import ModelsInService
from cloud.release import Release

CARD_FILES = {
    "md": ("card.md", "text/plain; charset=utf-8"),
    "json": ("card.json", "application/json"),
}
MAX_CARD_BYTES = 1 << 20


def release_routes(models: ModelsInService) -> APIRouter:
    """Routes of the releases."""
    router = APIRouter(prefix="/v1/releases", tags=["Releases"])

    @router.get("")
    async def releases() -> Response:
        """All releases of the region, oldest first."""
        found = await anyio.to_thread.run_sync(models.releases)
        return JSONResponse({"region": models.region, "releases": [_listed(r) for r in found]})

    @router.get("/{name}/card")
    async def card(name: str, format: str = "md") -> Response:  # noqa: A002 -- the query's name
        """The model card of a release: ``?format=md`` or ``json``."""
        if format not in CARD_FILES:
            raise ApiError(422, "invalid_value", "format: write md or json", "format")
        file_name, media_type = CARD_FILES[format]
        body = await anyio.to_thread.run_sync(_card, models, name, file_name)
        return Response(body, media_type=media_type)

    return router


def _listed(release: Release) -> dict[str, Any]:
    listed: dict[str, Any] = orjson.loads(release.model_dump_json())
    return listed


def _card(models: ModelsInService, name: str, file_name: str) -> bytes:
    if name not in {release.name for release in models.releases()}:
        raise ApiError(404, "not_found", f"no release {name[:100]!r}; see /v1/releases")
    path: Path = models.pool.folder(name) / file_name
    try:
        with path.open("rb") as file:
            return file.read(MAX_CARD_BYTES)
    except OSError as fault:
        raise ApiError(404, "not_found", f"the release {name} has no {file_name}") from fault
