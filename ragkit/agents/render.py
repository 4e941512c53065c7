"""The template that turns ledger rows into sentences, and the check of everything else."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ragkit.agents.ledger import Evidence, Quantity, Quote, Scalar

if TYPE_CHECKING:
    from ragkit.agents.steps import Run

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d.,]*(?:[eE][-+]?\d+)?%?")
_TOKEN = re.compile(r"[^\s,;:!?\"'()\[\]{}]+")
_WORDS = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|double|twice|triple)\b",
    re.IGNORECASE,
)


def show_value(value: Scalar) -> str:
    """A number to three decimals, or three digits where it is small; the ledger keeps all of it.

    >>> show_value(0.18610000000000015), show_value(295.605), show_value(5.57e-05), show_value("FM")
    ('0.186', '295.605', '5.57e-05', 'FM')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or not abs(value) < 0.1:
        text = f"{value:.3f}" if abs(value) < 1e9 else f"{value:.6g}"
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return f"{value:.3g}"


def show_quantity(quantity: Quantity) -> str:
    """One line: what, of which material, how much, by which method, from where."""
    ids = ", ".join(
        each for each in (quantity.material_id or "", quantity.space_group) if each
    ) or ("no material id" if quantity.formula and quantity.source else "")
    subject = f"{quantity.formula} ({ids})" if quantity.formula and ids else quantity.formula
    name = quantity.property.replace("_", " ")
    value = f"{show_value(quantity.value)} {_unit(quantity.unit)}".rstrip()
    origin = "; ".join(each for each in (quantity.method, quantity.source) if each)
    line = f"{subject}: {name} {value}" if subject else f"{name}: {value}"
    return f"{line} [{origin}]" if origin else line


def _unit(unit: str) -> str:
    return (
        unit.replace("angstrom", "Å")
        .replace("bohr_magneton", "μB")
        .replace("**", "^")
        .replace("*", "·")
    )


def show_evidence(evidence: Evidence) -> str:
    """A row as one line."""
    if isinstance(evidence, Quote):
        places = ", ".join(f"{each.doc_id}:{each.start}-{each.end}" for each in evidence.citations)
        return f"{' '.join(evidence.text.split())} [{places}]"
    return show_quantity(evidence)


def render_answer(
    rows: Mapping[str, Evidence], also: Sequence[Quantity] = (), note: str = ""
) -> str:
    """The answer's text: a line a row, then what else is held, then the model's checked note."""
    lines = [show_evidence(row) for row in rows.values()]
    if also:
        lines.append("Also held for the same material:")
        lines += [f"- {show_quantity(each)}" for each in also]
    if note:
        lines.append(note)
    return "\n".join(lines)


def free_numbers(note: str, question: str, known: Collection[str] = ()) -> list[str]:
    """The numbers in a model's note that nothing vouches for.

    Allowed are numbers of the question, and whole tokens that are names: formulas, material ids and
    space groups of the ledger. Number words count as numbers. All other figures must be named as
    rows.

    >>> free_numbers("GaAs has 0.19 eV", "What is the gap of GaAs?", {"GaAs"})
    ['0.19']
    >>> free_numbers("see mp-2534 and Fe2O3", "?", {"mp-2534", "Fe2O3"})
    []
    """
    asked = {_plain(each) for each in _NUMBER.findall(question)}
    names = set(known) | set(_TOKEN.findall(question))
    free: list[str] = []
    for token in _TOKEN.findall(note):
        bare = token.strip(".")
        if bare in names or not re.search(r"\d", bare):
            continue
        figures = _NUMBER.findall(bare) or [bare]
        free += [each.strip(".,") for each in figures if _plain(each) not in asked]
    spelled = {each.lower() for each in _WORDS.findall(question)}
    return free + [each for each in _WORDS.findall(note) if each.lower() not in spelled]


def _plain(number: str) -> str:
    return number.replace("\u2212", "-").replace(",", "").strip(".+%")


def names_in(evidence: Collection[Evidence]) -> set[str]:
    """The formulas, material ids and space groups of ledger rows: what a note may name."""
    quantities = [each for each in evidence if isinstance(each, Quantity)]
    names = {
        name
        for each in quantities
        for name in (each.formula, each.material_id or "", each.space_group)
    }
    return names - {""}


def run_html(run: Run) -> str:
    """The run for a notebook: its steps, then the answer."""
    lines = []
    for step in run.steps:
        if step.kind == "action":
            call = f"{step.tool}({', '.join(f'{k}={v!r}' for k, v in step.arguments.items())})"
            lines.append(f"<li><b>action</b> <code>{html.escape(call)}</code></li>")
        elif step.kind != "final":
            text = html.escape(step.text).replace("\n", "<br>")
            lines.append(f"<li><b>{step.kind}</b> {text}</li>")
    answer = html.escape(run.text).replace("\n", "<br>")
    return f"<ol>{''.join(lines)}</ol><p><b>{html.escape(run.final.exit_reason)}</b> {answer}</p>"
