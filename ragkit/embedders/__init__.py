"""Embedders: texts to unit vectors."""

from __future__ import annotations

from ragkit.types import Embedder

__all__ = ["load_embedder"]


def load_embedder(name: str = "minilm", *, device: str = "cpu") -> Embedder:
    """Load the embedder with this name.

    Args:
        name: "minilm" (the default: ONNX, int8), "minilm:fp32", a model folder or "hf:ORG/NAME";
            prefixed with "transformer:" to use sentence-transformers.
        device: "cpu" or "cuda", for "transformer:" names.

    Raises:
        ModelError: The model cannot be found, or the ONNX embedder does not support it.
        MissingExtra: A package is missing; the message has the pip line.
    """
    if name.startswith("transformer:"):
        from ragkit.embedders.transformer import TransformerEmbedder

        return TransformerEmbedder(name.removeprefix("transformer:"), device=device)
    from ragkit.embedders.onnx import OnnxEmbedder

    if name.endswith((":fp32", ":int8")):
        model, _, precision = name.rpartition(":")
        return OnnxEmbedder(model, precision="fp32" if precision == "fp32" else "int8")
    return OnnxEmbedder(name)
