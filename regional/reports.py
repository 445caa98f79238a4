"""What the coordinator reports: its ended rounds, its seals, how it stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from regional.config import RegionConfig
from regional.progress import GroupProgress, Progress, is_excluded
from regional.records import (
    DaySealed,
    Group,
    Record,
    ReleaseDecided,
    RingDied,
    RingPlanned,
    RoundEnded,
    RoundOpened,
)
from regional.region import Region, phase_of


def round_reports(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One entry for each ended round, oldest first.

    Every field of `RoundOutcome`, and ``learning_rate``, ``opened_at``, ``ring_seconds``,
    ``num_updates``, ``num_evaluated``, ``num_saturated``, ``hospitals`` (updates of each) and
    ``evaluation``: {model digest: {name: nested integers}}, as summed by that round's ring.
    """
    return [round_report(record) for record in records if isinstance(record, RoundEnded)]


def seal_reports(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One entry for each closed day, with the cloud's decision once there is one."""
    days: dict[int, dict[str, Any]] = {}
    for record in records:
        if isinstance(record, DaySealed):
            days[record.day] = {**_plain(record), "decision": None}
        elif isinstance(record, ReleaseDecided) and record.day in days:
            days[record.day]["decision"] = _plain(record)
    return list(days.values())


def progress_report(progress: Progress, records: Iterable[Record] = ()) -> dict[str, Any]:
    """How the region stands according to its ledger."""
    spec = progress.spec
    return {
        "day": progress.day,
        "cycle": progress.cycle,
        "round_id": progress.last_round,
        "round_is_open": progress.is_open,
        "purpose": spec.purpose if spec else None,
        "closes_at": spec.closes_at if spec and progress.is_open else None,
        "num_trained_today": len(progress.trained),
        "seal_asked": progress.closing is not None and progress.sealed is None,
        "num_failed_in_a_row": progress.num_failed,
        "model_digest": progress.model.digest,
        "generation": progress.last_generation,
        "min_generation": progress.min_generation,
        "in_service": progress.in_service.release if progress.in_service else None,
        "num_starts": progress.num_starts,
        "dead_rings": [_plain(record) for record in records if isinstance(record, RingDied)],
    }


def status_report(
    region: Region, config: RegionConfig, now: float, records: Iterable[Record] = ()
) -> dict[str, Any]:
    """How a running coordinator stands, with each hospital's last status and its age."""
    progress = region.progress
    return {
        "region": config.region,
        "phase": phase_of(region, config),
        "at": now,
        **progress_report(progress, records),
        "excluded": _excluded(progress),
        "groups": [_group(group, own) for group, own in sorted(progress.groups.items())],
        "hospitals": {name: _hospital(region, name, now) for name in sorted(progress.hospitals)},
    }


def _excluded(progress: Progress) -> dict[str, dict[str, Any]]:
    """Hospitals that may be in no ring now, up to which round and why."""
    return {
        name: {"until_round": each.until_round, "reason": each.reason}
        for name, each in sorted(progress.excluded.items())
        if is_excluded(progress, name, progress.last_round)
    }


def _group(group: Group, own: GroupProgress) -> dict[str, Any]:
    """A slow group's round: ``waits`` while its sums wait to be counted."""
    spec = own.spec
    return {
        "hospitals": list(group),
        "round_id": spec.round_id if spec else None,
        "is_open": own.is_open,
        "waits": own.summed is not None,
        "closes_at": spec.closes_at if spec and own.is_open else None,
    }


def log_fields(record: Record) -> dict[str, Any]:
    """What the log says of a record."""
    match record:
        case RoundOpened(spec=spec):
            return {"round_id": spec.round_id, "day": spec.day, "purpose": spec.purpose}
        case RingPlanned(plan=plan):
            ring = {"generation": plan.generation, "members": ",".join(plan.members)}
            return {"round_id": plan.round_id, **ring}
        case RoundEnded(outcome=outcome):
            end = {"end": outcome.end, "reason": outcome.reason}
            return {"round_id": outcome.round_id, **end, "model_digest": outcome.model_digest}
        case _:
            return record.model_dump(
                mode="json", exclude={"kind", "schema_version", "exponents", "evaluation_shapes"}
            )


def _hospital(region: Region, name: str, now: float) -> dict[str, Any] | None:
    entry = region.statuses.get(name)
    if entry is None:
        return None
    return {**_plain(entry.status), "age_s": round(max(0.0, now - entry.at), 3)}


def round_report(record: RoundEnded) -> dict[str, Any]:
    """The entry of one ended round."""
    rest = record.model_dump(
        mode="json", exclude={"kind", "schema_version", "outcome", "exponents", "next_bits"}
    )
    return {**_plain(record.outcome), **rest}


def _plain(message: Any) -> dict[str, Any]:  # noqa: ANN401 -- any of the contracts
    plain: dict[str, Any] = message.model_dump(mode="json", exclude={"kind", "schema_version"})
    return plain
