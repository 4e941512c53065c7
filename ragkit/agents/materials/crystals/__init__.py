"""Crystal structures: cells, symmetry, voids, similarity, and the tools over them."""
