"""Render answers from ledger rows, and check a model's note for unsupported numbers."""

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

_MAX_RELATED = 8
_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d.,]*(?:[eE][-+]?\d+)?%?")
_TOKEN = re.compile(r"[^\s,;:!?\"'()\[\]{}]+")
_NUMBER_NAMES = (
    "zero|nought|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    "fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    "ninety|hundred|thousand|million|billion|trillion|dozen"
)
_NUMBER_WORD = re.compile(
    rf"\b(?:(?:{_NUMBER_NAMES})(?:and|point|comma|s|th|ths|fold)?)+\b|\b(?:half|halves|third|quarter|"
    r"fifth|double|twice|triple|thrice|quadruple|ninth|twelfth)s?\b",
    re.IGNORECASE,
)
_SPELLED_OUT = re.compile(r"(?:\b[^\W\d]\b\W{1,3}){2,}[^\W\d]\b")
_ROMAN = re.compile(r"(?=[IVXLCDM]{2})M{0,3}(?:C[MD]|D?C{0,3})(?:X[CL]|L?X{0,3})(?:I[XV]|V?I{0,3})")
_SPLIT_NUMBER = re.compile(r"\d+(?:[^\w.]|\.(?!\d))\W*\d+")
_ALLOWED_SYMBOLS = "°±\u00d7·≈≤≥→\u2212\u2013\u2014\u2018\u2019“”…µ"
_LOOK_ALIKE = str.maketrans("αεηικνοπρςτυχω", "aenikvonpstuxw")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060-\u2064\ufeff]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NAME_PATTERNS = (
    re.compile(r"(?=.{1,60}$)(?:[A-Z][a-z]?|[()\[\]]|(?<!^)\d+(?:\.\d+)?)+"),  # formulas
    re.compile(r"[a-z]{1,8}-\d{1,9}"),  # material ids
    re.compile(r"[PABCFIRH][-\da-z_/]{1,12}"),  # space groups
)


def visible(text: str) -> str:
    """Escape control characters, so that terminals and text viewers do not interpret them.

    Invisible characters are dropped; line feeds and tabs are kept.

    >>> visible("red \\x1b[31m, reversed \\u202e, in\\u200bvisible")
    'red \\\\x1b[31m, reversed \\\\u202e, invisible'
    """
    without_invisible = _INVISIBLE.sub("", text)
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), without_invisible)


def one_line(text: str) -> str:
    """Escape control characters and join lines, so that a value cannot add lines to an answer."""
    return " ".join(visible(" ".join(text.split())).split())


def show_value(value: Scalar) -> str:
    """Format a value: numbers to three decimals, small ones to three significant digits.

    The ledger keeps full precision.

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
    """Format a quantity on one line with subject, property, value, method and source."""
    ids = ", ".join(part for part in (quantity.subject_id or "", quantity.variant) if part) or (
        f"no {quantity.kind} id" if quantity.kind and quantity.subject and quantity.source else ""
    )
    subject = f"{quantity.subject} ({ids})" if quantity.subject and ids else quantity.subject
    name = quantity.property.replace("_", " ")
    value = f"{show_value(quantity.value)} {_unit(quantity.unit)}".rstrip()
    origin = "; ".join(part for part in (quantity.method, quantity.source) if part)
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
    heading: str = "Other values:",
) -> str:
    """Render an answer: one line for each row, page counts, related values and the note.

    At most eight related values are listed; the others are counted.

    Quotations carry citation marks, numbered as in `citations_of`. An answer with quotations has no
    note, since all of its text must be verifiable.

    Args:
        rows: Cited rows.
        also: Related values.
        note: The model's own words, already checked.
        pages: Lines about results of which only a page is cited.
        heading: Line above the related values.
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
        lines.append(heading)
        lines += [f"- {show_quantity(quantity)}" for quantity in also[:_MAX_RELATED]]
    if len(also) > _MAX_RELATED:
        lines.append(f"… and {len(also) - _MAX_RELATED} more")
    if note and not n_cited:
        lines.append(f"Note: {one_line(note)}")
    return "\n".join(lines)


