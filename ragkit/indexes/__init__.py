"""Vectors and terms to rows. Indexes are built once and never changed."""
