"""Figures of PulseRing, each measured against its peer in the same run."""
