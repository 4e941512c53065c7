"""Crystal structures: unit cells, symmetry, voids and similarity, with tools."""
