"""Clinical metrics from confusion counts."""
