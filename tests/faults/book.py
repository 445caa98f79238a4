"""The wristbands' own book: what they sent and which receipts they heard.

It is the truth that the region's ledgers are held against; the product never reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.digest import tensors_digest
from common.messages import FixedPoint

Subject = Literal["update", "evaluation"]
Key = tuple[str, str, str]
"""Device, subject, and digest of the base or number of the round: what may be stored once."""


@dataclass(frozen=True)
class Made:
    """An update or evaluation as a wristband made it; it may be sent in several rounds.

    Attributes
    ----------
    key : Key
        Under which the edge node may store it, once.
    tensors : mapping of str to array
        The integers, as they travel.
    rule : FixedPoint or None
        How an update became integers.
    """

    hospital: str
    key: Key
    num_examples: int
    tensors: dict[str, npt.NDArray[np.signedinteger[Any]]]
    num_saturated: int = 0
    rule: FixedPoint | None = None

    @cached_property
    def delivered(self) -> str:
        """What the edge node's ledger calls it, in whichever round it was sent."""
        return f"{tensors_digest(self.tensors)}:{self.num_examples}"

    @property
    def device(self) -> str:
        """Who made it."""
        return self.key[0]

    @property
    def subject(self) -> str:
        """What it is."""
        return self.key[1]


@dataclass(frozen=True)
class Heard:
    """A receipt, as it came."""

    content_digest: str
    device: str
    status: str
    reason: str


@dataclass
class Book:
    """Filled by the wristbands' thread; lists only grow, so that others may read what is there.

    Attributes
    ----------
    sent : dict of str to Made
        By the SHA-256 of the bytes that were handed to the network, before they were.
    made : dict of Key to list of Made
        All that was made under a key.
    rubbish : dict of str to str
        Digest of bytes that are no message, and the device that sent them.
    """

    sent: dict[str, Made] = field(default_factory=dict)
    made: dict[Key, list[Made]] = field(default_factory=dict)
    rubbish: dict[str, str] = field(default_factory=dict)
    receipts: list[Heard] = field(default_factory=list)
    num_messages: int = 0

    def note(self, content_digest: str, made: Made) -> None:
        """Write down what is about to be sent."""
        self.sent[content_digest] = made
        others = self.made.setdefault(made.key, [])
        if all(other is not made for other in others):
            others.append(made)

    def find(self, key: Key, delivered: str) -> Made | None:
        """What was made under a key and is called that in a ledger."""
        return next((m for m in self.made.get(key, ()) if m.delivered == delivered), None)

    def told_stored(self, num_known: int = 0) -> dict[Key, list[Made]]:
        """What wristbands were told to be stored, by key, from receipt number `num_known` on."""
        found: dict[Key, list[Made]] = {}
        for receipt in self.receipts[num_known:]:
            made = self.sent.get(receipt.content_digest)
            if receipt.status == "stored" and made is not None:
                others = found.setdefault(made.key, [])
                if all(other is not made for other in others):
                    others.append(made)
        return found

    def strange(self, num_known: int = 0) -> list[Heard]:
        """Receipts for what nobody sent, or that went to another device, or praise rubbish."""
        found = []
        for receipt in self.receipts[num_known:]:
            made = self.sent.get(receipt.content_digest)
            sender = made.device if made else self.rubbish.get(receipt.content_digest)
            if sender != receipt.device or (made is None and receipt.status == "stored"):
                found.append(receipt)
        return found
