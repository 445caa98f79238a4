"""Whose messages are taken: nobody's whose consent was withdrawn, and none for a while of a
wristband that keeps sending what no sound one sends.

An operator's word is a row in the ledger, written beside the running node; the node reads it at its
next turn and is alone in giving fates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

from common.messages import Fate, Reason
from edge.ledger import Ledger

BLAMED = frozenset(
    {
        Reason.OVERSIZE,
        Reason.MALFORMED,
        Reason.SCHEMA,
        Reason.WRONG_IDENTITY,
        Reason.WRONG_SHAPE,
        Reason.NOT_FINITE,
        Reason.OUT_OF_RANGE,
        Reason.NORM,
        Reason.IMPOSSIBLE_COUNTS,
        Reason.CONFLICTING_DUPLICATE,
    }
)
"""Reasons that are the sender's own fault; to be late or not invited is none."""

FORGIVEN = 4


@dataclass(frozen=True)
class MuteRule:
    """A wristband is muted for `mute_s` after `after` blamed refusals without a stored message.

    So is one whose updates a screen has set aside `after` times, less one for every `FORGIVEN` that
    were counted.  ``after = 0`` mutes nobody.
    """

    after: int = 5
    mute_s: float = 3600.0


class Tally:
    """How often each wristband's updates were set aside by a screen; `FORGIVEN` counted ones make
    one such good.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._points: Counter[str] = Counter()

    def note(self, set_aside: Iterable[str], counted: Iterable[str]) -> list[str]:
        """Note an aggregate; say who has now been set aside `after` times, and forget them."""
        for device in counted:
            self._points[device] = max(0, self._points[device] - 1)
        for device in set(set_aside):
            self._points[device] += FORGIVEN
        limit = self._after * FORGIVEN
        reached = sorted(name for name, points in self._points.items() if 0 < limit <= points)
        for device in reached:
            del self._points[device]
        return reached


class Standing:
    """Who of the roster is revoked or muted; `read` takes over what others wrote in the ledger."""

    def __init__(self, ledger: Ledger, rule: MuteRule = MuteRule()) -> None:
        self._ledger = ledger
        self._rule = rule
        self._faults: Counter[str] = Counter()
        self._tally = Tally(rule.after)
        self.revoked: frozenset[str] = frozenset()
        self._muted_until: dict[str, float] = {}
        self.read()

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Forget what was noted inside when that fails, as the ledger does: it will come again."""
        faults, muted_until = self._faults.copy(), self._muted_until.copy()
        tally = deepcopy(self._tally)
        try:
            yield
        except BaseException:
            self._faults, self._muted_until, self._tally = faults, muted_until, tally
            raise

    def read(self) -> None:
        """Read consents and mutes again."""
        self.revoked = self._ledger.revoked()
        self._muted_until = self._ledger.mutes()

    def muted(self, now: float) -> frozenset[str]:
        """Wristbands that are muted at `now`."""
        return frozenset(name for name in self._muted_until if self._is_muted(name, now))

    def barred(self, now: float) -> frozenset[str]:
        """Wristbands that nothing is asked of and nothing is taken from."""
        return self.revoked | self.muted(now)

    def refuses(self, device: str, now: float) -> Reason | None:
        """Why nothing of a device is looked at, if nothing is."""
        if device in self.revoked:
            return Reason.REVOKED
        return Reason.MUTED if self._is_muted(device, now) else None

    def praise(self, device: str) -> None:
        """Note a stored message: what was before is forgotten."""
        self._faults.pop(device, None)

    def blame(self, device: str, reason: Reason, now: float) -> None:
        """Note a refusal of a wristband of the roster, within a transaction of the ledger."""
        if reason not in BLAMED or not self._rule.after:
            return
        self._faults[device] += 1
        if self._faults[device] >= self._rule.after:
            self.mute(device, reason, now)

    def screened(self, quarantined: Iterable[str], members: Iterable[str], now: float) -> None:
        """Note whose updates an aggregate left aside and took, within a transaction of the ledger."""
        for device in self._tally.note(quarantined, members):
            self.mute(device, Fate.QUARANTINED, now)

    def mute(self, device: str, reason: Reason | Fate, now: float) -> None:
        """Take nothing of a device for the rule's time."""
        until = now + self._rule.mute_s
        self._ledger.mute(device, reason.value, now, until)
        self._muted_until[device] = until
        self._faults.pop(device, None)

    def _is_muted(self, device: str, now: float) -> bool:
        left_s = self._muted_until.get(device, now) - now
        return 0 < left_s <= self._rule.mute_s  # a clock set back mutes nobody for longer
