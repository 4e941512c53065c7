"""Prompt templates of generative retrievers, which may contain trained vectors (soft prompts).

A vector is written as one character of a Unicode private use plane and read as a token id after the
vocabulary, so that prompts remain plain strings. These characters are removed from queries, so that
a user cannot insert a vector.

Source: Chen et al. 2023 (UGR) for discrete, continuous and hybrid prompts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.digests import digest, text_digest
from ragkit.durable import read_small
from ragkit.errors import ModelError

if TYPE_CHECKING:
    import torch

PROMPTS: Mapping[str, str] = {
    "title": "Query: {query}\nTitle:",
    "passage": "Query: {query}\nPassage:",
    "document": "Query: {query}\nDocument:",
    "sentence": "Query: {query}\nSentence:",
    "entity": "Query: {query}\nEntity:",
}
"""Default template by unit (UGR's discrete prompts; SEAL's "|| title", "|| body")."""

_FALLBACK_UNITS: Mapping[str, tuple[str, ...]] = {
    "title": ("entity", "document", "passage", "sentence"),
    "passage": ("document", "sentence", "entity", "title"),
    "document": ("passage", "entity", "sentence", "title"),
    "sentence": ("passage", "document", "entity", "title"),
    "entity": ("document", "title", "passage", "sentence"),
}
VECTORS_FILE = "prompts.safetensors"
QUERY = "{query}"
_FIRST_CODE_POINT = 0xF0000
_VECTOR = re.compile("([\U000f0000-\U000fffff])")
_MAX_JSON_BYTES = 1 << 20
_MAX_VECTOR_BYTES = 1 << 26
_DTYPES = {"torch.float32", "torch.bfloat16", "torch.float16"}
_MAX_TEMPLATE_CHARACTERS = 2000  # a prompt is read for every query and copied to every beam
# Everything that parsing an arbitrary file as our JSON can raise.
_PARSE_ERRORS = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


def vector_text(number: int) -> str:
    """Return the character that represents a trained vector.

    >>> ord(vector_text(2)) == 0xF0002
    True

    Raises:
        ValueError: The number is outside 0 to 0xFFFD, the size of the private use plane.
    """
    if not 0 <= number < 0xFFFE:
        raise ValueError(f"the vector's number is {number}; expected 0 to {0xFFFD}")
    return chr(_FIRST_CODE_POINT + number)


def strip_vectors(text: str) -> str:
    """Remove the characters that represent vectors."""
    return _VECTOR.sub("", text)


def split_vectors(prompt: str) -> list[str | int]:
    """Split a prompt into texts and vector numbers; the first part is a text, possibly empty.

    >>> split_vectors(vector_text(0) + vector_text(1) + "Query:")
    ['', 0, 1, 'Query:']
    """
    first, *rest = _VECTOR.split(prompt)
    parts = [ord(p) - _FIRST_CODE_POINT if i % 2 == 0 else p for i, p in enumerate(rest)]
    return [first, *(part for part in parts if part != "")]


def nearest_template(unit: str, prompts: Mapping[str, str]) -> str:
    """Return a unit's template, or that of the most similar unit the model was trained for.

    >>> nearest_template("sentence", {"title": "a {query}", "document": "b {query}"})
    'b {query}'

    Raises:
        ValueError: The unit is unknown, or the model has no prompts.
    """
    if unit not in _FALLBACK_UNITS:
        raise ValueError(f"the unit is {unit!r}; expected one of {', '.join(_FALLBACK_UNITS)}")
    for candidate in (unit, *_FALLBACK_UNITS[unit]):
        if candidate in prompts:
            return prompts[candidate]
    raise ValueError("the model has no prompts; expected a prompt for at least one unit")


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompt templates with their trained vectors.

    Attributes:
        templates: Template by unit; each contains `{query}` once, and may contain vectors.
        vectors: float32 (vectors, width), used in place of token embeddings as input of the first
            layer; None without vectors.
    """

    templates: Mapping[str, str]
    vectors: torch.Tensor | None = None

    @property
    def identity(self) -> str:
        """Suffix of the model's identity; empty for the default `PROMPTS`."""
        if self.vectors is None and dict(self.templates) == dict(PROMPTS):
            return ""
        parts = [json.dumps(dict(self.templates), sort_keys=True)]
        if self.vectors is not None:
            parts.append(digest(self.vectors.detach().cpu().float().numpy().tobytes()))
        return f" + prompts {text_digest(' '.join(parts))}"


