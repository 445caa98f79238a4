"""Answers to requests that cannot be met: ``{"error": {"code", "message", "field"}}``."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.errors import PulseRingError

OIP_PREFIX = "/v2"


class ApiError(Exception):
    """A request that is answered with an error.

    Parameters
    ----------
    status : int
        HTTP status.
    code : str
        Fixed snake_case name that a client may test for.
    message : str
        What is wrong and what to do about it.
    field : str, optional
        Which part of the request is meant.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field


def no_release(reason: str = "") -> ApiError:
    """The error while no release is in service; `reason` says why one was refused."""
    detail = f" ({reason})" if reason else ""
    message = f"No release is in service yet{detail}. One comes with the next daily cloud job."
    return ApiError(503, "no_release", message)


def error_response(path: str, error: ApiError) -> Response:
    """Answer in the shape of the interface that `path` belongs to."""
    headers = {"Retry-After": "5"} if error.status in (429, 503) else {}
    if path == OIP_PREFIX or path.startswith(f"{OIP_PREFIX}/"):
        return JSONResponse({"error": error.message}, error.status, headers)
    body = {"code": error.code, "message": error.message, "field": error.field}
    return JSONResponse({"error": body}, error.status, headers)


def handle_errors(app: FastAPI) -> None:
    """Make `app` answer every error in that shape, unknown paths and methods included."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, fault: ApiError) -> Response:
        return error_response(request.url.path, fault)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, fault: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(fault.status_code, "http_error")
        error = ApiError(fault.status_code, code, str(fault.detail))
        return error_response(request.url.path, error)

    @app.exception_handler(PulseRingError)
    async def pool_error(request: Request, fault: PulseRingError) -> Response:
        error = ApiError(503, "release_refused", f"The release cannot be served: {fault.message}")
        return error_response(request.url.path, error)
