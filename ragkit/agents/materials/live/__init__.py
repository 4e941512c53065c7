"""Back end for the Materials Project's live API."""
