"""Structured logs, set up once by a process's `main`."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Literal

import structlog

LogFormat = Literal["console", "json"]


def set_up(level: str = "info", form: LogFormat = "console", **bound: str) -> None:
    """Send structlog and the standard library's warnings to stderr.

    Parameters
    ----------
    level : str
        ``debug``, ``info``, ``warning`` or ``error``.
    form : "console" or "json"
        For people or for a collector.
    **bound
        Fields on every line, such as ``tier="edge"`` and ``hospital_id``.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)


class _Stderr:
    """Writes to stderr as it is at that moment; a log that nobody takes stops no service."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201 -- this is the log

    log = debug = info = warn = warning = error = critical = fatal = exception = msg
