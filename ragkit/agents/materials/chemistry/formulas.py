"""Parse, normalize, look up by name and spell-check chemical formulas.

A formula stands for a composition: CaCO3 is both calcite and aragonite. Isotopes count as their
element (D2O is H2O), since the databases do not distinguish them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction

from ragkit.agents.materials.chemistry.names import BY_NAME, ELEMENTS, ISOTOPES, composition_of
from ragkit.agents.tools import ToolError
from ragkit.normalize import normalize

_MAX_LENGTH = 400
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"([A-Z][a-z]*)|([(\[{{])|([)\]}}])|({_NUMBER})")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MULTIPLIER = re.compile(_NUMBER)
_HYDRATE = re.compile(rf"\.({_NUMBER})?\(?[HD]2O\)?$")


def parse_formula(text: str) -> dict[str, float]:
    """Parse a formula into the number of atoms of each element, in order of appearance.

    Supports brackets, fractions, hydrates (CuSO4·5H2O), subscripts (Unicode, LaTeX, HTML) and the
    isotopes D and T, which count as H. "CuSO4.5H2O" is a hydrate as well: the part before the last
    dot has at least two elements, and the part after it is a multiple of H2O.

    Args:
        text: Formula of at most 400 characters.

    Raises:
        ToolError: The formula is invalid. The message locates the error and suggests a correction.

    >>> parse_formula("Ca(OH)2")
    {'Ca': 1.0, 'O': 2.0, 'H': 2.0}
    >>> parse_formula("Ag0.5Ge1Pb1.75S4")["Pb"]
    1.75
    """
    return {element: float(amount) for element, amount in _amounts(text).items()}


def reduced(text: str) -> str:
    """Return the reduced formula: elements in alphabetical order, smallest integers, 1 omitted.

    It identifies the composition. Decimals are exact, so 0.333 is 333/1000 and not a third.

    Raises:
        ToolError: The formula is invalid.

    >>> reduced("Ga2As2"), reduced("Ag0.5Ge1Pb1.75S4"), reduced("D2O")
    ('AsGa', 'Ag2Ge4Pb7S16', 'H2O')
    """
    amounts = _amounts(text)
    scale = math.lcm(*(amount.denominator for amount in amounts.values()))
    counts = {element: int(amount * scale) for element, amount in amounts.items()}
    divisor = math.gcd(*counts.values())
    return "".join(
        element + (str(count // divisor) if count != divisor else "")
        for element, count in sorted(counts.items())
    )


def chemsys(text: str) -> str:
    """Return the chemical system: the elements of a formula in alphabetical order, joined by "-".

    Raises:
        ToolError: The formula is invalid.

    >>> chemsys("BaTiO3")
    'Ba-O-Ti'
    """
    return "-".join(sorted(_amounts(text)))


def element_symbol(text: str) -> str:
    """Return the symbol of an element from its symbol or name; D and T are H.

    Raises:
        ToolError: The element is unknown.

    >>> element_symbol("iron"), element_symbol(" Fe "), element_symbol("FE")
    ('Fe', 'Fe', 'Fe')
    """
    query = text.strip()
    symbol = ISOTOPES.get(query, query)
    for candidate in (symbol, BY_NAME.get(query.lower(), ""), query.capitalize()):
        if candidate in ELEMENTS:
            return candidate
    near = [known for known in ELEMENTS if _edit_distance(known.lower(), query.lower()) == 1][:4]
    hint = f"; near are {', '.join(near)}" if near else ""
    raise ToolError(f"{query!r} is no chemical element{hint}. Give a symbol such as Fe.")


def from_name(text: str) -> str | None:
    """Return the formula of an element or a well-known substance by name, or None.

    The result is None for unknown names, for names of several compositions (iron oxide) and for
    valid formulas: "TiN" is not tin.

    >>> from_name("gallium arsenide"), from_name("heavy water"), from_name("molybdenum disulfide")
    ('GaAs', 'H2O', 'MoS2')
    >>> from_name("iron oxide"), from_name("TiN"), from_name("tin")
    (None, None, 'Sn')
    """
    if _is_formula(text):
        return None
    return composition_of(text)


def suggest(text: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Suggest known formulas for an unknown or invalid formula.

    Formulas that differ only by case come first, then those of the same elements, then those at an
    edit distance of one element or number. Each composition occurs once.

    Args:
        text: The formula.
        known: Formulas to choose from.
        limit: Maximum number of suggestions.

    >>> suggest("GaAS", ["GaAs", "GaN", "BaTiO3"])
    ['GaAs', 'GaN']
    """
    normalized = re.sub(r"\s", "", _remove_markup(text)).lower()
    normalized = re.sub(r"(?<![\d.])0(?=\d)", "o", normalized)
    readings = [_tokens(form) for form in (_capitalizations(normalized) or [_remove_markup(text)])]
    systems = [{token for token in tokens if token in ELEMENTS} for tokens in readings]
    ranking = []
    for formula in dict.fromkeys(known):
        tokens = _tokens(formula)
        elements = {token for token in tokens if token in ELEMENTS}
        if formula.lower() == normalized:
            ranking.append((0, 0, formula))
        elif any(elements == system for system in systems):
            ranking.append((1, abs(len(formula) - len(normalized)), formula))
        elif any(len(elements ^ system) <= 2 for system in systems):
            distance = min(_edit_distance(tokens, reading) for reading in readings)
            if distance <= 1:
                ranking.append((2, abs(len(formula) - len(normalized)), formula))
    chosen: dict[str, str] = {}
    for _, _, formula in sorted(ranking):
        chosen.setdefault(reduced(formula), formula)
        if len(chosen) == limit:
            break
    return list(chosen.values())


