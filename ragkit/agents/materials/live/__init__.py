"""The Materials Project's live API, as a back end."""
