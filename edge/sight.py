"""A running edge node as seen from outside: its lock, and what its health server answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.health import announced_url
from common.lock import is_held

TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 4 << 20


@dataclass(frozen=True)
class Sight:
    """What was seen: `runs` by the lock; `health` and `status` as answered, empty without answer."""

    runs: bool
    url: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)


def look(state_dir: Path) -> Sight:
    """Look at the node of a state directory; what another process answers there is not taken."""
    if not is_held(state_dir):
        return Sight(runs=False)
    url = announced_url(state_dir)
    health = _get(f"{url}/healthz") if url else {}
    status = _get(f"{url}/status") if health else {}
    if not {"hospital", "phase", "links"} <= set(health):
        health = status = {}
    return Sight(True, url, health, status)


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- announced by our node
            said = json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as fault:  # 503 is an answer: not well, and why
        try:
            said = json.loads(fault.read(MAX_ANSWER_BYTES))
        except (OSError, ValueError):
            return {}
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
