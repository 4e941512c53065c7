"""Materials science for agents: tools over the Materials Project, live or from a snapshot."""
