"""What hospitals said last, and which of them can take part: pure functions of their statuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from common import topics
from common.errors import ContractError
from common.messages import HospitalStatus, RoundSpec
from common.wire import decode_json


@dataclass(frozen=True)
class Heard:
    """A hospital's last status; `away_since` is when it went offline, None while it is online."""

    status: HospitalStatus
    at: float
    away_since: float | None = None


Statuses = Mapping[str, Heard]


def parse_status(
    topic: str, payload: bytes, region: str, roster: Collection[str]
) -> HospitalStatus:
    """Read a status and check that it speaks for a hospital of the roster, on its own topic.

    Raises
    ------
    ContractError
        With ``data["reason"]``.
    """
    status = decode_json(payload, HospitalStatus)
    if status.region != region or topic != topics.hospital_status(region, status.hospital):
        raise ContractError("the status names another region or hospital", reason="wrong_identity")
    if status.hospital not in roster:
        raise ContractError(
            f"hospital {status.hospital} is not in the roster", reason="unknown_hospital"
        )
    return status


def heard(statuses: Statuses, status: HospitalStatus, now: float) -> dict[str, Heard]:
    """`statuses` with one more taken in."""
    before = statuses.get(status.hospital)
    gone = before.away_since if before and before.away_since is not None else now
    away_since = None if status.online else gone
    return {**statuses, status.hospital: Heard(status, now, away_since)}


def is_present(entry: Heard | None, now: float, away_after_s: float) -> bool:
    """Whether a hospital is online and was heard within `away_after_s`."""
    return entry is not None and entry.status.online and now - entry.at <= away_after_s


def is_awaited(
    entry: Heard | None, started_at: float, now: float, rejoin_s: float, away_after_s: float
) -> bool:
    """Whether a hospital is present, or went away (or was due at the start) within `rejoin_s`."""
    if is_present(entry, now, away_after_s):
        return True
    if entry is None:
        return now < started_at + rejoin_s
    gone = entry.away_since if entry.away_since is not None else entry.at + away_after_s
    return now < gone + rejoin_s


def is_ready(entry: Heard | None, round_id: int) -> bool:
    """Whether an online hospital has its aggregate of that round folded and stored."""
    if entry is None:
        return False
    status = entry.status
    return (
        status.online
        and status.phase == "ready"
        and status.round_id == round_id
        and status.aggregate_digest is not None
    )


def has_enough_devices(status: HospitalStatus, spec: RoundSpec) -> bool:
    """Whether no sum in the hospital's aggregate is of fewer than ``min_devices`` wristbands.

    In a training round an evaluation that nobody gave says nothing of anybody.
    """
    if spec.purpose == "evaluate":
        return status.num_evaluated >= spec.min_devices
    evaluated = status.num_evaluated == 0 or status.num_evaluated >= spec.min_devices
    return status.num_stored >= spec.min_devices and evaluated


def fit_hospitals(
    statuses: Statuses, spec: RoundSpec, now: float, away_after_s: float
) -> tuple[str, ...]:
    """Hospitals, in name order, that are present and ready with enough wristbands."""
    return tuple(
        name
        for name, entry in sorted(statuses.items())
        if is_present(entry, now, away_after_s)
        and is_ready(entry, spec.round_id)
        and has_enough_devices(entry.status, spec)
    )


def round_counts(statuses: Statuses, round_id: int) -> dict[str, int]:
    """``num_invited``, ``num_stored`` and ``num_rejected`` of a round, over all hospitals."""
    said = [e.status for e in statuses.values() if e.status.round_id == round_id]
    return {
        "num_invited": sum(status.num_invited for status in said),
        "num_stored": sum(status.num_stored for status in said),
        "num_rejected": sum(status.num_rejected for status in said),
    }
