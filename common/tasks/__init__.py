"""Learning tasks: what a round, a seal and a release need to know of a model."""
