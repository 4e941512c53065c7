"""A tool's result as the model sees it: cut by row and field, numbered, and marked as data."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ragkit.agents.ledger import Evidence, Ledger, Quantity, Quote
from ragkit.agents.render import show_value, visible
from ragkit.agents.steps import Action, Observation, Step
from ragkit.agents.tools import Outcome, Tool, ToolResult

_FIELD_CHARS = 200
_RECORD_CHARS = 1500
_EVIDENCE_KEPT = 2000
_EVIDENCE_CHARS = 4000
_LARGEST = 1e300
_TAINT_CHARS = 12
_ADDRESS = re.compile(r"://|@|\b[\w-]+\.[a-z]{2,}(?:[/:?]|$)|^\s*[\\/]|\d+\.\d+\.\d+\.\d", re.I)


def observe(
    tool: Tool, arguments: Mapping[str, Any], outcome: Outcome, ledger: Ledger, limit: int
) -> Observation:
    """Put the result into the ledger and describe it in at most about `limit` characters.

    Whole rows and whole fields are left out, never parts of a value, and what was left out is told.
    """
    if outcome.result is None:
        return Observation(tool.name, data_lines(_cut_lines([outcome.error], limit)), error=True)
    result = outcome.result
    sound = [_cleaned(each) for each in result.evidence if _is_sound(each)]
    evidence = sound[:_EVIDENCE_KEPT]
    ids = ledger.add(evidence, tool.name, arguments)
    lines = itertools.chain(
        (_evidence_line(row_id, each) for row_id, each in zip(ids, evidence, strict=True)),
        map(_fields, result.rows),
    )
    n_lines = len(evidence) + len(result.rows)
    text = [] if tool.direct else [line for line in result.text.splitlines() if line.strip()]
    shown, n_shown = _fit(lines, text, limit)
    if not n_lines and not text:
        shown = ["nothing was returned" if not tool.direct else "the file is shown to the person"]
    head = _head(result, n_shown, n_lines, len(evidence))
    if n_unsound := len(result.evidence) - len(sound):
        head.append(f"left out {n_unsound} values that are no numbers or texts that can be shown")
    if len(sound) > len(evidence):
        head.append(f"the ledger has the first {len(evidence)} of {len(sound)} values")
    return Observation(
        tool.name,
        data_lines([*head, *shown]),
        rows=tuple(ids),
        shown=n_shown if n_lines else None,
        total=result.total,
        file=result.text if tool.direct else "",
        inner=result.steps,
    )


def pages_shown(
    steps: Sequence[Step], rows: Mapping[str, Evidence], ledger: Mapping[str, Evidence]
) -> list[str]:
    """A line for each search that had more to return than it did, and whose rows are named.

    A row counts for the last call that brought it.
    """
    lines: list[str] = []
    left = dict(rows)
    for action, seen in reversed(list(itertools.pairwise(steps))):
        if not (isinstance(action, Action) and isinstance(seen, Observation)):
            continue
        mine = [left.pop(row) for row in seen.rows if row in left]
        subjects = {_subject(each) for each in mine} - {None}
        n_returned = len({_subject(ledger[row]) for row in seen.rows} - {None})
        if subjects and seen.total is not None and n_returned < seen.total:
            lines.append(_page(action, mine, len(subjects), seen.total))
    return lines[::-1]


def _page(action: Action, named: Sequence[Evidence], n_shown: int, total: int) -> str:
    """How much of a result is shown; of the model's words only the name of a property comes in."""
    quantities = [each for each in named if isinstance(each, Quantity) and each.formula]
    what = "materials" if all(each.material_id for each in quantities) else "values"
    by = str(action.arguments.get("sort_fields")).removeprefix("-")
    if action.arguments.get("limit") == 1 and by in {each.property for each in quantities}:
        return f"Shown: the first of {total} {what} by {by.replace('_', ' ')}."
    return f"Shown: {n_shown} of {total} {what}."


