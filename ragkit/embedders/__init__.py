"""Texts to unit vectors."""

from __future__ import annotations

from ragkit.types import Embedder

__all__ = ["load_embedder"]


def load_embedder(name: str = "minilm", *, device: str = "cpu") -> Embedder:
    """The embedder that a string names.

    Args:
        name: "minilm" (the default: onnx, int8), "minilm:fp32", a model folder, "hf:ORG/NAME", and
            any of these behind "transformer:" for sentence-transformers.
        device: For "transformer:" names: "cpu" or "cuda".

    Raises:
        ModelError: The model cannot be found, or the onnx embedder cannot read it.
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
