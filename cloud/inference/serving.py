"""Which models are in service: the current release, followed as it moves, and others on demand."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.inference.model import OnnxSession, ServedModel
from cloud.release import Release
from common.errors import PulseRingError

REFRESH_S = 2.0
MAX_OTHERS = 4

log = structlog.get_logger()


class ModelPool(Protocol):
    """What serving reads of `cloud.registry.Registry`; calls block on a database."""

    def current(self, region: str) -> Release | None: ...
    def releases(self, region: str | None = None) -> Sequence[Release]: ...
    def folder(self, name: str) -> Path: ...


class ModelsInService:
    """Open models of one region; safe to use from several threads.

    A release whose signature or graph does not verify is refused, and the one before it stays in
    service.

    Parameters
    ----------
    pool : ModelPool
        Where releases come from.
    region : str
        Whose current release is served.
    opened : callable
        Verifies a release and opens its graph; raises PulseRingError when it does not verify.
    clock : callable
        Monotonic seconds.
    refresh_s : float
        How old the knowledge of "current" may be.
    """

    def __init__(
        self,
        pool: ModelPool,
        region: str,
        opened: Callable[[Release], OnnxSession],
        clock: Callable[[], float] = time.monotonic,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.pool = pool
        self.region = region
        self.refusal = ""
        self._opened = opened
        self._clock = clock
        self._refresh_s = refresh_s
        self._lock = Lock()
        self._checked_at = float("-inf")
        self._current: ServedModel | None = None
        self._others: OrderedDict[str, ServedModel] = OrderedDict()

    def current(self) -> ServedModel | None:
        """The model in service, or None while the pool has no release that verifies."""
        with self._lock:
            if self._clock() - self._checked_at >= self._refresh_s:
                self._follow()
                self._checked_at = self._clock()
            return self._current

    def get(self, version: str) -> ServedModel | None:
        """The model of a release, by its name or day; None when there is no such release.

        Raises
        ------
        PulseRingError
            When the release does not verify.
        """
        served = self.current()
        if served and version in versions_of(served.release):
            return served
        latest_first = reversed(self.releases())
        release = next((r for r in latest_first if version in versions_of(r)), None)
        return self._other(release) if release else None

    def releases(self) -> Sequence[Release]:
        """All releases of the region, oldest first."""
        return self.pool.releases(self.region)

    def _follow(self) -> None:
        try:
            release = self.pool.current(self.region)
            served = self._current.release.name if self._current else None
            if release is None or release.name == served:
                self.refusal = ""  # the pool answers again, or the refused release was taken back
                return
            self._current = self._open(release)
        except (PulseRingError, SQLAlchemyError) as fault:
            self._refuse(str(fault))
            return
        self.refusal = ""
        log.info("model_in_service", release=release.name, model_digest=release.model_digest)

    def _open(self, release: Release) -> ServedModel:
        return ServedModel(release, self._opened(release))

    def _refuse(self, reason: str) -> None:
        if reason != self.refusal:
            log.error("release_refused", reason=reason)
        self.refusal = reason

    def _other(self, release: Release) -> ServedModel:
        with self._lock:
            if release.name not in self._others:
                self._others[release.name] = self._open(release)
            self._others.move_to_end(release.name)
            if len(self._others) > MAX_OTHERS:
                self._others.popitem(last=False)
            return self._others[release.name]


def versions_of(release: Release) -> tuple[str, str]:
    """The versions under which a release is served: its name and its day."""
    return release.name, str(release.day)
