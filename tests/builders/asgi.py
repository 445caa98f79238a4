"""An HTTP client that calls an ASGI app in this process; no port, no thread."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response


class Client:
    """Sends each request to `app` in an event loop of its own; an exception of the app is raised.

    In the place of Starlette's ``TestClient``, which wants a second HTTP library or warns.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, url: str) -> Response:
        return asyncio.run(self._sent("GET", url))

    def post(self, url: str, **content: Any) -> Response:
        return asyncio.run(self._sent("POST", url, **content))

    async def _sent(self, method: str, url: str, **content: Any) -> Response:
        async with AsyncClient(transport=ASGITransport(self._app), base_url="http://api") as client:
            return await client.request(method, url, **content)
