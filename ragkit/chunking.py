"""Documents to chunks: whole sentences packed into a budget of tokens.

Offsets count code points of the document's text, as everywhere; a chunk is always a slice of it.
"""

# ruff: noqa: RUF001 - clause marks of other scripts
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ragkit.sentences import RuleSegmenter
from ragkit.types import Chunk, Document, Segmenter, Tokenizer

_WORD = re.compile(r"\w+|[^\w\s]")
_CLAUSE = re.compile(r"[,;:)\]–—，、；][\"'”’]{0,2}(?:\s|(?<=[，、；]))")
_SPACE = re.compile(r"\s")
# https://spec.commonmark.org/0.31.2/#atx-headings and #fenced-code-blocks: groups are the hashes,
# the fence, and the rest of the line.
_MARK = re.compile(r"^ {0,3}(?:(#{1,6})(?!\S)|(`{3,}+|~{3,}+))([^\n]*+)", re.MULTILINE)


class WordTokenizer:
    r"""Words (`\w+`) and single marks as tokens, for callers without a model.

    >>> WordTokenizer().spans(["Fe3O4, 2 K"])
    [[(0, 5), (5, 6), (7, 8), (9, 10)]]
    """

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Each text's tokens as (start, end) code point offsets."""
        return [[match.span() for match in _WORD.finditer(text)] for text in texts]


class _Unit(NamedTuple):
    """A sentence, or a piece of one that is longer than the budget; text[start:end]."""

    start: int
    end: int
    whole: bool = True


class _Section(NamedTuple):
    """Where a Markdown header line begins, and the texts of the headers from level 1 down to it."""

    start: int
    headers: list[str]


class _Run(NamedTuple):
    """The units of one chunk to be, and its section's headers."""

    units: list[_Unit]
    headers: list[str]


class _Tokens:
    """A text's tokens, counted over slices of it."""

    def __init__(self, spans: Sequence[tuple[int, int]], offset: int = 0) -> None:
        self.starts = [start + offset for start, _ in spans]
        self.ends = [end + offset for _, end in spans]

    def before(self, position: int) -> int:
        """How many tokens end at `position` or earlier: some begin with the space before a word."""
        return bisect_right(self.ends, position)

    def count(self, start: int, end: int) -> int:
        return self.before(end) - self.before(start)


class Chunker:
    """Whole sentences, packed greedily into chunks of at most `max_tokens` tokens.

    A sentence longer than that is split at the last clause mark or white space before the limit, or
    else between two tokens. A chunk exceeds the budget only where one character alone does. Every
    character but white space is in some chunk.

    In a Markdown document (metadata "format" is "markdown") each header line starts a chunk, and
    chunks carry the texts of their headers from level 1 down as "headers". In a document with
    "pages" (the offset where each page starts) chunks carry the number of the page they start on,
    from 1, as "page".

    Args:
        tokenizer: Counts the tokens; called twice a document, with batches.
        max_tokens: Budget of a chunk in tokens, at least 1.
        overlap: At most this many tokens of whole trailing sentences are repeated at the start of
            the next chunk of the section; 0 <= overlap < max_tokens.
        segmenter: Finds the sentences; None takes `RuleSegmenter`.

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
        self._overlap = overlap

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest records: the same settings and tokenizer give the same chunks."""
        name = getattr(self._segmenter, "name", type(self._segmenter).__name__)
        return {"max_tokens": self._max_tokens, "overlap": self._overlap, "segmenter": name}

    def chunk(self, document: Document) -> list[Chunk]:
        """The document's chunks in the order of the text; none if it is only white space."""
        text = document.text
        sentences = self._segmenter.sentences(text)
        if not sentences:
            return []
        markdown = document.metadata.get("format") == "markdown"
        sections = _sections(text) if markdown else [_Section(0, [])]
        tokens = _Tokens(self._tokenizer.spans([text])[0])
        runs: list[_Run] = []
        for section, spans in zip(sections, _by_section(text, sentences, sections), strict=True):
            units = [unit for span in spans for unit in self._units(text, span, tokens)]
            runs.extend(_Run(packed, section.headers) for packed in self._packed(units, tokens))
        # A chunk that is the whole text was counted in its only context.
        whole = len(runs) == 1 and sentences[0][0] == 0 and runs[0].units[-1].end == len(text)
        fits = whole and len(tokens.ends) <= self._max_tokens
        return [_chunk(document, run) for run in (runs if fits else self._fitting(text, runs))]

    def _units(self, text: str, span: tuple[int, int], tokens: _Tokens) -> Iterator[_Unit]:
        """The sentence, or its pieces of at most max_tokens tokens."""
        start, end = span
        whole = tokens.count(start, end) <= self._max_tokens
        while tokens.count(start, end) > self._max_tokens:
            cut = _cut(text, start, tokens, self._max_tokens)
            if cut >= end:
                break
            yield _Unit(start, _rstripped(text, start, cut), whole=False)
            start = _lstripped(text, cut, end)
        yield _Unit(start, end, whole)

    def _packed(self, units: Sequence[_Unit], tokens: _Tokens) -> Iterator[list[_Unit]]:
        """Runs of units within the budget, each as long as possible."""
        packed: list[_Unit] = []
        for unit in units:
            if packed and tokens.count(packed[0].start, unit.end) > self._max_tokens:
                yield packed
                packed = self._repeated(packed, unit, tokens)
            packed.append(unit)
        if packed:
            yield packed

    def _repeated(self, packed: list[_Unit], unit: _Unit, tokens: _Tokens) -> list[_Unit]:
        """The last whole sentences of a run, as the overlap allows and as leave room for `unit`."""
        if not self._overlap:
            return []
        first = len(packed)
        while first and packed[first - 1].whole:
            start = packed[first - 1].start
            if (
                tokens.count(start, packed[-1].end) > self._overlap
                or tokens.count(start, unit.end) > self._max_tokens
            ):
                break
            first -= 1
        return packed[first:]

    def _fitting(self, text: str, runs: list[_Run]) -> list[_Run]:
        """The runs, split where the tokenizer finds more tokens in a slice than in its context.

        Word pieces depend on their word, and byte pairs on the space before them.
        """
        fitting: list[_Run] = []
        pending = runs
        while pending:
            slices = [text[run.units[0].start : run.units[-1].end] for run in pending]
            split: list[_Run] = []
            for run, spans in zip(pending, self._tokenizer.spans(slices), strict=True):
                halves = self._split(text, run, spans) if len(spans) > self._max_tokens else [run]
                (split if len(halves) > 1 else fitting).extend(halves)
            pending = split
        return sorted(fitting, key=lambda run: (run.units[-1].end, run.units[0].start))

    def _split(self, text: str, run: _Run, spans: Sequence[tuple[int, int]]) -> list[_Run]:
        """The run without its last unit and that unit; a single unit in pieces."""
        units, headers = run
        if len(units) > 1:
            return [_Run(units[:-1], headers), _Run(units[-1:], headers)]
        start, end, _ = units[0]
        tokens = _Tokens(spans, offset=start)
        return [_Run([piece], headers) for piece in self._units(text, (start, end), tokens)]


