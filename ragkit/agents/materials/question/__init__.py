"""Questions about materials, read and planned by rules."""