class _InvalidFormula(ValueError):
    """Raised for an invalid formula, with the reason."""


def _amounts(text: str) -> dict[str, Fraction]:
    """Parse a formula as `parse_formula` does, with exact fractions."""
    plain = _remove_markup(text)
    try:
        return _parse_composition(plain)
    except _InvalidFormula as error:
        raise ToolError(
            f"{_truncate(plain)!r} is no chemical formula: {error}. {_suggestion(plain)}"
        ) from None


def _parse_composition(plain: str) -> dict[str, Fraction]:
    if not plain or len(plain) > _MAX_LENGTH:
        raise _InvalidFormula(f"it is {'too long' if plain else 'empty'}")
    total: dict[str, Fraction] = {}
    for part in _split_hydrate(plain):
        match = _MULTIPLIER.match(part)
        multiplier = Fraction(match[0]) if match else Fraction(1)
        for element, amount in _parse_part(part[match.end() if match else 0 :]).items():
            total[element] = total.get(element, Fraction(0)) + multiplier * amount
    if not all(total.values()):
        raise _InvalidFormula("an element or group in it has the number 0")
    return total


def _remove_markup(text: str) -> str:
    """Remove markup from a formula, and unify subscripts and centre dots."""
    plain = normalize(text).strip().strip("$").strip()
    plain = re.sub(r"</?su[bp]>|\\(?:mathrm|text|rm|ce)\b|\^\{?\d+\}?(?=\s*[A-Z])", "", plain)
    plain = re.sub(r"_\{([\d.]+)\}", r"\1", plain)
    plain = re.sub(r"_([\d.])", r"\1", plain)
    if plain.startswith("{") and plain.endswith("}"):
        plain = plain[1:-1]
    plain = re.sub(r"\\cdot|[⋅•∙*‧・]", "·", plain)
    return re.sub(r"\s+(?=[A-Z\d.(\[{)\]}·])|(?<=[·(\[{])\s+", "", plain)


def _split_hydrate(plain: str) -> list[str]:
    """Split a formula into its parts at centre dots or before its crystal water."""
    match = _HYDRATE.search(plain)
    if match and "·" not in plain:
        head = plain[: match.start()]
        if len(re.findall("[A-Z]", head)) >= 2 and not re.search(r"(?<!\d)0$", head):
            return [head, plain[match.start() + 1 :]]
    return plain.split("·")


