"""What a model is asked with: texts by unit, in which trained vectors may stand.

A vector is written as one character of a private plane of Unicode, and read as a token behind the
vocabulary, so that prompts stay plain texts everywhere. Queries lose these characters: a vector
comes from training, never from a user.

Source: UGR (Chen et al. 2023) for prompts of words, of vectors and of both.
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
"""What a model is asked for, by unit (UGR's discrete prompts; SEAL's "|| title", "|| body")."""

_NEAREST: Mapping[str, tuple[str, ...]] = {
    "title": ("entity", "document", "passage", "sentence"),
    "passage": ("document", "sentence", "entity", "title"),
    "document": ("passage", "entity", "sentence", "title"),
    "sentence": ("passage", "document", "entity", "title"),
    "entity": ("document", "title", "passage", "sentence"),
}
VECTORS_FILE = "prompts.safetensors"
QUERY = "{query}"
_FIRST = 0xF0000
_VECTOR = re.compile("([\U000f0000-\U000fffff])")
_JSON_BYTES = 1 << 20
_VECTOR_BYTES = 1 << 26
_TYPES = {"torch.float32", "torch.bfloat16", "torch.float16"}
_TEMPLATE_CHARACTERS = 2000  # a prompt is read for every query, and held by every beam
# What reading files of ours raises, whatever they hold.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


def vector_text(number: int) -> str:
    """The character that stands for a trained vector.

    >>> ord(vector_text(2)) == 0xF0002
    True

    Raises:
        ValueError: The number is below 0, or the plane has no such character.
    """
    if not 0 <= number < 0xFFFE:
        raise ValueError(f"the vector's number is {number}; expected 0 to {0xFFFD}")
    return chr(_FIRST + number)


def without_vectors(text: str) -> str:
    """A text without the characters that stand for vectors: they are nobody's text."""
    return _VECTOR.sub("", text)


def split_vectors(prompt: str) -> list[str | int]:
    """A prompt as texts and numbers of vectors; the first is a text, perhaps an empty one.

    >>> split_vectors(vector_text(0) + vector_text(1) + "Query:")
    ['', 0, 1, 'Query:']
    """
    first, *rest = _VECTOR.split(prompt)
    numbers = [ord(each) - _FIRST if at % 2 == 0 else each for at, each in enumerate(rest)]
    return [first, *(each for each in numbers if each != "")]


def nearest_template(unit: str, prompts: Mapping[str, str]) -> str:
    """A unit's prompt; that of the nearest unit if the model was not trained for this one.

    >>> nearest_template("sentence", {"title": "a {query}", "document": "b {query}"})
    'b {query}'

    Raises:
        ValueError: There is no such unit, or the model has no prompt at all.
    """
    if unit not in _NEAREST:
        raise ValueError(f"the unit is {unit!r}; expected one of {', '.join(_NEAREST)}")
    for each in (unit, *_NEAREST[unit]):
        if each in prompts:
            return prompts[each]
    raise ValueError("the model has no prompts; expected at least one unit's")


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What a model is asked with.

    Attributes:
        templates: By unit; each holds `{query}` once, and may hold vectors' characters.
        vectors: float32 (vectors, width), which replace token embeddings as the first layer gets
            them; None if there are none.
    """

    templates: Mapping[str, str]
    vectors: torch.Tensor | None = None

    @property
    def identity(self) -> str:
        """What a model's identity ends with: nothing for `PROMPTS`."""
        if self.vectors is None and dict(self.templates) == dict(PROMPTS):
            return ""
        known = [json.dumps(dict(self.templates), sort_keys=True)]
        if self.vectors is not None:
            known.append(digest(self.vectors.detach().cpu().float().numpy().tobytes()))
        return f" + prompts {text_digest(' '.join(known))}"


