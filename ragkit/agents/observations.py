"""Format tool results for the model: truncated by row and field, numbered, and marked as data."""

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
from ragkit.agents.templates import TEMPLATES, Templates
from ragkit.agents.tools import Outcome, Tool, ToolResult

_FIELD_CHARS = 200
_RECORD_CHARS = 1500
_MAX_EVIDENCE = 2000
_EVIDENCE_CHARS = 4000
_MAX_NUMBER = 1e300
_COPY_CHARS = 12
_ADDRESS = re.compile(r"://|@|\b[\w-]+\.[a-z]{2,}(?:[/:?]|$)|^\s*[\\/]|\d+\.\d+\.\d+\.\d", re.I)


def observe(
    tool: Tool,
    arguments: Mapping[str, Any],
    outcome: Outcome,
    ledger: Ledger,
    limit: int,
    templates: Templates = TEMPLATES,
) -> Observation:
    """Add a result to the ledger and describe it in at most about `limit` characters.

    Truncation drops whole rows and whole fields, never parts of a value, and the text reports what
    was dropped.
    """
    if outcome.result is None:
        return Observation(
            tool.name, data_lines(_truncate_lines([outcome.error], limit)), error=True
        )
    result = outcome.result
    valid = [_clean(item) for item in result.evidence if _is_valid(item)]
    evidence = valid[:_MAX_EVIDENCE]
    ids = ledger.add(evidence, tool.name, arguments)
    lines = itertools.chain(
        (
            _evidence_line(row_id, item, templates)
            for row_id, item in zip(ids, evidence, strict=True)
        ),
        map(_record_line, result.rows),
    )
    n_lines = len(evidence) + len(result.rows)
    text = [] if tool.direct else [line for line in result.text.splitlines() if line.strip()]
    shown, n_shown = _fit(lines, text, limit)
    if not n_lines and not text:
        shown = [templates.direct if tool.direct else templates.nothing]
    head = _head_lines(result, n_shown, n_lines, templates)
    if n_shown < n_lines and evidence:
        head[-1] += templates.in_ledger
    if n_invalid := len(result.evidence) - len(valid):
        head.append(f"left out {n_invalid} values that are no numbers or texts that can be shown")
    if len(valid) > len(evidence):
        head.append(f"the ledger has the first {len(evidence)} of {len(valid)} values")
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
    """Return a line for each search with cited rows that returned only a page of its matches.

    A row is attributed to the last call that returned it.

    Args:
        steps: Steps of the run.
        rows: Cited rows.
        ledger: All rows of the run.
    """
    lines: list[str] = []
    remaining = dict(rows)
    for action, observation in reversed(list(itertools.pairwise(steps))):
        if not (isinstance(action, Action) and isinstance(observation, Observation)):
            continue
        named = [remaining.pop(row) for row in observation.rows if row in remaining]
        subjects = {_subject(item) for item in named} - {None}
        n_returned = len({_subject(ledger[row]) for row in observation.rows} - {None})
        if subjects and observation.total is not None and n_returned < observation.total:
            lines.append(_page_line(action, named, len(subjects), observation.total))
    return lines[::-1]


def _page_line(action: Action, evidence: Sequence[Evidence], n_shown: int, total: int) -> str:
    """Return a line such as "Shown: 5 of 20 materials."

    Of the model's arguments only a verified property name is quoted.
    """
    quantities = [
        quantity for quantity in evidence if isinstance(quantity, Quantity) and quantity.subject
    ]
    kinds = {quantity.kind or "item" for quantity in quantities if quantity.subject_id}
    one_kind = len(kinds) == 1 and all(quantity.subject_id for quantity in quantities)
    noun = f"{kinds.pop()}s" if one_kind else "values"
    sort_field = str(action.arguments.get("sort_fields")).removeprefix("-")
    if action.arguments.get("limit") == 1 and sort_field in {
        quantity.property for quantity in quantities
    }:
        return f"Shown: the first of {total} {noun} by {sort_field.replace('_', ' ')}."
    return f"Shown: {n_shown} of {total} {noun}."


def data_lines(lines: Sequence[str]) -> str:
    """Prefix every line with a bar, so that tool text cannot imitate a turn or a prompt."""
    shown = (visible(line) for text in lines for line in text.splitlines() or [""])
    return "\n".join(f"| {line}" for line in shown)


