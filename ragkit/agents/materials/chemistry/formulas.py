"""Chemical formulas: read, reduced to a key that compares, found by name, repaired when misspelt.

Only the composition is kept: CaCO3 is calcite and aragonite alike. Isotopes count as their element
(D2O is H2O), since the databases hold none.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

from ragkit.agents.materials.chemistry.names import BY_NAME, ELEMENTS, ISOTOPES, composition_of
from ragkit.agents.tools import ToolError

_MAX_LENGTH = 400
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"([A-Z][a-z]*)|([(\[{{])|([)\]}}])|({_NUMBER})")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_TIMES = re.compile(_NUMBER)
_HYDRATE = re.compile(rf"\.({_NUMBER})?\(?[HD]2O\)?$")


def parse_formula(text: str) -> dict[str, float]:
    """The atoms of each element in one formula unit, elements in the order written.

    Understood are brackets, fractions, hydrates (CuSO4·5H2O), subscripts (Unicode, LaTeX, HTML) and
    the isotopes D and T, which count as H. "CuSO4.5H2O" is a hydrate: what precedes the last dot
    has two elements or more and what follows is so many H2O.

    Args:
        text: One formula, at most 400 characters.

    Raises:
        ToolError: It is no formula; says where, and what may have been meant.

    >>> parse_formula("Ca(OH)2")
    {'Ca': 1.0, 'O': 2.0, 'H': 2.0}
    >>> parse_formula("Ag0.5Ge1Pb1.75S4")["Pb"]
    1.75
    """
    return {element: float(amount) for element, amount in _amounts(text).items()}


def reduced(text: str) -> str:
    """The composition as a key: elements alphabetically, smallest whole numbers, 1 left out.

    Decimals are taken as written, so 0.333 is 333/1000 and not a third. The key is itself a
    formula.

    Raises:
        ToolError: It is no formula.

    >>> reduced("Ga2As2"), reduced("Ag0.5Ge1Pb1.75S4"), reduced("D2O")
    ('AsGa', 'Ag2Ge4Pb7S16', 'H2O')
    """
    amounts = _amounts(text)
    scale = math.lcm(*(amount.denominator for amount in amounts.values()))
    whole = {element: int(amount * scale) for element, amount in amounts.items()}
    divisor = math.gcd(*whole.values())
    return "".join(
        element + (str(count // divisor) if count != divisor else "")
        for element, count in sorted(whole.items())
    )


def chemsys(text: str) -> str:
    """The elements of a formula, alphabetically, joined by "-".

    Raises:
        ToolError: It is no formula.

    >>> chemsys("BaTiO3")
    'Ba-O-Ti'
    """
    return "-".join(sorted(_amounts(text)))


def element_symbol(text: str) -> str:
    """The symbol of an element given by symbol or name; D and T are H.

    Raises:
        ToolError: There is no such element.

    >>> element_symbol("iron"), element_symbol(" Fe "), element_symbol("FE")
    ('Fe', 'Fe', 'Fe')
    """
    given = text.strip()
    symbol = ISOTOPES.get(given, given)
    for candidate in (symbol, BY_NAME.get(given.lower(), ""), given.capitalize()):
        if candidate in ELEMENTS:
            return candidate
    near = [each for each in ELEMENTS if _distance(each.lower(), given.lower()) == 1][:4]
    hint = f"; near are {', '.join(near)}" if near else ""
    raise ToolError(f"{given!r} is no chemical element{hint}. Give a symbol such as Fe.")


def from_name(text: str) -> str | None:
    """The formula of an element or a well-known substance given by name; None for what is no name.

    Names that fit several compositions (iron oxide) give None, and so does every text that is a
    formula as it stands: "TiN" is not tin.

    >>> from_name("gallium arsenide"), from_name("heavy water"), from_name("molybdenum disulfide")
    ('GaAs', 'H2O', 'MoS2')
    >>> from_name("iron oxide"), from_name("TiN"), from_name("tin")
    (None, None, 'Sn')
    """
    if _is_formula(text):
        return None
    return composition_of(text)


def suggest(text: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """The known formulas that a formula which is not held, or is none, may have been meant to be.

    First those that differ in upper and lower case only, then those of the same elements, then
    those one element or number away; each composition once.

    Args:
        text: What was given.
        known: The formulas to choose from.
        limit: How many at most.

    >>> suggest("GaAS", ["GaAs", "GaN", "BaTiO3"])
    ['GaAs', 'GaN']
    """
    flat = re.sub(r"\s", "", _plain(text)).lower()
    flat = re.sub(r"(?<![\d.])0(?=\d)", "o", flat)
    wanted = [_tokens(reading) for reading in (_readings(flat) or [_plain(text)])]
    systems = [{token for token in tokens if token in ELEMENTS} for tokens in wanted]
    ranked = []
    for formula in dict.fromkeys(known):
        tokens = _tokens(formula)
        elements = {token for token in tokens if token in ELEMENTS}
        if formula.lower() == flat:
            ranked.append((0, 0, formula))
        elif any(elements == system for system in systems):
            ranked.append((1, abs(len(formula) - len(flat)), formula))
        elif any(len(elements ^ system) <= 2 for system in systems):
            away = min(_distance(tokens, each) for each in wanted)
            if away <= 1:
                ranked.append((2, abs(len(formula) - len(flat)), formula))
    chosen: dict[str, str] = {}
    for _, _, formula in sorted(ranked):
        chosen.setdefault(reduced(formula), formula)
        if len(chosen) == limit:
            break
    return list(chosen.values())


class _Malformed(ValueError):
    """Why a text is no formula."""


def _amounts(text: str) -> dict[str, Fraction]:
    """As `parse_formula`, exactly."""
    plain = _plain(text)
    try:
        return _composition(plain)
    except _Malformed as error:
        raise ToolError(
            f"{_cut(plain)!r} is no chemical formula: {error}. {_advice(plain)}"
        ) from None


def _composition(plain: str) -> dict[str, Fraction]:
    if not plain or len(plain) > _MAX_LENGTH:
        raise _Malformed(f"it is {'too long' if plain else 'empty'}")
    total: dict[str, Fraction] = {}
    for part in _parts(plain):
        leading = _TIMES.match(part)
        times = Fraction(leading[0]) if leading else Fraction(1)
        for element, amount in _read(part[leading.end() if leading else 0 :]).items():
            total[element] = total.get(element, Fraction(0)) + times * amount
    if not all(total.values()):
        raise _Malformed("an element or group in it has the number 0")
    return total


def _plain(text: str) -> str:
    """The formula without markup: subscripts on the line, one kind of centre dot."""
    plain = unicodedata.normalize("NFKC", text).strip().strip("$").strip()
    plain = re.sub(r"</?su[bp]>|\\(?:mathrm|text|rm|ce)\b|\^\{?\d+\}?(?=\s*[A-Z])", "", plain)
    plain = re.sub(r"_\{([\d.]+)\}", r"\1", plain)
    plain = re.sub(r"_([\d.])", r"\1", plain)
    if plain.startswith("{") and plain.endswith("}"):
        plain = plain[1:-1]
    plain = re.sub(r"\\cdot|[⋅•∙*‧・]", "·", plain)
    return re.sub(r"\s+(?=[A-Z\d.(\[{)\]}·])|(?<=[·(\[{])\s+", "", plain)


def _parts(plain: str) -> list[str]:
    """The formula and its crystal water."""
    found = _HYDRATE.search(plain)
    if found and "·" not in plain:
        head = plain[: found.start()]
        if len(re.findall("[A-Z]", head)) >= 2 and not re.search(r"(?<!\d)0$", head):
            return [head, plain[found.start() + 1 :]]
    return plain.split("·")


def _read(part: str) -> dict[str, Fraction]:
    """The amounts of one part, which has no leading number."""
    stack: list[tuple[str, dict[str, Fraction]]] = [("", {})]
    position = 0
    while position < len(part):
        found = _TOKEN.match(part, position)
        if found is None:
            raise _Malformed(f"{part[position]!r} does not belong in one")
        letters, opening, closing, number = found.groups()
        if number:
            raise _Malformed(f"the number {number} follows no element or group")
        position = found.end()
        if opening:
            stack.append((_CLOSING[opening], {}))
            continue
        last = {_known(letters): Fraction(1)} if letters else _closed(stack, closing)
        times = _TIMES.match(part, position)
        if times and re.match(r"0\d", times[0]):
            raise _Malformed(f"the number {times[0]} starts with 0 (the letter O may be meant)")
        position = times.end() if times else position
        for element, amount in last.items():
            factor = Fraction(times[0]) if times else Fraction(1)
            stack[-1][1][element] = stack[-1][1].get(element, Fraction(0)) + amount * factor
    if len(stack) > 1:
        raise _Malformed(f"a bracket {stack[-1][0]!r} is missing")
    if not stack[0][1]:
        raise _Malformed("there is no element in it")
    return stack[0][1]


def _closed(stack: list[tuple[str, dict[str, Fraction]]], bracket: str) -> dict[str, Fraction]:
    expected, group = stack.pop() if len(stack) > 1 else ("", {})
    if expected != bracket or not group:
        raise _Malformed(f"the bracket {bracket!r} closes nothing")
    return group


def _known(letters: str) -> str:
    symbol = ISOTOPES.get(letters, letters)
    if symbol not in ELEMENTS:
        raise _Malformed(f"{letters!r} is no element")
    return symbol


def _advice(plain: str) -> str:
    """What may have been meant by a text that is no formula."""
    bare = re.sub(r"(?<=[A-Za-z\d)\]])(\^?\d*[+\-]|\^.*)$", "", plain)
    tail = plain.rsplit("-", 1)[-1]
    lower = re.sub(r"\s", "", plain).lower()
    readings = _readings(re.sub(r"(?<![\d.])0(?=\d)", "o", lower)) or _readings(lower)
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
        _composition(_plain(text))
    except _Malformed:
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _readings(lower: str) -> list[str]:
    """Every way to read lower-case text as symbols and numbers, two-letter symbols first."""
    found: list[str] = []

    def read(position: int, done: str) -> None:
        if len(found) >= 8:
            return
        if position == len(lower):
            found.append(done)
            return
        if not lower[position].isalpha():
            if lower[position] in "().0123456789":
                read(position + 1, done + lower[position])
            return
        for length in (2, 1):
            symbol = lower[position : position + length].capitalize()
            if len(symbol) == length and symbol in ELEMENTS:
                read(position + length, done + symbol)

    if len(lower) <= 20:
        read(0, "")
    return [each for each in found if _is_formula(each)]


def _tokens(formula: str) -> list[str]:
    return re.findall(rf"[A-Z][a-z]?|{_NUMBER}|[()]", formula)


def _distance(left: str | list[str], right: str | list[str]) -> int:
    """The Levenshtein distance of two sequences."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]
