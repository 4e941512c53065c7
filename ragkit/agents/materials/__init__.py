"""Materials science tools over the Materials Project, live or from a snapshot."""
