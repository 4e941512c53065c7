"""Elements, formulas, names and properties."""