def read_prompts(folder: Path) -> Prompts:
    """Read the prompts of an adapter or a model from `ragkit.json` and `prompts.safetensors`.

    A folder without prompts uses `PROMPTS`.

    Raises:
        ModelError: The files cannot be read, or do not match each other.
    """
    if not (folder / "ragkit.json").is_file():
        return Prompts(PROMPTS)
    try:
        metadata = json.loads(read_small(folder / "ragkit.json", _MAX_JSON_BYTES))
        if not isinstance(metadata, dict):
            raise ValueError("ragkit.json is not a JSON object")
        if "prompts" not in metadata:
            return Prompts(PROMPTS)
        templates = _checked_templates(metadata["prompts"])
        n_vectors = count_vectors(templates)
        vectors = _read_vectors(folder / VECTORS_FILE, n_vectors) if n_vectors else None
    except _PARSE_ERRORS as error:
        raise ModelError(
            f"the prompts in {str(folder)!r} cannot be read ({error}); train again, or restore the "
            "folder as training wrote it"
        ) from error
    return Prompts(templates, vectors)


def count_vectors(templates: Mapping[str, str]) -> int:
    """Count the vectors that templates use: the highest vector number plus one."""
    numbers = [n for text in templates.values() for n in split_vectors(text) if isinstance(n, int)]
    return max(numbers, default=-1) + 1


def _checked_templates(templates: Any) -> dict[str, str]:
    if not isinstance(templates, dict) or not templates:
        raise ValueError("its prompts are not an object with a template by unit")
    for unit, text in templates.items():
        if unit not in _FALLBACK_UNITS or not isinstance(text, str) or text.count(QUERY) != 1:
            raise ValueError(
                f"its prompt for {unit!r:.60} is invalid; expected one of the units "
                f"{', '.join(_FALLBACK_UNITS)} and a string that contains {QUERY} once"
            )
        if len(text) > _MAX_TEMPLATE_CHARACTERS:
            raise ValueError(
                f"its prompt for {unit!r} has {len(text)} characters; expected at most "
                f"{_MAX_TEMPLATE_CHARACTERS}"
            )
    return templates


def _read_vectors(file: Path, n_vectors: int) -> torch.Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        vectors = load(read_small(file, _MAX_VECTOR_BYTES))["vectors"]
        if str(vectors.dtype) not in _DTYPES:
            raise ValueError(f"{file.name} has vectors of dtype {vectors.dtype}")
        vectors = vectors.float()
    except SafetensorError as error:
        raise ValueError(f"{file.name}: {error}") from error
    if vectors.ndim != 2 or len(vectors) != n_vectors or not bool(vectors.isfinite().all()):
        raise ValueError(
            f"{file.name} has vectors of shape {tuple(vectors.shape)}; expected {n_vectors} "
            "vectors of finite numbers"
        )
    return vectors


def model_inputs(
    reader: Any, tokens: torch.Tensor, vectors: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Return the model arguments for tokens, some of which may be trained vectors.

    Args:
        reader: A transformers model, or its encoder.
        tokens: int64 (rows, tokens): token ids, and vocab_size + j for vector j.
        vectors: float (vectors, width), or None.

    Returns:
        `input_ids` without vectors, else `inputs_embeds` of shape (rows, tokens, width).

    Raises:
        ModelError: A vector does not exist, or the vectors have another width than the embeddings.
    """
    import torch

    embedding = reader.get_input_embeddings()
    vocab_size, width = embedding.weight.shape
    is_token = tokens < vocab_size
    if bool(is_token.all()):
        return {"input_ids": tokens}
    last = int(tokens.max()) - vocab_size
    n_vectors, vector_width = (0, width) if vectors is None else tuple(vectors.shape)
    if vectors is None or last >= n_vectors or width != vector_width:
        raise ModelError(
            f"the prompt uses trained vector {last}, but the model has {n_vectors} vectors of "
            f"width {vector_width} for embeddings of width {width}. Load the adapter that was "
            "trained with the vectors, or use a prompt without vectors"
        )
    embedded = embedding(tokens.clamp(max=vocab_size - 1))  # (rows, tokens, width)
    trained = vectors.to(embedded)[(tokens - vocab_size).clamp(min=0)]  # (rows, tokens, width)
    return {"inputs_embeds": torch.where(is_token[..., None], embedded, trained)}
