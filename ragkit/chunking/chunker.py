"""Split documents into chunks: whole sentences packed into a token budget.

Offsets are code point offsets into the document's text; a chunk is always a slice of it.
"""

# ruff: noqa: RUF001 - punctuation of other scripts
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ragkit.chunking.fields import find_fields
from ragkit.chunking.sentences import RuleSegmenter
from ragkit.chunking.tables import Tables
from ragkit.markdown import find_headings
from ragkit.types import Chunk, Document, Segmenter, Tokenizer

_BLOCK = 1 << 15  # code points tokenized at once, which bounds the memory for tokens
_LONGEST_TOKEN = 32  # code points; limits a chunk's length if tokens are long
_WORD = re.compile(r"\w+|[^\w\s]")
_CLAUSE = re.compile(r"[,;:)\]|–—，、；][\"'”’]{0,2}(?:\s|(?<=[，、；]))")
_SPACE = re.compile(r"\s")


class WordTokenizer:
    r"""Tokenizer for callers without a model: words (`\w+`) and single punctuation marks.

    >>> WordTokenizer().spans(["Fe3O4, 2 K"])
    [[(0, 5), (5, 6), (7, 8), (9, 10)]]
    """

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return each text's tokens as (start, end) code point offsets."""
        return [[match.span() for match in _WORD.finditer(text)] for text in texts]


class _Unit(NamedTuple):
    """Sentence text[start:end], or a part of a sentence longer than the budget."""

    start: int
    end: int
    is_sentence: bool = True


class _Section(NamedTuple):
    """Offset of a Markdown heading, and the texts of its headings from level 1 down."""

    start: int
    headers: list[str]


class _Run(NamedTuple):
    """Units of one future chunk, and its section's headers."""

    units: list[_Unit]
    headers: list[str]


class _Tokens:
    """Token offsets of a text, for counting the tokens in a slice."""

    def __init__(self, spans: Sequence[tuple[int, int]], offset: int = 0) -> None:
        self.starts = [start + offset for start, _ in spans]
        self.ends = [end + offset for _, end in spans]

    def before(self, position: int) -> int:
        """Return the number of tokens that end at or before `position`.

        Ends are compared, because some tokens begin with the space before a word.
        """
        return bisect_right(self.ends, position)

    def count(self, start: int, end: int) -> int:
        return self.before(end) - self.before(start)


