"""Where Horovod writes its own trace of each ring, for chrome://tracing or ui.perfetto.dev.

Horovod's rank 0 alone writes one, so of a ring's members it is the first one's edge node that gets
the file.  Horovod ends the file anew after each event: it is whole JSON at every moment, also when
its rank was killed, but for a kill in the middle of a write, which the viewers forgive.
"""

from __future__ import annotations

import re
from pathlib import Path

import structlog

MAX_TRACES = 20

log = structlog.get_logger()


class Traces:
    """Paths of one hospital's traces in `folder`, the last `MAX_TRACES` of them; None for none."""

    def __init__(self, folder: Path | None, hospital: str) -> None:
        self._folder = folder
        self._hospital = hospital

    def path(self, generation: int) -> str | None:
        """Where the trace of a generation goes; None when none is wanted or there is no place."""
        if self._folder is None:
            return None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._forget_old(self._folder, generation)
        except OSError as fault:  # the ring must not fail for its trace
            log.warning("no_ring_timeline", folder=str(self._folder), error=str(fault))
            return None
        return str(self._folder / f"{self._hospital}-{generation:06d}.json")

    def _forget_old(self, folder: Path, generation: int) -> None:
        own = re.compile(rf"{re.escape(self._hospital)}-(\d{{6,}})\.json")
        found = {
            int(match[1]): path for path in folder.iterdir() if (match := own.fullmatch(path.name))
        }
        found.pop(generation, None)
        for old in sorted(found)[: max(0, len(found) - MAX_TRACES + 1)]:
            found[old].unlink(missing_ok=True)
