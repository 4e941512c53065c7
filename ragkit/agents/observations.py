"""A tool's result as the model sees it: cut by row and field, numbered, and marked as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ragkit.agents.ledger import Evidence, Ledger, Quantity, Quote
from ragkit.agents.render import show_value
from ragkit.agents.steps import Observation
from ragkit.agents.tools import Outcome, Tool, ToolResult

_FIELD_CHARS = 200
_EVIDENCE_KEPT = 2000


def observe(
    tool: Tool, arguments: Mapping[str, Any], outcome: Outcome, ledger: Ledger, limit: int
) -> Observation:
    """Put the result into the ledger and describe it in at most about `limit` characters.

    Whole rows and whole fields are left out, never parts of a value, and what was left out is told.
    """
    if outcome.result is None:
        return Observation(tool.name, data_lines(_cut_lines([outcome.error], limit)), error=True)
    result = outcome.result
    evidence = list(result.evidence)[:_EVIDENCE_KEPT]
    ids = ledger.add(evidence, tool.name, arguments)
    lines = [_evidence_line(row_id, each) for row_id, each in zip(ids, evidence, strict=True)]
    lines += [_fields(row) for row in result.rows]
    text = [] if tool.direct else [line for line in result.text.splitlines() if line.strip()]
    shown, n_shown = _fit(lines, text, limit)
    if not lines and not text:
        shown = ["nothing was returned" if not tool.direct else "the file is shown to the person"]
    head = _head(result, n_shown, len(lines), len(result.evidence))
    return Observation(
        tool.name,
        data_lines([*head, *shown]),
        rows=tuple(ids),
        shown=n_shown if lines else None,
        total=result.total,
        file=result.text if tool.direct else "",
        inner=result.steps,
    )


def data_lines(lines: Sequence[str]) -> str:
    """Every line behind a bar, so that no text of a tool can pass for a turn or a prompt."""
    return "\n".join(f"| {line}" for text in lines for line in text.splitlines() or [""])


def _head(result: ToolResult, n_shown: int, n_lines: int, n_evidence: int) -> list[str]:
    head = []
    if result.total is not None:
        n_rows = len({_subject(each) for each in result.evidence} - {None}) or len(result.rows)
        head.append(f"returned {min(n_rows, result.total)} of {result.total} {result.unit}")
    if n_shown < n_lines:
        more = " (the ledger has them all)" if n_evidence else ""
        head.append(f"showing {n_shown} of {n_lines} rows{more}")
    return head


def _subject(evidence: Evidence) -> str | None:
    if isinstance(evidence, Quote):
        return evidence.text
    if not evidence.formula:
        return None
    return evidence.material_id or f"{evidence.formula} {evidence.value} {evidence.source}"


def _evidence_line(row_id: str, evidence: Evidence) -> str:
    if isinstance(evidence, Quote):
        return f"{row_id}: {' '.join(evidence.text.split())}"
    quantity: Quantity = evidence
    subject = " ".join(
        each
        for each in (quantity.formula, quantity.material_id or "", quantity.space_group)
        if each
    )
    value = f"{show_value(quantity.value)} {quantity.unit}".rstrip()
    return f"{row_id}: {subject} {quantity.property} = {value}".replace(":  ", ": ")


def _fields(row: Mapping[str, Any]) -> str:
    """A record as JSON; fields too long to show are named, not cut."""
    kept, dropped = {}, []
    for name, value in row.items():
        text = json.dumps(value, ensure_ascii=False, default=str)
        if len(text) <= _FIELD_CHARS:
            kept[name] = value
        else:
            dropped.append(f"{name} ({len(text)} characters)")
    line = json.dumps(kept, ensure_ascii=False, default=str)
    return f"{line} left out: {', '.join(dropped)}" if dropped else line


def _fit(lines: Sequence[str], text: Sequence[str], limit: int) -> tuple[list[str], int]:
    """As many whole lines as fit, rows first; the rest of the text is counted."""
    shown: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) > limit and shown:
            break
        shown.append(line)
        used += len(line) + 1
    n_rows = len(shown)
    return [*shown, *_cut_lines(text, max(limit - used, limit // 4))], n_rows


def _cut_lines(lines: Sequence[str], limit: int) -> list[str]:
    shown: list[str] = []
    used = 0
    for n, line in enumerate(lines):
        if used + len(line) > limit:
            left = sum(map(len, lines[n:]))
            what = f"{len(lines) - n} of {len(lines)} lines" if len(lines) > 1 else "one line"
            return [*shown, f"({what} of {left} characters left out: longer than can be shown)"]
        shown.append(line)
        used += len(line) + 1
    return shown
