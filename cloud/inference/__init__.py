"""Released models in memory, and what they say about a strip."""
