"""What the doctor finds: one line of its report each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge.config import EdgeConfig

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it."""

    name: str
    level: Level
    found: str
    remedy: str = ""


Check = Callable[[EdgeConfig], Iterator[Finding]]