def data_lines(lines: Sequence[str]) -> str:
    """Every line behind a bar, so that no text of a tool can pass for a turn or a prompt."""
    shown = (visible(line) for text in lines for line in text.splitlines() or [""])
    return "\n".join(f"| {line}" for line in shown)


def copied_arguments(
    arguments: Mapping[str, Any], seen: Sequence[str], given: Sequence[str], names: Iterable[str]
) -> list[str]:
    """The arguments that were copied out of tool text, by name.

    Copied is what has 12 letters and digits in a row in common with tool text, whatever is between
    them, and with nothing that was given; names (formulas, ids) do not count. Once there is tool
    text, an address that was not given counts as copied, however short it is.

    Args:
        arguments: What a tool is to be called with.
        seen: The tool texts.
        given: Whose words may be sent: the questions, the descriptions of the tools.
        names: Names of ledger rows.
    """
    if not seen:
        return []
    theirs = [_letters(text) for text in seen]
    ours = [_letters(text) for text in given]
    known = sorted(names, key=len, reverse=True)
    between = re.compile("|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in known) or "(?!)")

    def is_copied(piece: str) -> bool:
        if _ADDRESS.search(piece) and not any(piece in text for text in given):
            return True
        windows = {
            part[i : i + _TAINT_CHARS]
            for part in map(_letters, between.split(piece))
            for i in range(len(part) - _TAINT_CHARS + 1)
        }
        return any(
            any(window in text for text in theirs) and not any(window in text for text in ours)
            for window in windows
        )

    return [name for name, value in arguments.items() if any(map(is_copied, _pieces(value)))]


def _letters(text: str) -> str:
    """Letters and digits only: escapes, spaces, bars and punctuation do not hide a copy."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", plain).casefold())


def _pieces(value: object) -> list[str]:
    """The texts and numbers in an argument."""
    if isinstance(value, Mapping):
        return [piece for pair in value.items() for each in pair for piece in _pieces(each)]
    if isinstance(value, list | tuple):
        return [piece for each in value for piece in _pieces(each)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _is_sound(evidence: Evidence) -> bool:
    """Whether it can be shown, stored and cited: finite, of a sane length, without controls."""
    if isinstance(evidence, Quote):
        return 0 < len(evidence.text) <= _EVIDENCE_CHARS
    value = evidence.value
    if not isinstance(value, str) and not (
        isinstance(value, int | float) and abs(value) < _LARGEST
    ):
        return False
    texts = [str(value), *(getattr(evidence, name) or "" for name in _TEXTS)]
    return all(
        len(text) <= _EVIDENCE_CHARS and len(text.splitlines()) <= 1 and visible(text) == text
        for text in texts
    )


_TEXTS = (
    *("unit", "property", "formula", "material_id", "space_group"),
    *("method", "source", "licence", "version"),
)


def _cleaned(evidence: Evidence) -> Evidence:
    return (
        replace(evidence, text=visible(evidence.text)) if isinstance(evidence, Quote) else evidence
    )


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
    """A record as JSON; fields too long to show are named, not cut, and very many are counted."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    used = 0
    for name, value in ((str(key), each) for key, each in row.items()):
        if used > _RECORD_CHARS:
            dropped.append(f"{len(row) - len(kept) - len(dropped)} more fields")
            break
        text = _json(value)
        if text is not None and len(name) + len(text) <= _FIELD_CHARS:
            kept[name] = value
            used += len(name) + len(text)
            continue
        size = "nested too deep to be shown" if text is None else f"{len(text)} characters"
        title = name if len(name) <= _FIELD_CHARS else f"a field with a name of {len(name)}"
        dropped.append(f"{title} ({size})")
        used += len(dropped[-1])
    line = _json(kept)
    return visible(f"{line} left out: {', '.join(dropped)}" if dropped else f"{line}")


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return None


def _fit(lines: Iterable[str], text: Sequence[str], limit: int) -> tuple[list[str], int]:
    """As many whole lines as fit, rows first; the rest of the text is counted."""
    shown: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) > (limit if shown else max(limit, _EVIDENCE_CHARS)):
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
