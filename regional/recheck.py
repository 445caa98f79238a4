"""Proves from the region's own disk that each committed round's model is what its sums say.

The ring's sums, the base model and the server state are read from the mailbox, the server step is
taken again, and what it gives is compared with what the ledger recorded.  Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from common.digest import EMPTY_DIGEST, tensors_digest
from common.errors import ConfigError, ContractError
from common.mailbox import Mailbox
from common.messages import LatePlan, RoundSpec
from common.signing import PUBLIC_NAME, Keyring
from common.wire import with_prefix
from regional.commit import Repeated, repeat_step
from regional.config import RegionConfig
from regional.groups import contributions
from regional.late import Contribution
from regional.learning import location
from regional.progress import Progress, Stored, after
from regional.records import HospitalAdmitted, Record, RoundEnded
from regional.store import Store

Verdict = Literal["equal", "differs", "unreadable"]
OF_SUMS = ("sums_digest", "num_updates", "num_evaluated", "num_saturated", "evaluation")


@dataclass(frozen=True)
class Claim:
    """A committed round as the ledger has it.

    Attributes
    ----------
    keys : mapping of str to str
        Public keys of the hospitals at that time, and of those that had left.
    late : LatePlan or None
        What slow groups' rounds added to the step, of which these are the `contributions`.
    num_late_updates, num_late_saturated : int
        Counts of theirs that the record has with the ring's own.
    """

    spec: RoundSpec
    ended: RoundEnded
    keys: Mapping[str, str] = field(default_factory=dict)
    late: LatePlan | None = None
    contributions: tuple[Contribution, ...] = ()
    num_late_updates: int = 0
    num_late_saturated: int = 0


@dataclass(frozen=True)
class Check:
    """What came of taking one round's step again; `reason` is empty when all is equal."""

    round_id: int
    day: int
    purpose: str
    verdict: Verdict
    reason: str
    model_digest: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def claims(records: Iterable[Record], first: int = 1, last: int | None = None) -> list[Claim]:
    """The committed rounds from `first` to `last`, in their order.

    Keys of hospitals that have left are kept: their signatures stand.
    """
    keys: dict[str, str] = {}
    found = []
    progress = Progress()
    for record in records:
        if isinstance(record, HospitalAdmitted):
            keys = {**keys, record.hospital: record.public_key}
        if isinstance(record, RoundEnded) and record.outcome.end == "committed":
            number = record.outcome.round_id
            if first <= number and (last is None or number <= last):
                found.append(_claim(progress, record, keys))
        progress = after(progress, record)
    return found


def _claim(progress: Progress, ended: RoundEnded, keys: Mapping[str, str]) -> Claim:
    own = progress.groups[ended.group] if ended.group else progress
    if own.spec is None:
        raise ContractError(f"round {ended.outcome.round_id} ended without having been opened")
    late = progress.ring.plan.late if progress.ring and not ended.group else None
    if late is None:
        return Claim(own.spec, ended, keys)
    counted = [each for each in contributions(progress) if each.spec.round_id in late.rounds]
    summed = [
        group.summed
        for group in progress.groups.values()
        if group.summed is not None and group.summed.round_id in late.rounds
    ]
    return Claim(
        own.spec,
        ended,
        keys,
        late,
        tuple(counted),
        num_late_updates=sum(each.num_updates for each in summed),
        num_late_saturated=sum(each.num_saturated for each in summed),
    )


def check(config: RegionConfig, claim: Claim) -> Check:
    """Take the server step of a committed round again.

    The verdict is ``unreadable`` when a file is missing, cut off, unsigned or not what its name
    says, and the reason names it.
    """
    outcome = claim.ended.outcome
    try:
        reason = _difference(reading_store(config, claim.keys), claim)
        verdict: Verdict = "differs" if reason else "equal"
    except FileNotFoundError as fault:
        verdict, reason = "unreadable", f"{fault.filename or fault} is missing"
    except (ContractError, ConfigError) as fault:
        verdict, reason = "unreadable", fault.message
    except OSError as fault:
        verdict, reason = "unreadable", str(fault)
    return Check(
        outcome.round_id, outcome.day, outcome.purpose, verdict, reason, outcome.model_digest
    )


def reading_store(config: RegionConfig, hospitals: Mapping[str, str]) -> Store:
    """The region's mailbox, open for reading only."""
    keys = {name: hospital.key for name, hospital in config.hospitals.items()}
    keys["region"] = config.state_dir / PUBLIC_NAME
    store = Store(Mailbox(config.mailbox, None, Keyring(keys)), config.region)
    store.trust(hospitals)
    return store


def _difference(store: Store, claim: Claim) -> str:
    spec, ended = claim.spec, claim.ended
    base, state = store.base_of(spec)
    sums = store.sums(spec, ended.outcome.sums_digest or "")
    late = store.late(claim.late) if claim.late else None
    repeated = repeat_step(spec, sums, base, state, ended.next_bits, late)
    found = _found(repeated, claim) | _late_digest(store, claim)
    said = _recorded(ended) | ({"late_digest": claim.late.digest} if claim.late else {})
    if ended.group:  # its sums made no model of their own: they were added to another round's
        said = {name: said[name] for name in OF_SUMS}
    different = [
        f"{name}: recorded {_shown(said[name])}, computed {_shown(found[name])}"
        for name in said
        if said[name] != found[name]
    ]
    _read_what_was_stored(store, claim)
    return "; ".join(different)


def _recorded(ended: RoundEnded) -> dict[str, Any]:
    outcome = ended.outcome
    return {
        "sums_digest": outcome.sums_digest,
        "model_digest": outcome.model_digest,
        "state_digest": outcome.state_digest,
        "num_updates": ended.num_updates,
        "num_evaluated": ended.num_evaluated,
        "num_saturated": ended.num_saturated,
        "evaluation": ended.evaluation,
        "exponents": ended.exponents,
    }


def _late_digest(store: Store, claim: Claim) -> dict[str, str]:
    """Digest of what slow groups' rounds add, made again from their own sums."""
    if claim.late is None:
        return {}
    late = store.made_late(claim.spec, claim.contributions)
    tensors = with_prefix("update", late.sums.tensors)
    return {"late_digest": tensors_digest(tensors)}


def _found(repeated: Repeated, claim: Claim) -> dict[str, Any]:
    return {
        "sums_digest": repeated.sums_digest,
        "model_digest": repeated.model_digest,
        "state_digest": repeated.state_digest,
        "num_updates": repeated.num_updates + claim.num_late_updates,
        "num_evaluated": repeated.num_evaluations,
        "num_saturated": repeated.num_saturated + claim.num_late_saturated,
        "evaluation": repeated.evaluation,
        "exponents": repeated.exponents,
    }


def _read_what_was_stored(store: Store, claim: Claim) -> None:
    """Make sure that the round's model and state lie there and are what they are called."""
    spec, outcome = claim.spec, claim.ended.outcome
    if claim.ended.group:
        return
    if outcome.model_digest != spec.base_digest:
        store.model(Stored(outcome.model_digest, outcome.round_id))
    if outcome.state_digest not in (spec.state_digest, EMPTY_DIGEST):
        stored = Stored(outcome.state_digest, outcome.round_id)
        store.state(location(spec.region, stored), stored.digest)


def _shown(value: object) -> str:
    return str(value)[:12] if isinstance(value, str) else str(value)[:60]
