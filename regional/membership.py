"""What hospitals said last, and which of them can take part: pure functions of their statuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from common import topics
from common.errors import ContractError
from common.messages import HospitalStatus, RoundSpec
from common.wire import decode_json
from regional.records import MAX_COUNT


@dataclass(frozen=True)
class Heard:
    """A hospital's last status, and since when what it lacks is lacking.

    Attributes
    ----------
    away_since : float or None
        When it went offline; None while it is online.
    cold_since : float or None
        When its rank was lost or began to start; None while it is warm or in a ring.
    ready_since : float or None
        When it first said that it is ready in the round of its status.
    """

    status: HospitalStatus
    at: float
    away_since: float | None = None
    cold_since: float | None = None
    ready_since: float | None = None


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
    away = _since(before.away_since if before else None, not status.online, now)
    cold = _since(before.cold_since if before else None, status.rank in ("lost", "starting"), now)
    same_round = before is not None and before.status.round_id == status.round_id
    ready = before.ready_since if before and same_round else None
    ready = _since(ready, status.phase == "ready", now)
    return {**statuses, status.hospital: Heard(status, now, away, cold, ready)}


def heard_now(statuses: Statuses, now: float) -> dict[str, Heard]:
    """`statuses` as if all were heard at `now`: the clock that stamped them was set."""
    fresh: dict[str, Heard] = {}
    for entry in statuses.values():
        fresh = heard(fresh, entry.status, now)
    return fresh


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


def is_past_hope(entry: Heard | None, now: float, rejoin_s: float) -> bool:
    """Whether an online hospital's rank has not been warm for `rejoin_s`, however often it began."""
    if entry is None or not entry.status.online or entry.cold_since is None:
        return False
    return now >= entry.cold_since + rejoin_s


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
    """Whether the sum that the round is for is of at least ``min_devices`` wristbands.

    In a training round that is the updates'.  Evaluations of fewer are not in the aggregate at
    all (docs/protocol.md), so that they keep no hospital's updates out.
    """
    num = status.num_evaluated if spec.purpose == "evaluate" else status.num_stored
    return num >= spec.min_devices


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
    """``num_invited``, ``num_stored`` and ``num_rejected`` of a round, over all hospitals.

    Capped, so that absurd statements do not make an outcome that no message can hold.
    """
    said = [e.status for e in statuses.values() if e.status.round_id == round_id]
    totals = {
        "num_invited": sum(status.num_invited for status in said),
        "num_stored": sum(status.num_stored for status in said),
        "num_rejected": sum(status.num_rejected for status in said),
    }
    return {name: min(total, MAX_COUNT) for name, total in totals.items()}


def lags(statuses: Statuses, members: Collection[str], opened_at: float) -> dict[str, float]:
    """Seconds from a round's opening until each member was ready, as far as that was heard."""
    since = {name: statuses[name].ready_since for name in members if name in statuses}
    return {name: max(0.0, at - opened_at) for name, at in since.items() if at is not None}


def _since(before: float | None, lacks: bool, now: float) -> float | None:
    return (now if before is None else before) if lacks else None
