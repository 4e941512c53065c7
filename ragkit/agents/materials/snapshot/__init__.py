"""Back end for the shipped snapshot of published values."""
