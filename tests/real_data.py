"""Real records for the tests that need them, or a skip that says what lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def mitdb_root() -> Path:
    """Return the data root that holds ``mitdb/``; skip the calling test where there is none."""
    return _root("MIT-BIH", "mitdb/100.dat")


def nstdb_root() -> Path:
    """Return the data root that holds ``nstdb/``; skip the calling test where there is none."""
    return _root("Noise Stress Test Database", "nstdb/bw.dat", "nstdb/ma.dat")


def _root(database: str, *files: str) -> Path:
    root = os.environ.get("PULSERING_DATA")
    if not root:
        pytest.skip(f"{database} lacks: PULSERING_DATA is not set")
    if not all((Path(root) / file).is_file() for file in files):
        pytest.skip(f"{database} lacks: no {', '.join(files)} below PULSERING_DATA")
    return Path(root)
