"""The coordinator of a region."""
