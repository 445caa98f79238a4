"""The body of a request, read within its limits before anything is parsed."""

from __future__ import annotations

import anyio
from starlette.requests import Request

from cloud.api.errors import ApiError

MIB = 1 << 20
Body = bytes | bytearray


async def read_body(
    request: Request, max_mib: int, timeout_s: float, advice: str = ""
) -> bytearray:
    """Read a request's body, at most `max_mib` MiB of it, within `timeout_s`.

    Parameters
    ----------
    advice : str
        What a client may do instead when the body is too large.

    Raises
    ------
    ApiError
        413 when it is larger, 408 when it does not arrive in time, 415 when it is compressed.
    """
    too_large = ApiError(
        413, "body_too_large", f"The body has more than {max_mib} MiB. {advice}".strip()
    )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "content_encoding", "Send the body without Content-Encoding.")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_mib * MIB:
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(timeout_s):
            async for piece in request.stream():
                body += piece
                if len(body) > max_mib * MIB:
                    raise too_large
    except TimeoutError as fault:
        message = f"The body did not arrive within {timeout_s:g} s."
        raise ApiError(408, "body_timeout", message) from fault
    return body