class Chunker:
    """Greedy chunker that packs whole sentences into chunks of at most `max_tokens` tokens.

    A longer sentence is split after the last clause mark or white space before the limit, or else
    between two tokens. A chunk exceeds the budget only if a single character does. Every character
    except white space is in some chunk. A chunk has at most 32 characters per token of the budget,
    since tokenizers treat very long words (as in encoded data) as a single token.

    In a Markdown document (metadata "format" is "markdown") each heading starts a chunk, and
    the chunk metadata "headers" lists the texts of its headings from level 1 down. In a document
    with "pages" (the offset of each page) the chunk metadata "page" is the number, from 1, of the
    page on which the chunk starts.

    The rows of a table (see `ragkit.markdown`) count as sentences. The metadata "table" of a chunk
    that begins inside a table is the table's header row, whose tokens are part of the budget
    (up to one half of it). If the chunk begins inside a row, its first cell is
    "column: content of the row's first cell", and the columns before the chunk are left out. So it
    is for a chunk that begins inside the value of a CSV row's or JSON record's field: its "table"
    is the record's first field and the name of this field.

    Args:
        tokenizer: Tokenizer to count tokens; it is called with blocks of about 32,000 characters
            and with chunks.
        max_tokens: Maximum number of tokens of a chunk, at least 1.
        overlap: Maximum number of tokens of whole trailing sentences to repeat at the start of the
            next chunk of the section; 0 <= overlap < max_tokens.
        segmenter: Sentence segmenter; the default is `RuleSegmenter`.

    Raises:
        ValueError: `max_tokens` or `overlap` is out of range.

    >>> chunker = Chunker(WordTokenizer(), max_tokens=6)
    >>> [chunk.text for chunk in chunker.chunk(Document("a", "It is cold. It is late. Go."))]
    ['It is cold.', 'It is late. Go.']
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = 200,
        overlap: int = 0,
        segmenter: Segmenter | None = None,
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}, expected at least 1; the default is 200")
        if not 0 <= overlap < max_tokens:
            message = f"overlap is {overlap}, expected 0 <= overlap < max_tokens = {max_tokens}"
            raise ValueError(f"{message}; lower the overlap or raise max_tokens")
        self._tokenizer = tokenizer
        self._segmenter = RuleSegmenter() if segmenter is None else segmenter
        self._max_tokens = max_tokens
        self._max_length = _LONGEST_TOKEN * max_tokens  # code points
        self._block = max(_BLOCK, 4 * self._max_length)
        self._overlap = overlap

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for the manifest; equal settings and tokenizers give equal chunks."""
        name = getattr(self._segmenter, "name", type(self._segmenter).__name__)
        return {"max_tokens": self._max_tokens, "overlap": self._overlap, "segmenter": name}

    def chunk(self, document: Document) -> list[Chunk]:
        """Split a document into chunks, in text order; return [] if it is only white space."""
        text = document.text
        sentences = self._segmenter.sentences(text)
        if not sentences:
            return []
        markdown = document.metadata.get("format") == "markdown"
        sections = _find_sections(text) if markdown else [_Section(0, [])]
        tables = Tables(
            text, self._tokenizer, max_cost=self._max_tokens // 2, fields=find_fields(document)
        )
        sentences = tables.split(sentences)
        groups = zip(sections, _group_by_section(text, sentences, sections), strict=True)
        return [
            _chunk(document, _Run(run, section.headers), tables)
            for section, spans in groups
            for run in self._iter_runs(text, _limit_length(text, spans, self._block), tables)
        ]

    def _iter_runs(
        self, text: str, spans: list[tuple[int, int]], tables: Tables
    ) -> Iterator[list[_Unit]]:
        """Yield the runs of units of a section, tokenizing a block of it at a time."""
        first = 0
        while first < len(spans):
            start, last = spans[first][0], first + 1
            while last < len(spans) and spans[last][1] - start <= self._block:
                last += 1
            block = text[start : spans[last - 1][1]]
            tokens = _Tokens(self._tokenizer.spans([block])[0], offset=start)
            units = [
                unit
                for span in spans[first:last]
                for unit in self._split_sentence(text, span, tokens)
            ]
            runs = list(self._pack(units, tokens, tables))
            first = last
            if last < len(spans) and len(runs) > 1:  # the last run may continue in the next block
                begin = runs.pop()[0].start
                while spans[first - 1][0] > begin:
                    first -= 1
                if spans[first - 1][1] > begin:
                    first -= 1
                    spans[first] = (begin, spans[first][1])
            # If one run is the whole block, its tokens have been counted already.
            is_block = len(runs) == 1 and _span_of(runs[0]) == (start, start + len(block))
            fits = is_block and len(tokens.ends) <= self._max_tokens
            yield from runs if fits else self._split_long_runs(text, runs)

    def _is_over(self, start: int, end: int, tokens: _Tokens, extra: int = 0) -> bool:
        """Return True if text[start:end] and `extra` tokens are too long for one chunk."""
        n_tokens = tokens.count(start, end) + extra
        return n_tokens > self._max_tokens or end - start > self._max_length

    def _split_sentence(self, text: str, span: tuple[int, int], tokens: _Tokens) -> Iterator[_Unit]:
        """Yield the sentence, or parts of it that fit a chunk each."""
        start, end = span
        is_sentence = not self._is_over(start, end, tokens)
        while self._is_over(start, end, tokens):
            cut = self._find_cut(text, start, tokens)
            if cut >= end:
                break
            yield _Unit(start, _rstrip_end(text, start, cut), is_sentence=False)
            start = _lstrip_start(text, cut, end)
        yield _Unit(start, end, is_sentence)

    def _find_cut(self, text: str, start: int, tokens: _Tokens) -> int:
        """Return the offset at which to cut text[start:] so that the first part fits a chunk.

        Cut after the last clause mark in the last quarter of the chunk, else after the last white
        space in its second half, else before the first token beyond the limit, or after that token
        if it is the first one.
        """
        limit = tokens.before(start) + self._max_tokens
        longest = start + self._max_length
        by_tokens = limit < len(tokens.starts) and tokens.starts[limit] <= longest
        hard = tokens.starts[limit] if by_tokens else longest
        if hard <= start:
            return min(tokens.ends[limit], longest)
        for pattern, share in ((_CLAUSE, 4), (_SPACE, 2)):
            if by_tokens:
                lowest = tokens.starts[limit - self._max_tokens // share]
            else:
                lowest = longest - self._max_length // share
            matches = pattern.finditer(text, max(start + 1, lowest), hard)
            cut = max((match.end() for match in matches), default=0)
            if cut:
                return cut
        return hard

    def _pack(
        self, units: Sequence[_Unit], tokens: _Tokens, tables: Tables
    ) -> Iterator[list[_Unit]]:
        """Yield runs of units within the budget, each as long as possible."""
        packed: list[_Unit] = []
        cost = 0  # tokens of the header of the table in which the run begins
        for unit in units:
            if packed and self._is_over(packed[0].start, unit.end, tokens, cost):
                yield packed
                packed = self._overlapping(packed, unit, tokens, tables)
                cost = tables.cost((packed or [unit])[0].start)
            elif not packed:
                cost = tables.cost(unit.start)
            packed.append(unit)
        if packed:
            yield packed

    def _overlapping(
        self, packed: list[_Unit], unit: _Unit, tokens: _Tokens, tables: Tables
    ) -> list[_Unit]:
        """Return the last sentences of a run that fit the overlap and a chunk with `unit`."""
        if not self._overlap:
            return []
        first = len(packed)
        while first and packed[first - 1].is_sentence:
            start = packed[first - 1].start
            if tokens.count(start, packed[-1].end) > self._overlap or self._is_over(
                start, unit.end, tokens, tables.cost(start)
            ):
                break
            first -= 1
        return packed[first:]

    def _split_long_runs(self, text: str, runs: list[list[_Unit]]) -> list[list[_Unit]]:
        """Split the runs whose slice has more tokens than it had in the context of its block.

        Word pieces depend on their word, and byte pairs on the space before them. A part of a split
        run that lies within the previous run is dropped.
        """
        fitting: list[list[_Unit]] = []
        pending = runs
        while pending:
            slices = [text[slice(*_span_of(run))] for run in pending]
            split: list[list[_Unit]] = []
            for run, spans in zip(pending, self._tokenizer.spans(slices), strict=True):
                halves = self._split(text, run, spans) if len(spans) > self._max_tokens else [run]
                (split if len(halves) > 1 else fitting).extend(halves)
            pending = split
        distinct: list[list[_Unit]] = []
        for run in sorted(fitting, key=lambda run: (run[0].start, -run[-1].end)):
            if not distinct or run[-1].end > distinct[-1][-1].end:
                distinct.append(run)
        return distinct

    def _split(
        self, text: str, run: list[_Unit], spans: Sequence[tuple[int, int]]
    ) -> list[list[_Unit]]:
        """Split off the last unit of a run; split a run of a single unit into parts."""
        if len(run) > 1:
            return [run[:-1], run[-1:]]
        start, end, _ = run[0]
        tokens = _Tokens(spans, offset=start)
        return [[part] for part in self._split_sentence(text, (start, end), tokens)]


def _span_of(units: Sequence[_Unit]) -> tuple[int, int]:
    return units[0].start, units[-1].end


def _limit_length(
    text: str, spans: Sequence[tuple[int, int]], longest: int
) -> list[tuple[int, int]]:
    """Cut spans longer than `longest` at white space, or anywhere if there is none."""
    parts = []
    for start, end in spans:
        while end - start > longest:
            spaces = _SPACE.finditer(text, start + longest // 2, start + longest)
            cut = max((match.end() for match in spaces), default=start + longest)
            parts.append((start, _rstrip_end(text, start, cut)))
            start = _lstrip_start(text, cut, end)
        parts.append((start, end))
    return parts


def _rstrip_end(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _lstrip_start(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _group_by_section(
    text: str, sentences: Sequence[tuple[int, int]], sections: Sequence[_Section]
) -> list[list[tuple[int, int]]]:
    """Group sentences by section; cut a sentence at the start of a section inside it."""
    groups: list[list[tuple[int, int]]] = [[] for _ in sections]
    number = 0
    for start, end in sentences:
        remaining_start = start
        while number + 1 < len(sections) and sections[number + 1].start < end:
            boundary = sections[number + 1].start
            if boundary > remaining_start:
                groups[number].append(
                    (remaining_start, _rstrip_end(text, remaining_start, boundary))
                )
                remaining_start = _lstrip_start(text, boundary, end)
            number += 1
        groups[number].append((remaining_start, end))
    return groups


def _find_sections(text: str) -> list[_Section]:
    """Find the sections that begin at headings; the first one is the text before the headings."""
    sections = [_Section(0, [])]
    stack: list[tuple[int, str]] = []
    for heading in find_headings(text):
        while stack and stack[-1][0] >= heading.level:
            stack.pop()
        stack.append((heading.level, heading.name))
        sections.append(_Section(heading.start, [name for _, name in stack if name]))
    return sections


def _chunk(document: Document, run: _Run, tables: Tables) -> Chunk:
    start, end = _span_of(run.units)
    metadata = {key: value for key, value in document.metadata.items() if key != "pages"}
    if run.headers:
        metadata["headers"] = list(run.headers)
    pages = document.metadata.get("pages")
    if pages:
        metadata["page"] = max(1, bisect_right(pages, start))
    if header := tables.header(start):
        metadata["table"] = header
    chunk_id = f"{document.id}:{start}-{end}"
    return Chunk(chunk_id, document.id, document.text[start:end], start, end, metadata)
