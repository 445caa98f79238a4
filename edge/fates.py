"""How rounds ended, as this hospital learns it, and what that means for its stored updates."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from common.messages import RoundOutcome
from edge.ledger import Ledger
from edge.models import Models

log = structlog.get_logger()


def settle(ledger: Ledger, outcome: RoundOutcome, hospital: str, now: float) -> None:
    """Record a round's end and the fates it gives; again is no fault."""
    if ledger.has_outcome(outcome.round_id):
        return
    with ledger.transaction():
        ledger.settle(outcome, hospital, now)
    log.info("round_ended", round_id=outcome.round_id, end=outcome.end)


def learn_missed(
    ledger: Ledger, models: Models, region: str, hospital: str, round_id: int, now: float
) -> None:
    """Learn how the rounds before `round_id` ended that updates still wait for.

    Raises
    ------
    ContractError, OSError
        When an outcome cannot be read or trusted.
    """
    first = ledger.first_waiting_round()
    if first is None or first >= round_id:
        return
    for missed in models.rounds(region):
        if first <= missed < round_id and not ledger.has_outcome(missed):
            outcome = models.outcome(region, missed)
            if outcome:
                settle(ledger, outcome, hospital, now)


def catch_up(
    ledger: Ledger,
    models: Models,
    region: str,
    hospital: str,
    round_id: int,
    base_digests: Iterable[str],
    now: float,
) -> None:
    """Learn how the rounds before `round_id` ended that updates still wait for.

    A past round without an outcome file did not commit: the coordinator writes the file before it
    opens the next round.  What then still waits for another base than `base_digests` is stale.

    Raises
    ------
    ContractError, OSError
        When an outcome cannot be read or trusted; nothing is stale until it can.
    """
    if ledger.first_waiting_round() is None:
        return
    learn_missed(ledger, models, region, hospital, round_id, now)
    with ledger.transaction():
        ledger.mark_stale(base_digests, round_id, now)
