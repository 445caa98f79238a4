"""Real records for the tests that need them, or a skip that says what lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def mitdb_root() -> Path:
    """Return the data root that holds ``mitdb/``; skip the calling test where there is none."""
    root = os.environ.get("PULSERING_DATA")
    if not root:
        pytest.skip("MIT-BIH lacks: PULSERING_DATA is not set")
    if not (Path(root) / "mitdb" / "100.dat").is_file():
        pytest.skip("MIT-BIH lacks: no mitdb/100.dat below PULSERING_DATA")
    return Path(root)
