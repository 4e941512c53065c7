"""Hits and answers as HTML for notebooks: every text escaped, cited spans highlighted."""

from __future__ import annotations

from html import escape

from ragkit.types import Answer, Hit

_MARK = "background:#fff3b0;color:#222;padding:0 .1em"
_MUTED = "color:#777;font-size:.9em"
_BOX = "border-left:3px solid #ccc;padding:.2em .8em;margin:.4em 0;white-space:pre-wrap"


def hit_html(hit: Hit) -> str:
    """One hit: where it is from, its score, its text."""
    return f"<div>{_head(hit)}<div style='{_BOX}'>{escape(hit.chunk.text)}</div></div>"


def answer_html(answer: Answer) -> str:
    """The answer, and its cited hits with the cited spans highlighted."""
    rows = [f"<p style='{_MUTED}'>{escape(answer.question)}</p>"]
    if answer.refusal is not None:
        rows.append(f"<p><b>No answer</b> ({escape(answer.refusal.reason)}).</p>")
    else:
        rows.append(f"<p><b>{escape(answer.text)}</b></p>")
    for hit in answer.hits:
        spans = sorted(
            (c.start - hit.chunk.start, c.end - hit.chunk.start, number)
            for number, c in enumerate(answer.citations, start=1)
            if c.chunk_id == hit.chunk.id
        )
        if spans:
            rows.append(f"{_head(hit)}<div style='{_BOX}'>{_marked(hit.chunk.text, spans)}</div>")
    if answer.losses:
        lost = "; ".join(f"{loss.stage}: {loss.lost} ({loss.why})" for loss in answer.losses)
        rows.append(f"<p style='{_MUTED}'>Lost: {escape(lost)}</p>")
    return "<div>" + "".join(rows) + "</div>"


def _head(hit: Hit) -> str:
    title = str(hit.chunk.metadata.get("title") or hit.chunk.doc_id)
    page = hit.chunk.metadata.get("page")
    where = f"{hit.chunk.id}, page {page}" if page else hit.chunk.id
    return (
        f"<div><b>{escape(title)}</b> <span style='{_MUTED}'>{escape(where)} · "
        f"score {hit.score:.4f}</span></div>"
    )


def _marked(text: str, spans: list[tuple[int, int, int]]) -> str:
    parts = []
    at = 0
    for start, end, number in spans:
        if start < at:  # two citations overlap: the first has marked this part
            parts.append(f"<sup>[{number}]</sup>")
            continue
        parts += [
            escape(text[at:start]),
            f"<mark style='{_MARK}'>{escape(text[start:end])}</mark><sup>[{number}]</sup>",
        ]
        at = end
    return "".join([*parts, escape(text[at:])])
