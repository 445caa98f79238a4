"""Contracts and computations that bytes carry across tiers."""
