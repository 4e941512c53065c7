"""Token format of passages and queries, shared by training and search.

    opening title … delimiter body …

Source: SEAL (Bevilacqua et al. 2022): an end-of-sequence token before a title, so that decoding can
be forced to start at a title, and a delimiter after it. Deviations: the delimiter is a line break
instead of "@@", and white space is normalized to single spaces, so that n-grams can span lines.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.indexes.token_layout import Tokenize
from ragkit.llms.beams import BeamModel
from ragkit.llms.soft_prompts import PROMPTS, QUERY, nearest_template, strip_vectors
from ragkit.losses import report
from ragkit.types import Chunk, Loss

Ngram = tuple[int, ...]

_SPACE = re.compile(r"\s+")


def prompt_for(unit: str, query: str, prompts: Mapping[str, str] = PROMPTS) -> str:
    """Return the prompt that asks the model for a unit.

    Args:
        unit: Unit to generate: "passage", "title", …
        query: Query. Characters that represent trained vectors are removed, and white space is
            normalized to single spaces.
        prompts: Prompt templates that the model was trained with.

    >>> prompt_for("title", "who wrote Dune?")
    'Query: who wrote Dune?\\nTitle:'
    """
    text = " ".join(strip_vectors(query).split())
    return nearest_template(unit, prompts).replace(QUERY, text)


def truncate_query(model: BeamModel, units: Sequence[str], query: str) -> str:
    """Truncate a query to the words that fit into the model's window with each unit's prompt.

    Truncation is reported as a `Loss`.

    Raises:
        ValueError: The first word alone does not fit.
    """
    words = strip_vectors(query).split()
    window = model.prompt_window

    def fits(n: int) -> bool:
        prompts = (prompt_for(unit, " ".join(words[:n]), model.prompts) for unit in units)
        return window is None or all(
            len(model.encode_prompt(prompt)) <= window for prompt in prompts
        )

    if fits(len(words)):
        return " ".join(words)
    n = bisect_left(range(1, len(words) + 1), True, key=lambda n: not fits(n))
    if n == 0:
        raise ValueError(
            f"the first word of the query has {len(words[0])} characters, and a prompt of "
            f"{model.name!r} has at most {window} tokens; shorten the query"
        )
    why = f"a prompt of {model.name!r} has at most {window} tokens"
    report(Loss("query", query[:60], f"{len(words) - n} words", f"{n} words", why))
    return " ".join(words[:n])


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Format of rows for one model.

    Args:
        model: Model whose tokenizer is used.
    """

    model: BeamModel

    @property
    def opening(self) -> Ngram:
        """Tokens before a title; they occur nowhere else."""
        end = self.model.end_token  # does not occur in texts
        return (end, end) if self.delimiter == (end,) else (end,)

    @property
    def delimiter(self) -> Ngram:
        """Token after a title: a line break if the tokenizer has one, else the end token."""
        line_break = self.model.encode("\n")
        is_token = len(line_break) == 1 and self.model.decode(line_break) == "\n"
        return tuple(line_break) if is_token else (self.model.end_token,)

    def body_start(self, tokens: Sequence[int]) -> int:
        """Return the token offset of a row's body."""
        first, end = len(self.opening), self.delimiter[0]
        delimiters = [i for i in range(first, len(tokens)) if tokens[i] == end]
        return delimiters[0] + 1 if delimiters else first

    def title(self, title: str) -> Ngram:
        """Encode a title with its delimiter; return () for an empty title."""
        tokens = self.text(title)
        return (*tokens, *self.delimiter) if tokens else ()

    def text(self, text: str) -> Ngram:
        """Encode a text, each word with its preceding space."""
        words = _SPACE.sub(" ", text).strip()
        return (
            tuple(
                token for token in self.model.encode(f" {words}") if token != self.model.end_token
            )
            if words
            else ()
        )

    def row(self, title: str, body: str) -> Ngram:
        """Encode a title and a body as a row."""
        return (*self.opening, *self.title(title), *self.text(body))


def row_tokenizer(rows: RowFormat, granularity: str) -> Tokenize:
    """Return a function that tokenizes chunks; see `ragkit.indexes.token_layout`."""
    if granularity == "sentence":
        segmenter = RuleSegmenter()

        def sentences(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
            title = str(chunk.metadata.get("title", ""))
            return [
                (chunk.start + start, rows.row(title, text[start:end]))
                for start, end in segmenter.sentences(text)
            ]

        return sentences

    def one_row(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
        start = 0 if granularity == "document" else chunk.start
        return [(start, rows.row(str(chunk.metadata.get("title", "")), text))]

    return one_row


def title_tokenizer(rows: RowFormat, max_tokens: int) -> Tokenize:
    """Return a function that tokenizes a document's title and `aliases`, truncated to a length."""

    def titles(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
        aliases = chunk.metadata.get("aliases") or []
        names = [chunk.metadata.get("title", ""), *(aliases if isinstance(aliases, list) else [])]
        encoded = [rows.text(name)[:max_tokens] for name in names if isinstance(name, str)]
        return [(0, (*tokens, *rows.delimiter)) for tokens in dict.fromkeys(encoded) if tokens]

    return titles
