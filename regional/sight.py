"""A running coordinator as seen from outside, over its health server's ``/status`` and ``/rounds``."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from typing import Any

from common.config import split_listen
from common.errors import ConfigError
from common.health import announced_url
from regional.config import RegionConfig

TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True)
class Sight:
    """What was seen last.

    Attributes
    ----------
    status : mapping
        ``/status`` as it was answered last; empty before the first answer.
    rounds : list
        ``/rounds``, oldest first.
    fault : str
        Why the last look saw nothing; empty when it did.
    seen_at : float
        When `status` was answered, in seconds since the epoch.
    """

    url: str
    status: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    fault: str = ""
    seen_at: float = 0.0


def address(config: RegionConfig, url: str | None = None) -> str:
    """Where the coordinator of this configuration answers.

    Raises
    ------
    ConfigError
        When `health_listen` leaves the port open and no coordinator has said which it took.
    """
    if url:
        return url.rstrip("/")
    host, port = split_listen(config.health_listen)
    if port:
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- to connect to, not to listen on
        host = loopback.get(host, host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    told = announced_url(config.state_dir)
    if not told:
        raise ConfigError(
            f"health_listen = {config.health_listen!r} lets the coordinator choose its port, and "
            f"none has told it in {config.state_dir}: start it, or name it by --url"
        )
    return told


def look(before: Sight, now: float) -> Sight:
    """Look again; what was seen before stays when nobody answers."""
    try:
        status = _get(f"{before.url}/status")
        if not isinstance(status, dict) or not {"phase", "hospitals", "round_id"} <= set(status):
            return replace(before, fault="something answers there that is no coordinator")
        rounds = before.rounds
        if not rounds or _moment(status) != _moment(before.status):
            rounds = list(_get(f"{before.url}/rounds"))
    except urllib.error.URLError as fault:
        return replace(before, fault=str(getattr(fault.reason, "strerror", None) or fault.reason))
    except (OSError, ValueError) as fault:
        return replace(before, fault=str(fault) or type(fault).__name__)
    return Sight(before.url, status, rounds, "", now)


def _moment(status: dict[str, Any]) -> tuple[Any, ...]:
    """What changes whenever a round ends."""
    groups = [group.get("is_open") for group in status.get("groups", ())]
    return status.get("round_id"), status.get("round_is_open"), groups


def _get(url: str) -> Any:  # noqa: ANN401 -- JSON
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- an operator's http URL
        return json.loads(answer.read(MAX_ANSWER_BYTES))
