"""Store documents, chunks, jobs and vector cache keys in SQLite.

All SQL of a collection is in this package.
"""
