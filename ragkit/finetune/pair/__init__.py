"""Training of the pair model: examples, near misses, and the three heads' losses."""