def copied_arguments(
    arguments: Mapping[str, Any],
    tool_texts: Sequence[str],
    trusted_texts: Sequence[str],
    names: Iterable[str],
) -> list[str]:
    """Return the names of arguments whose text was copied from tool output.

    An argument counts as copied if 12 consecutive letters and digits of it, ignoring everything in
    between, occur in tool output and not in trusted text; names of ledger rows (formulas, ids) are
    exempt. Once there is tool output, an address that trusted text does not contain counts as
    copied, whatever its length.

    Args:
        arguments: Arguments of a tool call.
        tool_texts: Tool outputs.
        trusted_texts: Trusted texts: the questions, the descriptions of the tools.
        names: Names of ledger rows.
    """
    if not tool_texts:
        return []
    tool_letters = [_alphanumeric(text) for text in tool_texts]
    trusted_letters = [_alphanumeric(text) for text in trusted_texts]
    known_names = sorted(names, key=len, reverse=True)
    known_names_pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in known_names) or "(?!)"
    )

    def is_copied(value_text: str) -> bool:
        if _ADDRESS.search(value_text) and not any(value_text in text for text in trusted_texts):
            return True
        windows = {
            part[i : i + _COPY_CHARS]
            for part in map(_alphanumeric, known_names_pattern.split(value_text))
            for i in range(len(part) - _COPY_CHARS + 1)
        }
        return any(
            any(window in text for text in tool_letters)
            and not any(window in text for text in trusted_letters)
            for window in windows
        )

    return [name for name, value in arguments.items() if any(map(is_copied, _scalar_texts(value)))]


def _alphanumeric(text: str) -> str:
    """Reduce a text to letters and digits, so that escapes and punctuation do not hide a copy."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", plain).casefold())


def _scalar_texts(value: object) -> list[str]:
    """Return the strings and numbers in an argument as strings."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _scalar_texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _scalar_texts(item)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _is_valid(evidence: Evidence) -> bool:
    """Return True for evidence that is finite, short enough and free of control characters."""
    if isinstance(evidence, Quote):
        return 0 < len(evidence.text) <= _EVIDENCE_CHARS
    value = evidence.value
    if not isinstance(value, str) and not (
        isinstance(value, int | float) and abs(value) < _MAX_NUMBER
    ):
        return False
    texts = [str(value), *(getattr(evidence, name) or "" for name in _TEXT_FIELDS)]
    return all(
        len(text) <= _EVIDENCE_CHARS and len(text.splitlines()) <= 1 and visible(text) == text
        for text in texts
    )


_TEXT_FIELDS = (
    *("unit", "property", "subject", "subject_id", "variant", "kind"),
    *("method", "source", "licence", "version"),
)


def _clean(evidence: Evidence) -> Evidence:
    return (
        replace(evidence, text=visible(evidence.text)) if isinstance(evidence, Quote) else evidence
    )


def _head_lines(result: ToolResult, n_shown: int, n_lines: int, templates: Templates) -> list[str]:
    head = []
    if result.total is not None:
        n_rows = len({_subject(item) for item in result.evidence} - {None}) or len(result.rows)
        n, total = min(n_rows, result.total), result.total
        head.append(templates.returned.format(n=n, total=total, unit=result.unit))
    if n_shown < n_lines:
        head.append(templates.showing.format(n=n_shown, total=n_lines))
    return head


def _subject(evidence: Evidence) -> str | None:
    if isinstance(evidence, Quote):
        return evidence.text
    if not evidence.subject:
        return None
    return evidence.subject_id or f"{evidence.subject} {evidence.value} {evidence.source}"


def _evidence_line(row_id: str, evidence: Evidence, templates: Templates) -> str:
    if isinstance(evidence, Quote):
        return templates.quote.format(id=row_id, text=" ".join(evidence.text.split()))
    names = (evidence.subject, evidence.subject_id or "", evidence.variant)
    return templates.quantity.format(
        id=row_id,
        subject="".join(f"{name} " for name in names if name),
        property=evidence.property,
        value=f"{show_value(evidence.value)} {evidence.unit}".rstrip(),
    )


def _record_line(row: Mapping[str, Any]) -> str:
    """Format a record as JSON; name fields that are too long, count those that are too many."""
    shown: dict[str, Any] = {}
    dropped: list[str] = []
    used = 0
    for name, value in ((str(key), value) for key, value in row.items()):
        if used > _RECORD_CHARS:
            dropped.append(f"{len(row) - len(shown) - len(dropped)} more fields")
            break
        value_json = _json(value)
        if value_json is not None and len(name) + len(value_json) <= _FIELD_CHARS:
            shown[name] = value
            used += len(name) + len(value_json)
            continue
        size = (
            "nested too deep to be shown" if value_json is None else f"{len(value_json)} characters"
        )
        title = name if len(name) <= _FIELD_CHARS else f"a field with a name of {len(name)}"
        dropped.append(f"{title} ({size})")
        used += len(dropped[-1])
    line = _json(shown)
    return visible(f"{line} left out: {', '.join(dropped)}" if dropped else f"{line}")


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return None


def _fit(lines: Iterable[str], text: Sequence[str], limit: int) -> tuple[list[str], int]:
    """Return the lines that fit, rows before text, and the number of rows among them."""
    shown: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) > (limit if shown else max(limit, _EVIDENCE_CHARS)):
            break
        shown.append(line)
        used += len(line) + 1
    n_rows = len(shown)
    return [*shown, *_truncate_lines(text, max(limit - used, limit // 4))], n_rows


def _truncate_lines(lines: Sequence[str], limit: int) -> list[str]:
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