def _rstripped(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _lstripped(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _cut(text: str, start: int, tokens: _Tokens, max_tokens: int) -> int:
    """Where to cut text[start:] so that the first part has at most `max_tokens` tokens.

    After the last clause mark of the last quarter, else after the last white space of the second
    half, else before the first token that is too many, or after it where nothing stands before it.
    """
    first = tokens.before(start)
    limit = first + max_tokens
    hard = tokens.starts[limit]
    if hard <= start:
        return tokens.ends[limit]
    for pattern, share in ((_CLAUSE, 4), (_SPACE, 2)):
        lowest = max(start + 1, tokens.starts[limit - max_tokens // share])
        cut = max((match.end() for match in pattern.finditer(text, lowest, hard)), default=0)
        if cut:
            return cut
    return hard


def _by_section(
    text: str, sentences: Sequence[tuple[int, int]], sections: Sequence[_Section]
) -> list[list[tuple[int, int]]]:
    """Each section's sentences; a sentence that runs into the next section is cut there."""
    groups: list[list[tuple[int, int]]] = [[] for _ in sections]
    number = 0
    for start, end in sentences:
        begin = start
        while number + 1 < len(sections) and sections[number + 1].start < end:
            border = sections[number + 1].start
            if border > begin:
                groups[number].append((begin, _rstripped(text, begin, border)))
                begin = _lstripped(text, border, end)
            number += 1
        groups[number].append((begin, end))
    return groups


def _sections(text: str) -> list[_Section]:
    """The sections that ATX headers outside fenced code start, after one for what precedes them.

    Source: CommonMark 0.31.2, sections 4.2 and 4.5. A fence that is never closed runs to the end.
    """
    sections = [_Section(0, [])]
    stack: list[tuple[int, str]] = []
    fence = ""
    for match in _MARK.finditer(text):
        hashes, mark, rest = match[1], match[2], match[3].strip()
        if mark:
            if not fence and not (mark[0] == "`" and "`" in rest):
                fence = mark
            elif fence and mark.startswith(fence) and not rest:
                fence = ""
        elif not fence:
            while stack and stack[-1][0] >= len(hashes):
                stack.pop()
            stack.append((len(hashes), _header_text(rest)))
            headers = [header for _, header in stack if header]
            sections.append(_Section(match.start(), headers))
    return sections


def _header_text(rest: str) -> str:
    """A header line's text without the closing hashes, which stand alone or after white space."""
    bare = rest.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else rest


def _chunk(document: Document, run: _Run) -> Chunk:
    start, end = run.units[0].start, run.units[-1].end
    metadata = {key: value for key, value in document.metadata.items() if key != "pages"}
    if run.headers:
        metadata["headers"] = list(run.headers)
    pages = document.metadata.get("pages")
    if pages:
        metadata["page"] = max(1, bisect_right(pages, start))
    name = f"{document.id}:{start}-{end}"
    return Chunk(name, document.id, document.text[start:end], start, end, metadata)