def read_prompts(folder: Path) -> Prompts:
    """The prompts of an adapter or a model, from `ragkit.json` and `prompts.safetensors`.

    A folder that says nothing of prompts has `PROMPTS`.

    Raises:
        ModelError: The files cannot be read, or do not belong together.
    """
    if not (folder / "ragkit.json").is_file():
        return Prompts(PROMPTS)
    try:
        about = json.loads(read_small(folder / "ragkit.json", _JSON_BYTES))
        if not isinstance(about, dict):
            raise ValueError("ragkit.json is no object")
        if "prompts" not in about:
            return Prompts(PROMPTS)
        templates = _checked(about["prompts"])
        n_vectors = count_vectors(templates)
        vectors = _read_vectors(folder / VECTORS_FILE, n_vectors) if n_vectors else None
    except _UNREADABLE as error:
        raise ModelError(
            f"the prompts in {str(folder)!r} cannot be read ({error}); train again, or restore the "
            "folder as training wrote it"
        ) from error
    return Prompts(templates, vectors)


def count_vectors(templates: Mapping[str, str]) -> int:
    """How many vectors templates ask for: one more than the highest number."""
    numbers = [n for text in templates.values() for n in split_vectors(text) if isinstance(n, int)]
    return max(numbers, default=-1) + 1


def _checked(templates: Any) -> dict[str, str]:
    if not isinstance(templates, dict) or not templates:
        raise ValueError("its prompts are no texts by unit")
    for unit, text in templates.items():
        if unit not in _NEAREST or not isinstance(text, str) or text.count(QUERY) != 1:
            raise ValueError(
                f"its prompt for {unit!r:.60} is no text for a known unit that holds {QUERY} once"
            )
        if len(text) > _TEMPLATE_CHARACTERS:
            raise ValueError(
                f"its prompt for {unit!r} has {len(text)} characters; expected at most "
                f"{_TEMPLATE_CHARACTERS}"
            )
    return templates


def _read_vectors(file: Path, n_vectors: int) -> torch.Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        vectors = load(read_small(file, _VECTOR_BYTES))["vectors"]
        if str(vectors.dtype) not in _TYPES:
            raise ValueError(f"{file.name} has vectors of {vectors.dtype}")
        vectors = vectors.float()
    except SafetensorError as error:
        raise ValueError(f"{file.name}: {error}") from error
    if vectors.ndim != 2 or len(vectors) != n_vectors or not bool(vectors.isfinite().all()):
        raise ValueError(
            f"{file.name} has vectors of shape {tuple(vectors.shape)}; expected {n_vectors} finite "
            "ones"
        )
    return vectors


def model_inputs(
    reader: Any, tokens: torch.Tensor, vectors: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The arguments with which a model reads tokens, of which some may be vectors.

    Args:
        reader: A transformers model, or its encoder.
        tokens: int64 (rows, tokens): ids, and vocab_size + j for vector j.
        vectors: float (vectors, width), or None.

    Returns:
        `input_ids` as they are if no token is a vector, else `inputs_embeds` (rows, tokens, width).

    Raises:
        ModelError: A token is a vector that is not there, or the vectors have another width.
    """
    import torch

    embedding = reader.get_input_embeddings()
    vocab_size, width = embedding.weight.shape
    own = tokens < vocab_size
    if bool(own.all()):
        return {"input_ids": tokens}
    last = int(tokens.max()) - vocab_size
    there = (0, width) if vectors is None else tuple(vectors.shape)
    if vectors is None or last >= there[0] or width != there[1]:
        raise ModelError(
            f"the prompt holds trained vector {last}, and the model has {there[0]} of width "
            f"{there[1]} for embeddings of width {width}. Load the adapter that was trained with "
            "them, or ask without"
        )
    embedded = embedding(tokens.clamp(max=vocab_size - 1))  # (rows, tokens, width)
    trained = vectors.to(embedded)[(tokens - vocab_size).clamp(min=0)]  # (rows, tokens, width)
    return {"inputs_embeds": torch.where(own[..., None], embedded, trained)}
