"""Documents to chunks: whole sentences packed into a budget of tokens.

Offsets count code points of the document's text, as everywhere; a chunk is always a slice of it.
"""

# ruff: noqa: RUF001 - clause marks of other scripts
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.types import Chunk, Document, Segmenter, Tokenizer

_BLOCK = 1 << 15  # code points tokenized at once: this memory does not grow with the document
_LONGEST_TOKEN = 32  # code points: more of them make a chunk full, however few tokens they are
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
    character but white space is in some chunk. A chunk is no longer than 32 characters for each
    token of the budget, since tokenizers read endless words (as in encoded data) as a single token.

    In a Markdown document (metadata "format" is "markdown") each header line starts a chunk, and
    chunks carry the texts of their headers from level 1 down as "headers". In a document with
    "pages" (the offset where each page starts) chunks carry the number of the page they start on,
    from 1, as "page".

    Args:
        tokenizer: Counts the tokens; called with blocks of about 32,000 characters and their
            chunks.
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
        self._max_length = _LONGEST_TOKEN * max_tokens  # code points
        self._block = max(_BLOCK, 4 * self._max_length)
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
        groups = zip(sections, _by_section(text, sentences, sections), strict=True)
        return [
            _chunk(document, _Run(run, section.headers))
            for section, spans in groups
            for run in self._runs(text, _bounded(text, spans, self._block))
        ]

    def _runs(self, text: str, spans: list[tuple[int, int]]) -> Iterator[list[_Unit]]:
        """The chunks to be of a section, tokenizing a block of it at a time."""
        first = 0
        while first < len(spans):
            start, last = spans[first][0], first + 1
            while last < len(spans) and spans[last][1] - start <= self._block:
                last += 1
            block = text[start : spans[last - 1][1]]
            tokens = _Tokens(self._tokenizer.spans([block])[0], offset=start)
            units = [unit for span in spans[first:last] for unit in self._units(text, span, tokens)]
            runs = list(self._packed(units, tokens))
            first = last
            if last < len(spans) and len(runs) > 1:  # the last run may go on in the next block
                begin = runs.pop()[0].start
                while spans[first - 1][0] > begin:
                    first -= 1
                if spans[first - 1][1] > begin:
                    first -= 1
                    spans[first] = (begin, spans[first][1])
            # A run that is the whole block was counted in its only context.
            alone = len(runs) == 1 and _extent(runs[0]) == (start, start + len(block))
            fits = alone and len(tokens.ends) <= self._max_tokens
            yield from runs if fits else self._fitting(text, runs)

    def _is_over(self, start: int, end: int, tokens: _Tokens) -> bool:
        """Whether text[start:end] is more than one chunk may hold."""
        return tokens.count(start, end) > self._max_tokens or end - start > self._max_length

    def _units(self, text: str, span: tuple[int, int], tokens: _Tokens) -> Iterator[_Unit]:
        """The sentence, or its pieces that each fit a chunk."""
        start, end = span
        whole = not self._is_over(start, end, tokens)
        while self._is_over(start, end, tokens):
            cut = self._cut(text, start, tokens)
            if cut >= end:
                break
            yield _Unit(start, _rstripped(text, start, cut), whole=False)
            start = _lstripped(text, cut, end)
        yield _Unit(start, end, whole)

    def _cut(self, text: str, start: int, tokens: _Tokens) -> int:
        """Where to cut text[start:] so that the first part fits a chunk.

        After the last clause mark of the last quarter, else after the last white space of the
        second half, else before the first token that is too many, or after it where nothing stands
        before it.
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
            found = pattern.finditer(text, max(start + 1, lowest), hard)
            cut = max((match.end() for match in found), default=0)
            if cut:
                return cut
        return hard

    def _packed(self, units: Sequence[_Unit], tokens: _Tokens) -> Iterator[list[_Unit]]:
        """Runs of units within the budget, each as long as possible."""
        packed: list[_Unit] = []
        for unit in units:
            if packed and self._is_over(packed[0].start, unit.end, tokens):
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
            if tokens.count(start, packed[-1].end) > self._overlap or self._is_over(
                start, unit.end, tokens
            ):
                break
            first -= 1
        return packed[first:]

    def _fitting(self, text: str, runs: list[list[_Unit]]) -> list[list[_Unit]]:
        """The runs, split where the tokenizer finds more tokens in a slice than in its context.

        Word pieces depend on their word, and byte pairs on the space before them. Part of a split
        run may be all repeated from the one before: it is left out.
        """
        fitting: list[list[_Unit]] = []
        pending = runs
        while pending:
            slices = [text[slice(*_extent(run))] for run in pending]
            split: list[list[_Unit]] = []
            for run, spans in zip(pending, self._tokenizer.spans(slices), strict=True):
                halves = self._split(text, run, spans) if len(spans) > self._max_tokens else [run]
                (split if len(halves) > 1 else fitting).extend(halves)
            pending = split
        kept: list[list[_Unit]] = []
        for run in sorted(fitting, key=lambda run: (run[0].start, -run[-1].end)):
            if not kept or run[-1].end > kept[-1][-1].end:
                kept.append(run)
        return kept

    def _split(
        self, text: str, run: list[_Unit], spans: Sequence[tuple[int, int]]
    ) -> list[list[_Unit]]:
        """The run without its last unit and that unit; a single unit in pieces."""
        if len(run) > 1:
            return [run[:-1], run[-1:]]
        start, end, _ = run[0]
        tokens = _Tokens(spans, offset=start)
        return [[piece] for piece in self._units(text, (start, end), tokens)]


def _extent(units: Sequence[_Unit]) -> tuple[int, int]:
    return units[0].start, units[-1].end


def _bounded(text: str, spans: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """The spans, long ones cut at white space, or anywhere if there is none."""
    pieces = []
    for start, end in spans:
        while end - start > longest:
            spaces = _SPACE.finditer(text, start + longest // 2, start + longest)
            cut = max((match.end() for match in spaces), default=start + longest)
            pieces.append((start, _rstripped(text, start, cut)))
            start = _lstripped(text, cut, end)
        pieces.append((start, end))
    return pieces


def _rstripped(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _lstripped(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


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
    start, end = _extent(run.units)
    metadata = {key: value for key, value in document.metadata.items() if key != "pages"}
    if run.headers:
        metadata["headers"] = list(run.headers)
    pages = document.metadata.get("pages")
    if pages:
        metadata["page"] = max(1, bisect_right(pages, start))
    name = f"{document.id}:{start}-{end}"
    return Chunk(name, document.id, document.text[start:end], start, end, metadata)
