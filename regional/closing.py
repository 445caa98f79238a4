"""An operator ends the day now: a record beside the running coordinator, which follows it.

The day ends with the rounds it has: the open round ends first, then the candidate is evaluated and
sealed as on any day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from common.errors import PulseRingError, QuorumError
from regional.ledger import Ledger, read_record, read_records
from regional.progress import Progress, replay
from regional.records import DaySealed, SealAsked

POLL_S = 0.25


def ask_for_seal(ledger_path: Path, reason: str) -> SealAsked:
    """Ask for the seal of the current day; again is no fault.

    Raises
    ------
    QuorumError
        When no training round of the day was committed, or it is sealed already.
    ConfigError
        When there is no ledger.
    """
    progress = replay(read_records(ledger_path))
    _check_can_seal(progress)
    if progress.closing is not None:
        return progress.closing
    asked = SealAsked(day=progress.day, reason=reason[:500])
    ledger = Ledger(ledger_path)
    try:
        ledger.append([asked], time.time())
    finally:
        ledger.close()
    return asked


def wait_for_seal(
    ledger_path: Path, day: int, timeout_s: float, sleep: Callable[[float], None] = time.sleep
) -> DaySealed:
    """The seal of a day, once the coordinator has written it.

    Raises
    ------
    PulseRingError
        When it is not there within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        sealed = read_record(ledger_path, "day_sealed", day)
        if isinstance(sealed, DaySealed):
            return sealed
        if time.monotonic() >= deadline:
            raise PulseRingError(
                f"day {day} was not sealed within {timeout_s:g} s: does the coordinator run? It "
                "will seal it as soon as it can; `python -m regional status` says where it stands"
            )
        sleep(POLL_S)


def _check_can_seal(progress: Progress) -> None:
    if progress.sealed is not None:
        what = (progress.sealed.model_digest or "nothing")[:12]
        raise QuorumError(
            f"day {progress.day} is sealed already ({what}), and day {progress.day + 1} has not "
            "begun"
        )
    if not progress.trained:
        raise QuorumError(
            f"no training round of day {progress.day} is committed yet: there is nothing to seal"
        )
