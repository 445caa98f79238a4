"""The API as one composition: routes, page, health, metrics, and what goes around each request."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from cloud.api.analyze import analyze_routes
from cloud.api.errors import ApiError, error_response, handle_errors
from cloud.api.examples import Examples, example_routes
from cloud.api.limits import ApiLimits
from cloud.api.observe import Metrics, Observed
from cloud.api.oip import oip_routes
from cloud.api.releases import release_routes
from cloud.inference.serving import ModelsInService
from common.notice import MEANING_OF_N, NOTICE

WEB = Path(__file__).parent.parent / "web"
_DESCRIPTION = f"Beats of single-lead ECG. {NOTICE}"


def create_app(models: ModelsInService, examples: Examples, limits: ApiLimits) -> FastAPI:
    """Build the API.

    Parameters
    ----------
    models : ModelsInService
        The models that answer.
    examples : Examples
        The strips of the page.
    limits : ApiLimits
        What a request may ask for.
    """
    # FastAPI's own /docs loads scripts from a CDN; the page has an offline reader instead.
    app = FastAPI(
        title="PulseRing",
        version=server_version(),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # its redirect would go to whatever host the client names
    )
    metrics = Metrics()
    app.include_router(analyze_routes(models, limits, metrics))
    app.include_router(oip_routes(models, limits, server_version()))
    app.include_router(release_routes(models))
    app.include_router(example_routes(examples))
    app.include_router(service_routes(models, metrics))
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    handle_errors(app)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, fault: RequestValidationError) -> Response:
        first = fault.errors()[0]
        field = str(first["loc"][-1])
        error = ApiError(422, "invalid_value", f"{field}: {first['msg']}", field)
        return error_response(request.url.path, error)

    app.add_middleware(Observed, metrics=metrics)
    return app


def service_routes(models: ModelsInService, metrics: Metrics) -> APIRouter:
    """Page, health and metrics."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(page_text("index.html"))

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page_text("docs.html"))

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(WEB / "icon.svg", media_type="image/svg+xml")

    @router.get("/healthz", tags=["Service"])
    async def health() -> Response:
        """Whether nothing is wrong, and which release is in service; waiting for one is not."""
        served = await anyio.to_thread.run_sync(models.current)
        report = {
            "ok": not models.refusal,
            "region": models.region,
            "release": served.release.name if served else None,
            "model_digest": served.release.model_digest if served else None,
            "refused": models.refusal or None,
            "identity": "unauthenticated",
        }
        return JSONResponse(report, 200 if report["ok"] else 503)

    @router.get("/metrics", tags=["Service"])
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


@cache
def page_text(name: str) -> str:
    """A page with the notices put in, so that they stand there before any script runs."""
    text = (WEB / name).read_text("utf-8")
    for key, value in (("notice", NOTICE), ("meaning_of_n", MEANING_OF_N)):
        text = text.replace(f"{{{{{key}}}}}", escape(value))
    return text


def server_version() -> str:
    """Version of PulseRing, ``0`` when it runs uninstalled."""
    try:
        return version("pulsering")
    except PackageNotFoundError:
        return "0"
