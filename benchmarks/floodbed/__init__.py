"""What `benchmarks.flood` runs: an edge node in an open round, good wristbands, attackers."""
