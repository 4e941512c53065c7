"""Chemical elements, formulas, names and material properties."""
