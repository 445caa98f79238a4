"""The small HTTP server that every service has: ``/healthz``, ``/metrics`` and its own reports."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from common.config import split_listen
from common.errors import ConfigError

URL_NAME = "health.url"
Report = Callable[[], Any]
log = structlog.get_logger()


class HealthServer:
    """Serves JSON reports and Prometheus metrics from a thread of its own.

    Parameters
    ----------
    listen : str
        ``host:port``; port 0 picks a free one, which `url` then tells.
    registry : CollectorRegistry
        What ``/metrics`` shows.
    reports : mapping of str to callable
        Path to a function that returns what is answered as JSON; ``/healthz`` must be among them
        and answers 503 when its ``"ok"`` is false.

    Raises
    ------
    ConfigError
        When the port is in use.
    """

    def __init__(
        self, listen: str, registry: CollectorRegistry, reports: Mapping[str, Report]
    ) -> None:
        host, port = split_listen(listen)
        handler = _handler(registry, reports)
        try:
            self._server = _QuietServer((host, port), handler)
        except (OSError, UnicodeError) as fault:  # the latter of a name that is no host's
            why = getattr(fault, "strerror", None) or fault
            raise ConfigError(
                f"health_listen = {listen!r}: {why}; choose another with --set health_listen=HOST:PORT"
            ) from fault
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def url(self) -> str:
        """Base URL with the port that was taken."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(timeout=5)
        self._server.server_close()


def announce(folder: Path, url: str) -> None:
    """Tell in a service's state directory where its health server answers, if it can be written."""
    partial = folder / f".{URL_NAME}.{os.getpid()}"
    try:
        partial.write_text(url + "\n")
        partial.replace(folder / URL_NAME)
    except OSError as fault:
        log.warning("health_url_not_announced", folder=str(folder), error=str(fault))


def announced_url(folder: Path) -> str:
    """What `announce` told last, empty when nothing; the service may have ended since."""
    try:
        return (folder / URL_NAME).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Log a fault unless it is a client that hung up."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            log.exception("health_request_failed")


def _handler(
    registry: CollectorRegistry, reports: Mapping[str, Report]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path in reports:
                value = reports[path]()
                ok = path != "/healthz" or bool(value.get("ok", True))
                self._answer(200 if ok else 503, "application/json", json.dumps(value).encode())
            else:
                self._answer(404, "application/json", b'{"error": "no such path"}')

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- base signature
            """Keep requests out of the log."""

    return Handler
