"""An object store over HTTP for a mailbox that is not on this host: GET with ranges, HEAD, PUT.

What an edge node sends and fetches is what fsspec's client of any HTTP store does; no listing costs
less here than one of S3.
"""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

from common.mailbox import write_durably

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Store:
    """Serves and takes the files below `folder`, from a thread of its own."""

    def __init__(self, host: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handler = type("Handler", (_Handler,), {"folder": folder})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, name="store", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        path = self._path()
        if path.is_dir():
            self._answer(200, _listing(path), {"Content-Type": "text/html"})
        elif path.is_file():
            self._give(path.read_bytes())
        else:
            self._answer(404, b"", {})

    def do_HEAD(self) -> None:
        path = self._path()
        size = path.stat().st_size if path.is_file() else 0
        self.send_response(200 if path.exists() else 404)
        self.send_header("Content-Length", str(size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        write_durably(self._path(), data)
        self._answer(201, b"", {})

    def _give(self, data: bytes) -> None:
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, data, {"Accept-Ranges": "bytes"})
            return
        start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        shown = f"bytes {start}-{end}/{len(data)}"
        self._answer(206, data[start : end + 1], {"Content-Range": shown})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _path(self) -> Path:
        found = (self.folder / unquote(self.path).lstrip("/")).resolve()
        return found if found.is_relative_to(self.folder.resolve()) else self.folder / "nothing"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- base signature
        """Keep requests out of the output."""


def _listing(folder: Path) -> bytes:
    names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir())
    return "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()
