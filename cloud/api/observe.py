"""Around every request: an id, one line in the log, metrics, and the headers that guard a browser.

Neither samples nor labels nor identities are logged or counted.
"""

from __future__ import annotations

import time
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.api.errors import ApiError, error_response

CLIENT_GONE = 499
GUARDS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
QUIET = ("/healthz", "/metrics", "/v2/health")

log = structlog.get_logger()


class Metrics:
    """What ``/metrics`` shows of the API."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pulsering_api_requests",
            "Requests answered",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "pulsering_api_request_seconds",
            "Time from request to end of answer",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.analyzed_seconds = Counter(
            "pulsering_api_ecg_seconds", "Seconds of ECG analysed", registry=self.registry
        )


class Observed:
    """ASGI middleware; also the outermost loop, where a fault of ours becomes a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started = uuid4().hex[:16], time.perf_counter()
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({**GUARDS, "X-Request-Id": request_id})
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            log.exception("request_failed", request_id=request_id)
            if not status:
                error = ApiError(500, "internal", f"A fault of the server; request {request_id}.")
                await error_response(scope["path"], error)(scope, receive, guarded)
        self._note(scope, request_id, status, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = _route(scope)
        self._metrics.requests.labels(route, _known(scope["method"]), status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        note = log.debug if scope["path"].startswith(QUIET) else log.info
        note(
            "request",
            request_id=request_id,
            method=_known(scope["method"]),
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
        )


def _route(scope: Scope) -> str:
    if scope["path"].startswith("/web/"):
        return "/web"
    return getattr(scope.get("route"), "path", "unknown")


def _known(method: str) -> str:
    """A method as a metric's label, of which strangers can make no more."""
    return method if method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") else "other"
