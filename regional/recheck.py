"""Proves from the region's own disk that each committed round's model is what its sums say.

The ring's sums, the base model and the server state are read from the mailbox, the server step is
taken again, and what it gives is compared with what the ledger recorded.  Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from common.digest import EMPTY_DIGEST
from common.errors import ConfigError, ContractError
from common.mailbox import Mailbox
from common.messages import RoundSpec
from common.signing import PUBLIC_NAME, Keyring
from regional.commit import Repeated, repeat_step
from regional.config import RegionConfig
from regional.learning import location
from regional.progress import Stored
from regional.records import HospitalAdmitted, Record, RoundEnded, RoundOpened
from regional.store import Store

Verdict = Literal["equal", "differs", "unreadable"]


@dataclass(frozen=True)
class Claim:
    """A committed round as the ledger has it; `keys` are those of the hospitals at that time."""

    spec: RoundSpec
    ended: RoundEnded
    keys: Mapping[str, str] = field(default_factory=dict)


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
    specs: dict[int, RoundSpec] = {}
    found = []
    for record in records:
        match record:
            case HospitalAdmitted(hospital=name, public_key=key):
                keys = {**keys, name: key}
            case RoundOpened(spec=spec):
                specs = {spec.round_id: spec}  # at most one is open
            case RoundEnded(outcome=outcome):
                number = outcome.round_id
                wanted = first <= number and (last is None or number <= last)
                if wanted and outcome.end == "committed" and number in specs:
                    found.append(Claim(specs[number], record, keys))
            case _:
                pass
    return found


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
    repeated = repeat_step(spec, sums, base, state, ended.next_bits)
    found = _compared(repeated)
    said = _recorded(ended)
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


def _compared(repeated: Repeated) -> dict[str, Any]:
    return {
        "sums_digest": repeated.sums_digest,
        "model_digest": repeated.model_digest,
        "state_digest": repeated.state_digest,
        "num_updates": repeated.num_updates,
        "num_evaluated": repeated.num_evaluations,
        "num_saturated": repeated.num_saturated,
        "evaluation": repeated.evaluation,
        "exponents": repeated.exponents,
    }


def _read_what_was_stored(store: Store, claim: Claim) -> None:
    """Make sure that the round's model and state lie there and are what they are called."""
    spec, outcome = claim.spec, claim.ended.outcome
    if outcome.model_digest != spec.base_digest:
        store.model(Stored(outcome.model_digest, outcome.round_id))
    if outcome.state_digest not in (spec.state_digest, EMPTY_DIGEST):
        stored = Stored(outcome.state_digest, outcome.round_id)
        store.state(location(spec.region, stored), stored.digest)


def _shown(value: object) -> str:
    return str(value)[:12] if isinstance(value, str) else str(value)[:60]