def _parse_part(part: str) -> dict[str, Fraction]:
    """Parse one part of a formula, without its leading multiplier."""
    stack: list[tuple[str, dict[str, Fraction]]] = [("", {})]
    position = 0
    while position < len(part):
        match = _TOKEN.match(part, position)
        if match is None:
            raise _InvalidFormula(f"{part[position]!r} does not belong in one")
        letters, opening, closing, number = match.groups()
        if number:
            raise _InvalidFormula(f"the number {number} follows no element or group")
        position = match.end()
        if opening:
            stack.append((_CLOSING[opening], {}))
            continue
        group = {_known_element(letters): Fraction(1)} if letters else _close_group(stack, closing)
        multiplier = _MULTIPLIER.match(part, position)
        if multiplier and re.match(r"0\d", multiplier[0]):
            raise _InvalidFormula(
                f"the number {multiplier[0]} starts with 0 (the letter O may be meant)"
            )
        position = multiplier.end() if multiplier else position
        for element, amount in group.items():
            factor = Fraction(multiplier[0]) if multiplier else Fraction(1)
            stack[-1][1][element] = stack[-1][1].get(element, Fraction(0)) + amount * factor
    if len(stack) > 1:
        raise _InvalidFormula(f"a bracket {stack[-1][0]!r} is missing")
    if not stack[0][1]:
        raise _InvalidFormula("there is no element in it")
    return stack[0][1]


def _close_group(stack: list[tuple[str, dict[str, Fraction]]], bracket: str) -> dict[str, Fraction]:
    expected, group = stack.pop() if len(stack) > 1 else ("", {})
    if expected != bracket or not group:
        raise _InvalidFormula(f"the bracket {bracket!r} closes nothing")
    return group


def _known_element(letters: str) -> str:
    symbol = ISOTOPES.get(letters, letters)
    if symbol not in ELEMENTS:
        raise _InvalidFormula(f"{letters!r} is no element")
    return symbol


def _suggestion(plain: str) -> str:
    """Return advice for an invalid formula."""
    bare = re.sub(r"(?<=[A-Za-z\d)\]])(\^?\d*[+\-]|\^.*)$", "", plain)
    tail = plain.rsplit("-", 1)[-1]
    lower = re.sub(r"\s", "", plain).lower()
    readings = _capitalizations(re.sub(r"(?<![\d.])0(?=\d)", "o", lower)) or _capitalizations(lower)
    if meant := from_name(plain):
        return f"That is a name: give {meant}."
    if re.fullmatch(r"(?:[A-Z][a-z]?-)+[A-Z][a-z]?", plain):
        return "For all compounds of these elements give it as chemsys."
    if "," in plain:
        return "Give one formula, or several as a comma-separated list where a list is allowed."
    if bare != plain and _is_formula(bare):
        return f"Leave the charge out: {bare}."
    if tail != plain and _is_formula(tail):
        return f"Leave the prefix out: {tail}."
    if readings:
        return f"Did you mean {' or '.join(readings[:3])}?"
    return f"Expected one such as GaAs or Ca(OH)2, of at most {_MAX_LENGTH} characters."


def _is_formula(text: str) -> bool:
    try:
        _parse_composition(_remove_markup(text))
    except _InvalidFormula:
        return False
    return True


def _truncate(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _capitalizations(lower: str) -> list[str]:
    """Return the valid capitalizations of a lower-case formula, two-letter symbols first."""
    readings: list[str] = []

    def read(position: int, prefix: str) -> None:
        if len(readings) >= 8:
            return
        if position == len(lower):
            readings.append(prefix)
            return
        if not lower[position].isalpha():
            if lower[position] in "().0123456789":
                read(position + 1, prefix + lower[position])
            return
        for length in (2, 1):
            symbol = lower[position : position + length].capitalize()
            if len(symbol) == length and symbol in ELEMENTS:
                read(position + length, prefix + symbol)

    if len(lower) <= 20:
        read(0, "")
    return [reading for reading in readings if _is_formula(reading)]


def _tokens(formula: str) -> list[str]:
    return re.findall(rf"[A-Z][a-z]?|{_NUMBER}|[()]", formula)


def _edit_distance(left: str | list[str], right: str | list[str]) -> int:
    """Return the Levenshtein distance of two sequences."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]