def citations_of(
    rows: Mapping[str, Evidence],
) -> tuple[list[Citation], list[Sentence]]:
    """Return the citations of the quoted rows, and the sentences of `render_answer`.

    Together with the text they are the input of `ragkit.verify_answer` and `verify_sentences`.
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
            sentences.append(Sentence(at, end, tuple(marks), "quoted"))
            citations += row.citations
        at = end + 1
    return citations, sentences


def free_numbers(note: str, question: str, known: Collection[str] = ()) -> list[str]:
    """Return the numbers in a model's note that neither the question nor a name supports.

    Numbers of the question are allowed, and so are tokens that equal a known name: formulas,
    material ids and space groups of the ledger. Number words count as numbers, as does everything
    that can disguise one: non-ASCII digits, Roman numerals, symbols, and letters of scripts that
    the question does not use. All other numbers must be cited as rows.

    >>> free_numbers("GaAs has 0.19 eV", "What is the gap of GaAs?", {"GaAs"})
    ['0.19']
    >>> free_numbers("see mp-2534 and Fe2O3", "?", {"mp-2534", "Fe2O3"})
    []
    """
    asked = {_normalized_number(number) for number in _NUMBER.findall(question)}
    names = set(known) | set(_TOKEN.findall(question))
    scripts = {_script(letter) for letter in question}
    note = _without_bracketed_names(
        note, [*known, *(word.strip("?!.,;:'\"") for word in question.split())]
    )
    unsupported = [
        letter
        for letter in note
        if not _is_allowed_character(letter, scripts) and letter not in question
    ]
    for token in _TOKEN.findall(note):
        word = token.strip(".")
        if word in names:
            continue
        number = _NUMBER.fullmatch(word)
        if _ROMAN.fullmatch(word) or (
            re.search(r"\d", word) and not (number and _normalized_number(word) in asked)
        ):
            unsupported.append(word)
    unsupported += [match[0] for match in _SPLIT_NUMBER.finditer(note) if match[0] not in question]
    spelled = {word.lower() for word in _number_words(question)}
    return unsupported + [word for word in _number_words(note) if word.lower() not in spelled]


def _without_bracketed_names(note: str, names: Iterable[str]) -> str:
    """Remove complete names with brackets, such as Ca(OH)2, which tokenization would split."""
    bracketed = {name for name in names if re.search(r"\w[(\[]", name)}
    for name in sorted(bracketed, key=len, reverse=True):
        note = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w(\[]|[.,]\d)", " ", note)
    return note


def _number_words(text: str) -> list[str]:
    """Find number words, including disguised ones (accents, look-alikes, spelled-out letters)."""
    marked = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in marked if not unicodedata.combining(letter))
    plain = plain.casefold().translate(_LOOK_ALIKE).replace("_", "-")
    joined = re.sub(r"[^\w\s]", "", plain)
    spelled_out = " ".join(re.sub(r"\W", "", match) for match in _SPELLED_OUT.findall(plain))
    words = [word for form in (plain, joined, spelled_out) for word in _NUMBER_WORD.findall(form)]
    return list(dict.fromkeys(words))


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0] if letter.isalpha() else ""


def _is_allowed_character(letter: str, scripts: Collection[str]) -> bool:
    """Return True for printable ASCII, common punctuation and letters of expected scripts."""
    if letter.isascii():
        return letter.isprintable()
    if unicodedata.numeric(letter, None) is not None:
        return False
    script = _script(letter)
    if script == "LATIN":
        return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff"
    if letter in _ALLOWED_SYMBOLS or unicodedata.category(letter)[0] == "P":
        return True
    return script == "GREEK" or (bool(script) and script in scripts)


def _normalized_number(number: str) -> str:
    return number.replace("\u2212", "-").replace(",", "").strip(".+%")


def names_in(evidence: Collection[Evidence]) -> set[str]:
    """Return the formulas, material ids and space groups of ledger rows, which a note may contain.

    Database texts are not trusted, so only strings of the expected form are returned.
    """
    quantities = [quantity for quantity in evidence if isinstance(quantity, Quantity)]
    names = {
        name
        for quantity in quantities
        for name in (quantity.subject, quantity.subject_id or "", quantity.variant)
    }
    return {name for name in names if any(pattern.fullmatch(name) for pattern in _NAME_PATTERNS)}


def run_html(run: Run) -> str:
    """Render a run as HTML for notebooks: the steps, then the answer."""
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
