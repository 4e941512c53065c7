"""Immutable vector, term and token indexes."""
