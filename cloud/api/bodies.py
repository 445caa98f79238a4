"""The body of a request, read within its limits before anything is parsed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    if _is_beyond(length, max_mib * MIB):
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


@contextmanager
def slot(slots: anyio.Semaphore) -> Iterator[None]:
    """Hold one of `slots` while a body is read and answered, so that memory stays bounded.

    Raises
    ------
    ApiError
        429 when all of them are taken.
    """
    try:
        slots.acquire_nowait()
    except anyio.WouldBlock as fault:
        raise ApiError(429, "busy", "Too many analyses at once; try again.") from fault
    try:
        yield
    finally:
        slots.release()


def _is_beyond(stated: str, limit: int) -> bool:
    """Whether a stated length is a number above `limit`; ``int`` refuses very long numbers."""
    if not (stated.isascii() and stated.isdigit()):
        return False
    digits = stated.lstrip("0")
    return len(digits) > len(str(limit)) or int(digits or "0") > limit
