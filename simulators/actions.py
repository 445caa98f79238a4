"""What a wristband wants done: the outputs of its state machine."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.jobs import Job


@dataclass(frozen=True)
class Subscribe:
    """Ask the broker for a topic."""

    topic: str


@dataclass(frozen=True)
class Unsubscribe:
    """Ask the broker no longer for a topic."""

    topic: str


@dataclass(frozen=True)
class Publish:
    """Send bytes at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class Work:
    """Start a job; its end is told by `Wristband.worked` or `Wristband.failed`."""

    job: Job


@dataclass(frozen=True)
class Note:
    """Something for the log."""

    event: str
    reason: str


Action = Subscribe | Unsubscribe | Publish | Work | Note
