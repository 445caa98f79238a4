"""What a region's statement about its ECG says."""

from __future__ import annotations


def is_synthetic(statement: str) -> bool:
    """Whether a statement of data names synthetic ECG."""
    return "synthetic" in statement.lower()
