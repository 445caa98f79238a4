"""Horovod's rendezvous, one fresh server per generation, on the configured address only.

Horovod's own server listens on 0.0.0.0, serves HEAD from the working directory, takes bodies of
any length and lives until its process ends; this one does none of it.  It is a key-value store
without authentication: it runs only while a ring forms.
"""

from __future__ import annotations

import socket

import structlog
from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
from horovod.runner.http.http_server import (
    RendezvousHandler,
    RendezvousHTTPServer,
    RendezvousServer,
)
from horovod.runner.util.threads import in_thread

from common.errors import ConfigError, RingError

MAX_VALUE_BYTES = 1 << 20
MAX_KEYS = 1 << 14
STOP_POLL_S = 0.02

log = structlog.get_logger()


class Rendezvous:
    """The rendezvous of the ring that is forming; at most one runs."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._server: _BoundServer | None = None

    def check(self) -> None:
        """Make sure, before a ring needs it, that the address can be bound.

        Raises
        ------
        ConfigError
            When it cannot.
        """
        try:
            with socket.create_server((self._host, 0)):
                pass
        except OSError as fault:
            raise ConfigError(f"rendezvous_host = {self._host!r}: {fault}") from fault

    def start(self, members: tuple[str, ...]) -> int:
        """Serve the members of a new generation, in rank order, and return the port.

        Raises
        ------
        RingError
            When the configured address cannot be bound.
        """
        self.stop()
        server = _BoundServer(self._host)
        port = int(server.start())
        hosts = parse_hosts(",".join(f"{member}:1" for member in members))
        server.init(get_host_assignments(hosts, len(members)))
        self._server = server
        return port

    def stop(self) -> None:
        """Close the port, if one is open."""
        if self._server is not None:
            self._server.stop()
            self._server = None


class _BoundServer(RendezvousServer):  # type: ignore[misc]  # horovod ships no types
    def __init__(self, host: str) -> None:
        super().__init__(verbose=0)
        self._host = host

    def start(self, handler_cls: type = RendezvousHandler) -> int:
        del handler_cls
        try:
            self._httpd = _HTTPServer((self._host, 0), _Handler, 0)
        except OSError as fault:
            raise RingError(f"rendezvous_host {self._host!r} cannot be bound: {fault}") from fault
        self._listen_thread = in_thread(target=self._httpd.serve_forever, args=(STOP_POLL_S,))
        return int(self._httpd.server_address[1])

    def stop(self) -> None:
        super().stop()
        self._httpd.server_close()


class _HTTPServer(RendezvousHTTPServer):  # type: ignore[misc]  # horovod ships no types
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("rendezvous_request_failed", client=str(client_address), exc_info=True)


class _Handler(RendezvousHandler):  # type: ignore[misc]  # horovod ships no types
    def do_HEAD(self) -> None:  # noqa: N802 -- name of http.server
        self.send_status_code(405)

    def do_PUT(self) -> None:  # noqa: N802 -- name of http.server
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_VALUE_BYTES or self._num_keys() >= MAX_KEYS:
            self.close_connection = True
            self.send_status_code(413)
            return
        super().do_PUT()

    def _num_keys(self) -> int:
        with self.server.cache_lock:
            return sum(len(scope) for scope in self.server.cache.values())
