"""What the card beside a release says about the ECG that it learned from."""

from __future__ import annotations

import json
from pathlib import Path

CARD = "card.json"
UNSTATED = "unstated"
MAX_CARD_BYTES = 1 << 20


def trained_on(folder: Path) -> str:
    """The region's statement of its data in a release's card, ``"unstated"`` where there is none."""
    try:
        with (folder / CARD).open("rb") as file:
            stated = json.loads(file.read(MAX_CARD_BYTES))["provenance"]["data_source"]
    except (OSError, ValueError, KeyError, TypeError):
        return UNSTATED
    return stated if isinstance(stated, str) else UNSTATED


def is_synthetic(statement: str) -> bool:
    """Whether a statement of data names synthetic ECG."""
    return "synthetic" in statement.lower()
