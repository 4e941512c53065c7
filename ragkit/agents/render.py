"""The template that turns ledger rows into sentences, and the check of everything else."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ragkit.agents.ledger import Evidence, Quantity, Quote, Scalar
from ragkit.types import Citation, Sentence

if TYPE_CHECKING:
    from ragkit.agents.steps import Run

_MOST_ALSO = 8
_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d.,]*(?:[eE][-+]?\d+)?%?")
_TOKEN = re.compile(r"[^\s,;:!?\"'()\[\]{}]+")
_DIGIT_WORDS = (
    "zero|nought|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    "fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    "ninety|hundred|thousand|million|billion|trillion|dozen"
)
_WORDS = re.compile(
    rf"\b(?:(?:{_DIGIT_WORDS})(?:and|point|comma|s|th|ths|fold)?)+\b|\b(?:half|halves|third|quarter|"
    r"fifth|double|twice|triple|thrice|quadruple|ninth|twelfth)s?\b",
    re.IGNORECASE,
)
_SPELLED = re.compile(r"(?:\b[^\W\d]\b\W{1,3}){2,}[^\W\d]\b")
_ROMAN = re.compile(r"(?=[IVXLCDM]{2})M{0,3}(?:C[MD]|D?C{0,3})(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})")
_SPLIT = re.compile(r"\d+(?:[^\w.]|\.(?!\d))\W*\d+")
_SIGNS = "°±\u00d7·≈≤≥→\u2212\u2013\u2014\u2018\u2019“”…µ"
_LOOK_ALIKE = str.maketrans("αεηικνοπρςτυχω", "aenikvonpstuxw")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060-\u2064\ufeff]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NAMES = (
    re.compile(r"(?=.{1,60}$)(?:[A-Z][a-z]?|[()\[\]]|(?<!^)\d+(?:\.\d+)?)+"),  # formulas
    re.compile(r"[a-z]{1,8}-\d{1,9}"),  # material ids
    re.compile(r"[PABCFIRH][-\da-z_/]{1,12}"),  # space groups
)


def visible(text: str) -> str:
    """The text with control characters as escapes, so that no terminal and no reader obeys them.

    Characters that cannot be seen are dropped; line feeds and tabs stay.

    >>> visible("red \\x1b[31m, reversed \\u202e, in\\u200bvisible")
    'red \\\\x1b[31m, reversed \\\\u202e, invisible'
    """
    seen = _INVISIBLE.sub("", text)
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), seen)


def one_line(text: str) -> str:
    """The same, without line breaks: a value cannot add lines to an answer."""
    return " ".join(visible(" ".join(text.split())).split())


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
    return one_line(f"{line} [{origin}]" if origin else line)


def _unit(unit: str) -> str:
    return (
        unit.replace("angstrom", "Å")
        .replace("bohr_magneton", "μB")
        .replace("**", "^")
        .replace("*", "·")
    )


def render_answer(
    rows: Mapping[str, Evidence],
    also: Sequence[Quantity] = (),
    note: str = "",
    *,
    pages: Sequence[str] = (),
) -> str:
    """The answer's text: a line a row, how many more there are, what else is held, the note.

    Of what else is held eight lines are shown, and the rest is counted.

    Quotations carry citation marks, numbered as in `citations_of`; beside them there is no note,
    since every word of such a text is to be checked again.
    """
    lines, n_cited = [], 0
    for row in rows.values():
        if isinstance(row, Quote):
            marks = [f" [{n_cited + n}]" for n in range(1, len(row.citations) + 1)]
            n_cited += len(marks)
            lines.append(" ".join(row.text.split()) + "".join(marks))
        else:
            lines.append(show_quantity(row))
    lines += pages
    if also:
        lines.append("Also held for this composition (other polymorphs, methods or sources):")
        lines += [f"- {show_quantity(each)}" for each in also[:_MOST_ALSO]]
    if len(also) > _MOST_ALSO:
        lines.append(f"… and {len(also) - _MOST_ALSO} more")
    if note and not n_cited:
        lines.append(f"Note: {one_line(note)}")
    return "\n".join(lines)


def citations_of(
    rows: Mapping[str, Evidence],
) -> tuple[list[Citation], list[Sentence]]:
    """The citations of the quotations among the rows, and the sentences of `render_answer`.

    Together with the text they are what `ragkit.verify_answer` and `verify_sentences` check.
    """
    citations: list[Citation] = []
    sentences: list[Sentence] = []
    at = 0
    for row_id, row in rows.items():
        end = at + len(render_answer({row_id: row}))
        if isinstance(row, Quote):
            marks = range(len(citations) + 1, len(citations) + 1 + len(row.citations))
            text = " ".join(row.text.split()) + "".join(f" [{n}]" for n in marks)
            end = at + len(text)
            sentences.append(Sentence(at, end, tuple(marks), True))
            citations += row.citations
        at = end + 1
    return citations, sentences


def free_numbers(note: str, question: str, known: Collection[str] = ()) -> list[str]:
    """The numbers in a model's note that nothing vouches for.

    Allowed are numbers of the question, and whole tokens that are names: formulas, material ids and
    space groups of the ledger. Number words count as numbers, and so does what can hide one: digits
    of other kinds, Roman numerals, letters of scripts that the question does not use, symbols. All
    other figures must be named as rows.

    >>> free_numbers("GaAs has 0.19 eV", "What is the gap of GaAs?", {"GaAs"})
    ['0.19']
    >>> free_numbers("see mp-2534 and Fe2O3", "?", {"mp-2534", "Fe2O3"})
    []
    """
    asked = {_plain(each) for each in _NUMBER.findall(question)}
    names = set(known) | set(_TOKEN.findall(question))
    scripts = {_script(each) for each in question}
    note = _without_bracketed(
        note, [*known, *(each.strip("?!.,;:'\"") for each in question.split())]
    )
    free = [each for each in note if not _is_plain(each, scripts) and each not in question]
    for token in _TOKEN.findall(note):
        bare = token.strip(".")
        if bare in names:
            continue
        whole = _NUMBER.fullmatch(bare)
        if _ROMAN.fullmatch(bare) or (
            re.search(r"\d", bare) and not (whole and _plain(bare) in asked)
        ):
            free.append(bare)
    free += [each[0] for each in _SPLIT.finditer(note) if each[0] not in question]
    spelled = {each.lower() for each in _number_words(question)}
    return free + [each for each in _number_words(note) if each.lower() not in spelled]


def _without_bracketed(note: str, names: Iterable[str]) -> str:
    """The note without whole names that brackets would split: Ca(OH)2."""
    bracketed = {each for each in names if re.search(r"\w[(\[]", each)}
    for name in sorted(bracketed, key=len, reverse=True):
        note = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w(\[]|[.,]\d)", " ", note)
    return note


def _number_words(text: str) -> list[str]:
    """Number words, also with accents, look-alikes or marks in them, and letter by letter."""
    marked = unicodedata.normalize("NFKD", text)
    plain = "".join(each for each in marked if not unicodedata.combining(each))
    plain = plain.casefold().translate(_LOOK_ALIKE).replace("_", "-")
    joined = re.sub(r"[^\w\s]", "", plain)
    apart = " ".join(re.sub(r"\W", "", each) for each in _SPELLED.findall(plain))
    found = [word for form in (plain, joined, apart) for word in _WORDS.findall(form)]
    return list(dict.fromkeys(found))


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0] if letter.isalpha() else ""


def _is_plain(letter: str, scripts: Collection[str]) -> bool:
    """Whether a character is what it looks like: no other digit, no picture, no control."""
    if letter.isascii():
        return letter.isprintable()
    if unicodedata.numeric(letter, None) is not None:
        return False
    script = _script(letter)
    if script == "LATIN":
        return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff"
    if letter in _SIGNS or unicodedata.category(letter)[0] == "P":
        return True
    return script == "GREEK" or (bool(script) and script in scripts)


def _plain(number: str) -> str:
    return number.replace("\u2212", "-").replace(",", "").strip(".+%")


def names_in(evidence: Collection[Evidence]) -> set[str]:
    """The formulas, material ids and space groups of ledger rows: what a note may name.

    Only those that look like one: a database's texts are not trusted either.
    """
    quantities = [each for each in evidence if isinstance(each, Quantity)]
    names = {
        name
        for each in quantities
        for name in (each.formula, each.material_id or "", each.space_group)
    }
    return {name for name in names if any(shape.fullmatch(name) for shape in _NAMES)}


def run_html(run: Run) -> str:
    """The run for a notebook: its steps, then the answer."""
    lines = []
    for step in run.steps:
        if step.kind == "action":
            call = f"{step.tool}({', '.join(f'{k}={v!r}' for k, v in step.arguments.items())})"
            lines.append(f"<li><b>action</b> <code>{html.escape(call)}</code></li>")
        elif step.kind != "final":
            text = html.escape(visible(step.text)).replace("\n", "<br>")
            lines.append(f"<li><b>{step.kind}</b> {text}</li>")
    answer = html.escape(visible(run.text)).replace("\n", "<br>")
    return f"<ol>{''.join(lines)}</ol><p><b>{html.escape(run.final.exit_reason)}</b> {answer}</p>"
