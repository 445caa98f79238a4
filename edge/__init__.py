"""The edge node of one community hospital."""
