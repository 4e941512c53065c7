"""Sentences of passages as readers quote them."""

from __future__ import annotations

from dataclasses import dataclass

from ragkit.chunking.sentences import RuleSegmenter
from ragkit.chunking.tables import split_rows
from ragkit.markdown import find_tables, name_cells
from ragkit.types import Chunk


@dataclass(frozen=True, slots=True)
class SourceSentence:
    """A sentence or table row `chunk.text[start:end]`.

    Attributes:
        start: Offset in the chunk's text.
        end: End offset.
        text: The sentence; for a row of a table "name: cell; …", with the names of the columns.
        table: Header row of the row's table; empty for sentences.
    """

    start: int
    end: int
    text: str
    table: str = ""


def source_sentences(chunk: Chunk, segmenter: RuleSegmenter) -> list[SourceSentence]:
    """Return the sentences and table rows of a chunk, without header and delimiter rows.

    >>> chunk = Chunk("d:9-21", "d", "| V-70 | 5 |", 9, 21, {"table": "| valve | bar |"})
    >>> [sentence.text for sentence in source_sentences(chunk, RuleSegmenter())]
    ['valve: V-70; bar: 5']
    """
    text = chunk.text
    tables = find_tables(text, chunk.table)
    headers = {row: table.header for table in tables for row in table.rows}
    heads = {table.start for table in tables}
    sentences = []
    for span in split_rows(text, segmenter.sentences(text), tables):
        start, end = span
        if span in headers:
            named = name_cells(text[start:end], headers[span])
            sentences.append(SourceSentence(start, end, named, headers[span]))
        elif start not in heads:
            sentences.append(SourceSentence(start, end, text[start:end]))
    return sentences
