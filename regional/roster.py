"""Which hospitals belong to the region: an operator's commands, written into the ledger.

A running coordinator notices what was written and follows it; a stopped one does at its start.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from common.errors import ConfigError
from common.signing import read_public_key
from common.topics import RESERVED_HOSPITALS, Name
from regional.ledger import Ledger, read_records
from regional.progress import Progress, is_excluded, replay
from regional.records import ExclusionLifted, HospitalAdmitted, HospitalDismissed, Record

MAX_HOSPITALS = 1024


def admit(ledger_path: Path, hospital: str, key: Path) -> str:
    """Let a hospital into the region, or give it another key; say what was done.

    Raises
    ------
    ConfigError
        When the name or key cannot be used, or the region is full.
    """
    _check_name(hospital)
    public_key = read_public_key(key)
    progress = replay(read_records(ledger_path))
    if progress.hospitals.get(hospital) == public_key:
        return f"{hospital} belongs to the region already, with this key"
    if hospital not in progress.hospitals and len(progress.hospitals) >= MAX_HOSPITALS:
        raise ConfigError(f"the region has {MAX_HOSPITALS} hospitals already")
    _write(ledger_path, HospitalAdmitted(hospital=hospital, public_key=public_key))
    return f"{hospital} belongs to the region; it takes part from the next round on"


def dismiss(ledger_path: Path, hospital: str, reason: str, quorum: int) -> str:
    """Take a hospital out of the region; a ring that it is in is formed again without it.

    Raises
    ------
    ConfigError
        When it does not belong to the region, or fewer than `quorum` would be left.
    """
    progress = replay(read_records(ledger_path))
    _check_belongs(progress, hospital)
    if len(progress.hospitals) - 1 < quorum:
        raise ConfigError(
            f"without {hospital} the region has {len(progress.hospitals) - 1} hospitals, and no "
            f"round could reach rounds.quorum = {quorum}"
        )
    _write(ledger_path, HospitalDismissed(hospital=hospital, reason=reason[:500]))
    return f"{hospital} belongs to the region no more"


def readmit(ledger_path: Path, hospital: str, reason: str) -> str:
    """End the exclusion of a hospital whose rank computed what the others did not.

    Raises
    ------
    ConfigError
        When it does not belong to the region.
    """
    progress = replay(read_records(ledger_path))
    _check_belongs(progress, hospital)
    if not is_excluded(progress, hospital, progress.last_round):
        return f"{hospital} is not excluded"
    _write(ledger_path, ExclusionLifted(hospital=hospital, reason=reason[:500]))
    return f"{hospital} may be in rings again"


def roster_report(progress: Progress) -> list[dict[str, Any]]:
    """One entry for each hospital of the ledger: ``member``, ``excluded`` or ``left``, and why."""
    return [_entry(progress, name) for name in sorted({*progress.hospitals, *progress.dismissed})]


def _entry(progress: Progress, name: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"hospital": name, "state": "member", "until_round": None, "reason": ""}
    if name in progress.dismissed:
        entry |= {"state": "left", "reason": progress.dismissed[name]}
    elif is_excluded(progress, name, progress.last_round):
        exclusion = progress.excluded[name]
        entry |= {"state": "excluded", "until_round": exclusion.until_round}
        entry |= {"reason": exclusion.reason}
    return entry | {"public_key": progress.hospitals.get(name) or None}


def _check_name(hospital: str) -> None:
    try:
        TypeAdapter(Name).validate_python(hospital)
    except ValidationError as fault:
        raise ConfigError(
            f"{hospital[:60]!r} is no hospital's name: lower-case letters, digits, - and _, "
            "at most 48"
        ) from fault
    if hospital in RESERVED_HOSPITALS:
        raise ConfigError(f"{hospital!r} is a reserved name")


def _check_belongs(progress: Progress, hospital: str) -> None:
    if hospital not in progress.hospitals:
        known = ", ".join(sorted(progress.hospitals))
        raise ConfigError(f"{hospital[:60]!r} does not belong to the region; there are: {known}")


def _write(ledger_path: Path, record: Record) -> None:
    ledger = Ledger(ledger_path)
    try:
        ledger.append([record], time.time())
    finally:
        ledger.close()
