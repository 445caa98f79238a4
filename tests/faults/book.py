"""The wristbands' own book: what they sent and which receipts they heard.

It is the truth that the region's ledgers are held against: it shares no code with the edge node,
and it is never read by the product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

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
    """

    hospital: str
    key: Key
    num_examples: int
    tensors: dict[str, npt.NDArray[np.signedinteger[Any]]]
    num_saturated: int = 0

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
    """

    sent: dict[str, Made] = field(default_factory=dict)
    receipts: list[Heard] = field(default_factory=list)
    num_messages: int = 0

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
        """Receipts for what nobody sent, or that went to another device."""
        found = []
        for receipt in self.receipts[num_known:]:
            made = self.sent.get(receipt.content_digest)
            if made is None or made.device != receipt.device:
                found.append(receipt)
        return found
