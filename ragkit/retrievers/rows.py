"""How a passage becomes a row of tokens, and a query a prompt: one format for training and search.

    opening title … delimiter body …

Source: SEAL (Bevilacqua et al. 2022): the end symbol before a title, so that a title can be forced
to begin there, and a delimiter behind it. Ours differs in the delimiter (a line break for "@@") and
in that white space is made single spaces, so that an n-gram may cross a line.
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
    """The prompt that asks for a unit.

    Args:
        unit: What is to be found.
        query: It loses characters that stand for trained vectors, and white space becomes single
            spaces.
        prompts: The model's, as it was trained.

    >>> prompt_for("title", "who wrote Dune?")
    'Query: who wrote Dune?\\nTitle:'
    """
    asked = " ".join(strip_vectors(query).split())
    return nearest_template(unit, prompts).replace(QUERY, asked)


def fitted_query(model: BeamModel, units: Sequence[str], query: str) -> str:
    """So many of a query's words as the model's window takes with each unit's instruction.

    What is cut is a `Loss`.

    Raises:
        ValueError: Not even the first word fits.
    """
    words = strip_vectors(query).split()
    window = model.prompt_window

    def fits(n: int) -> bool:
        prompts = (prompt_for(unit, " ".join(words[:n]), model.prompts) for unit in units)
        return window is None or all(len(model.encode_prompt(each)) <= window for each in prompts)

    if fits(len(words)):
        return " ".join(words)
    n = bisect_left(range(1, len(words) + 1), True, key=lambda n: not fits(n))
    if n == 0:
        raise ValueError(
            f"the query begins with a word of {len(words[0])} characters, and a prompt of "
            f"{model.name!r} has at most {window} tokens; shorten it"
        )
    why = f"a prompt of {model.name!r} has at most {window} tokens"
    report(Loss("query", query[:60], f"{len(words) - n} words", f"{n} words", why))
    return " ".join(words[:n])


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Rows for one model.

    Args:
        model: Its tokenizer decides.
    """

    model: BeamModel

    @property
    def opening(self) -> Ngram:
        """What stands before a title, and nowhere else."""
        end = self.model.end_token  # no text holds it
        return (end, end) if self.delimiter == (end,) else (end,)

    @property
    def delimiter(self) -> Ngram:
        """What ends a title: a line break, if the tokenizer has one, else the end of a text."""
        line_break = self.model.encode("\n")
        alone = len(line_break) == 1 and self.model.decode(line_break) == "\n"
        return tuple(line_break) if alone else (self.model.end_token,)

    def body_start(self, tokens: Sequence[int]) -> int:
        """Where the body of a row begins."""
        first, end = len(self.opening), self.delimiter[0]
        found = [i for i in range(first, len(tokens)) if tokens[i] == end]
        return found[0] + 1 if found else first

    def title(self, title: str) -> Ngram:
        """A title as it stands in a row, with the delimiter; () for an empty one."""
        tokens = self.text(title)
        return (*tokens, *self.delimiter) if tokens else ()

    def text(self, text: str) -> Ngram:
        """A text as it stands in a row: every word with the space before it."""
        words = _SPACE.sub(" ", text).strip()
        return (
            tuple(t for t in self.model.encode(f" {words}") if t != self.model.end_token)
            if words
            else ()
        )

    def row(self, title: str, body: str) -> Ngram:
        """A whole row."""
        return (*self.opening, *self.title(title), *self.text(body))


def row_tokens(rows: RowFormat, granularity: str) -> Tokenize:
    """What makes the rows of a granularity; see `ragkit.indexes.token_layout`."""
    if granularity == "sentence":
        segmenter = RuleSegmenter()

        def sentences(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
            title = str(chunk.metadata.get("title", ""))
            return [
                (chunk.start + start, rows.row(title, text[start:end]))
                for start, end in segmenter.sentences(text)
            ]

        return sentences

    def whole(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
        start = 0 if granularity == "document" else chunk.start
        return [(start, rows.row(str(chunk.metadata.get("title", "")), text))]

    return whole


def title_tokens(rows: RowFormat, longest: int) -> Tokenize:
    """What makes the identifiers of a document: its title and its `aliases`, cut to a length."""

    def titles(chunk: Chunk, text: str) -> list[tuple[int, Sequence[int]]]:
        aliases = chunk.metadata.get("aliases") or []
        names = [chunk.metadata.get("title", ""), *(aliases if isinstance(aliases, list) else [])]
        found = [rows.text(name)[:longest] for name in names if isinstance(name, str)]
        return [(0, (*tokens, *rows.delimiter)) for tokens in dict.fromkeys(found) if tokens]

    return titles
