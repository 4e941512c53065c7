"""Render hits and answers as HTML for notebooks, with cited spans highlighted."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.types import Answer, Hit

_MARK = "background:#fff3b0;color:#222;padding:0 .1em"
_MUTED = "color:#777;font-size:.9em"
_BOX = "border-left:3px solid #ccc;padding:.2em .8em;margin:.4em 0;white-space:pre-wrap"


def hit_html(hit: Hit) -> str:
    """Render one hit with its source, score and text."""
    text = f"{_table(hit)}{escape(hit.chunk.text)}"
    return f"<div>{_header(hit)}<div style='{_BOX}'>{text}</div></div>"


def answer_html(answer: Answer) -> str:
    """Render an answer and its cited hits: quotes highlighted, short answers in bold.

    A sentence that is not supported, and one that was left out, has its state and the reason.
    """
    rows = [f"<p style='{_MUTED}'>{escape(answer.question)}</p>"]
    if answer.refusal is not None:
        rows.append(f"<p><b>No answer</b> ({escape(answer.refusal.reason)}).</p>")
    else:
        rows.append(f"<p>{''.join(_sentences(answer))}</p>")
    rows += [
        f"<p style='{_MUTED}'>Left out, {escape(removed.support)}: <s>{escape(removed.text)}</s> "
        f"({escape(removed.reason)})</p>"
        for removed in answer.removed
    ]
    for hit in answer.hits:
        spans = sorted(
            (citation.start - hit.chunk.start, citation.end - hit.chunk.start, number)
            for number, citation in enumerate(answer.citations, start=1)
            if citation.chunk_id == hit.chunk.id
        )
        if spans:
            short = [
                (span.start - hit.chunk.start, span.end - hit.chunk.start)
                for span in answer.spans
                if answer.citations[span.citation - 1].chunk_id == hit.chunk.id
            ]
            text = _table(hit) + _highlight(hit.chunk.text, spans, short)
            rows.append(f"{_header(hit)}<div style='{_BOX}'>{text}</div>")
    if answer.losses:
        lost = "; ".join(f"{loss.stage}: {loss.lost} ({loss.why})" for loss in answer.losses)
        rows.append(f"<p style='{_MUTED}'>Lost: {escape(lost)}</p>")
    return "<div>" + "".join(rows) + "</div>"


def _header(hit: Hit) -> str:
    title = str(hit.chunk.metadata.get("title") or hit.chunk.doc_id)
    page = hit.chunk.metadata.get("page")
    location = f"{hit.chunk.id}, page {page}" if page else hit.chunk.id
    if hit.copies:
        location += f", same text in {', '.join(hit.copies)}"
    return (
        f"<div><b>{escape(title)}</b> <span style='{_MUTED}'>{escape(location)} · "
        f"score {hit.score:.4f}</span></div>"
    )


def _table(hit: Hit) -> str:
    """Render the header of the table in which the chunk begins."""
    header = hit.chunk.table
    return f"<span style='{_MUTED}'>{escape(header)}</span>\n" if header else ""


def _sentences(answer: Answer) -> Iterator[str]:
    position = 0
    for sentence in answer.sentences:
        yield f"<b>{escape(answer.text[position : sentence.start])}</b>"
        text = escape(answer.text[sentence.start : sentence.end])
        reason = escape(sentence.reason)
        if sentence.supported:
            yield f"<b>{text}</b>"
        else:
            yield f"<span title='{reason}'>{text}</span>"
        if reason and (sentence.support == "quoted" or not sentence.supported):
            yield f" <i style='{_MUTED}'>{reason}</i>"
        position = sentence.end
    yield f"<b>{escape(answer.text[position:])}</b>"


def _highlight(text: str, spans: list[tuple[int, int, int]], short: list[tuple[int, int]]) -> str:
    parts = []
    position = 0
    for start, end, number in spans:
        if start < position:  # overlaps the previous citation, which is highlighted already
            parts.append(f"<sup>[{number}]</sup>")
            continue
        inside = sorted((a, b) for a, b in short if start <= a < b <= end)
        parts += [
            escape(text[position:start]),
            f"<mark style='{_MARK}'>{_bold(text, start, end, inside)}</mark>",
            f"<sup>[{number}]</sup>",
        ]
        position = end
    return "".join([*parts, escape(text[position:])])


def _bold(text: str, start: int, end: int, short: list[tuple[int, int]]) -> str:
    parts = []
    for first, last in short:
        if first >= start:  # overlapping ones are in bold already
            parts.append(f"{escape(text[start:first])}<b>{escape(text[first:last])}</b>")
            start = last
    return "".join([*parts, escape(text[start:end])])
