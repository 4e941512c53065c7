"""Collections: documents on disk, searchable by vectors, terms and tokens."""

from ragkit.collection.collection import Collection

__all__ = ["Collection"]
