"""What `benchmarks.intake` and `benchmarks.overflow` run: publishers, a counter, an edge node."""
