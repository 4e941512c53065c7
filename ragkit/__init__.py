"""ragkit: retrieval-augmented question answering with citations a machine can re-check."""
