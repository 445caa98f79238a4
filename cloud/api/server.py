"""Runs the API: ``python -m cloud serve``."""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import partial

import structlog
import uvicorn

from cloud.api.app import create_app
from cloud.api.examples import Examples
from cloud.config import CloudConfig
from cloud.inference.serving import ModelsInService
from cloud.model_file import open_session
from cloud.registry import open_registry
from common.config import split_listen
from common.ecg.sources import data_root
from common.errors import ConfigError

GRACE_S = 5

log = structlog.get_logger()


def serve(config: CloudConfig) -> None:
    """Serve API and page until Ctrl-C or SIGTERM.

    Raises
    ------
    ConfigError
        When the address cannot be listened on, or is not loopback in the production profile,
        where nothing remote may be unauthenticated.
    """
    host, _ = split_listen(config.listen)
    _check_exposure(host, config.profile)
    registry = open_registry(config)
    try:
        with bind(config.listen) as listener:
            models = ModelsInService(registry, config.region, partial(open_session, registry))
            examples = Examples(data_root(config.data, os.environ))
            app = create_app(models, examples, config.limits)
            server = uvicorn.Server(uvicorn_config(app))
            try:
                log.info("serving", url=url_of(listener), region=config.region)
                server.run(sockets=[listener])
            except KeyboardInterrupt:  # from here on Ctrl-C is a clean end
                log.info("stopped")
    finally:
        registry.close()


def bind(listen: str) -> socket.socket:
    """Listen on ``host:port``; port 0 picks a free one.

    Raises
    ------
    ConfigError
        When the port is in use or the address is not this machine's.
    """
    host, port = split_listen(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as fault:
        reason = os.strerror(fault.errno) if fault.errno and fault.errno > 0 else str(fault)
        raise ConfigError(
            f"listen = {listen!r}: {reason}; choose another with --set listen=HOST:PORT",
            listen=listen,
        ) from fault


def url_of(listener: socket.socket) -> str:
    """Base URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def uvicorn_config(app: object) -> uvicorn.Config:
    """Configure uvicorn around `app`, silent where our own log speaks."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's alias for ASGI apps is narrower than Starlette's
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_S,
    )


def _check_exposure(host: str, profile: str) -> None:
    if is_loopback(host):
        return
    if profile == "production":
        raise ConfigError(
            f"listen: {host} is not loopback and this API has no authentication; in the production "
            "profile listen on 127.0.0.1 behind a proxy that authenticates"
        )
    log.warning("listens_beyond_loopback", host=host, authentication="none")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
