"""What a question about materials asks for, read by rules: no language model.

The rules know the properties' names and what people call them, formulas and names of substances,
superlatives, counts, comparisons, limits with units, and families of compounds. They read plain
English and say nothing where they understand nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ragkit.agents.materials.backend import Condition, Operator
from ragkit.agents.materials.chemistry.formulas import from_name, parse_formula
from ragkit.agents.materials.chemistry.ids import ID_PATTERN
from ragkit.agents.materials.chemistry.names import BY_NAME, ELEMENTS
from ragkit.agents.materials.chemistry.properties import PROPERTIES
from ragkit.agents.materials.crystals.symmetry import SYMBOLS
from ragkit.agents.materials.question.parsed import (
    ABOVE,
    ALIASES,
    FAMILIES,
    INCLUSIVE,
    LIMIT,
    NUMBER,
    UNIT,
    Limit,
    Order,
    ParsedQuestion,
    property_spans,
)
from ragkit.agents.materials.question.unrecognized import unrecognized_words
from ragkit.agents.tools import ToolError

_COUNT = r"\bhow many\b|\bnumber of (?!sites|atoms|elements)|\bcount\b"
_HIGHEST = r"highest|largest|greatest|maximum|maximal|biggest|hardest|stiffest|widest|most"
_LOWEST = r"lowest|smallest|minimum|minimal|least|softest|narrowest"
_UNIT_AFTER_NUMBER = re.compile(rf"(?<![\w.)\]]){NUMBER}\s*{UNIT}")
_ORDERINGS = {
    "antiferromagnetic": "AFM", "ferrimagnetic": "FiM", "ferromagnetic": "FM",
    "nonmagnetic": "NM", "non-magnetic": "NM", "antiferromagnets": "AFM", "ferrimagnets": "FiM",
    "ferromagnets": "FM",
}  # fmt: skip
_SYSTEMS = "cubic hexagonal trigonal tetragonal orthorhombic monoclinic triclinic".split()
# Words of a question that are spelt like formulas.
_WORDS = frozenset(
    "I In As At No He Be Us So On Of Or If Is It We Do To By Me My Up An How What Which Who Why "
    "When Give Compare Find List Show Tell Please Can Could Does Are Has Have Among All "
    "FM AFM NM FiM PBE DFT DFPT GGA DOS VRH GPa MPa Mbar CIF POSCAR VASP MP OK ID IDs SI UV "
    "USA".split()
)
# Names that mean one polymorph of their formula.
POLYMORPHS = {
    "rutile": "P4_2/mnm", "anatase": "I4_1/amd", "brookite": "Pbca", "diamond": "Fd-3m",
    "graphite": "P6_3/mmc", "calcite": "R-3c", "aragonite": "Pnma", "corundum": "R-3c",
    "sapphire": "R-3c", "hematite": "R-3c", "pyrite": "Pa-3", "sphalerite": "F-43m",
    "halite": "Fm-3m", "periclase": "Fm-3m", "galena": "Fm-3m",
}  # fmt: skip
_VOCABULARY = sorted({word for alias, _ in ALIASES for word in re.findall(r"[a-z]{3,}", alias)})
_NO_NAMES = frozenset(
    "a an the it its this that these those my our your their his her some any one each every all "
    "both material materials compound compounds crystal crystals sample samples which what two "
    "things something anything them me us there in on at by to and or not".split()
)
_FLAGS = {each.name for each in PROPERTIES if each.kind == "flag"}
_ADJECTIVES = {"stiffest": "k_vrh", "softest": "k_vrh", "most stable": "energy_above_hull"}


def read_question(question: str) -> ParsedQuestion:
    """What a question asks for.

    >>> reading = read_question("What is the band gap of GaAs in meV?")
    >>> reading.formulas, reading.properties, reading.unit
    (('GaAs',), ('band_gap',), 'meV')
    """
    text = re.sub(r"[Bb]ohr magnetons?", "bohr_magneton", question.replace("\u2013", "-"))
    text = " ".join(text.split())
    lower = _without_slips(text.lower())
    found = _properties(lower)
    names = tuple(dict.fromkeys(name for _, name in found))
    if not names and re.search(r"\bmaterial ids?\b|\bmp[ -]ids?\b|\bidentifiers?\b", lower):
        names = ("material_id",)
    limits, spent = _limits(text, found)
    elements, without, chemsys = _composition(text, lower)
    group = _space_group(text)
    rest_of_text = text.replace(chemsys, " ") if chemsys else text
    rest_of_text = rest_of_text.replace(group, " ") if group else rest_of_text
    formulas, misspelt = _materials(rest_of_text, {*elements, *without})
    ids = tuple(dict.fromkeys(re.findall(rf"\b{ID_PATTERN}\b", text)))
    if names and not (formulas or misspelt or ids or elements or chemsys):
        misspelt = _unknown_names(text)
    order, order_by = _order(lower, found)
    rest = tuple(name for name in names if name not in {limit.property for limit in limits})
    reading = ParsedQuestion(
        formulas=formulas,
        misspelt=misspelt,
        material_ids=ids,
        properties=rest or names,
        order=order,
        order_by=order_by,
        count=bool(re.search(_COUNT, lower)),
        compare=bool(re.search(r"\bcompare|\bdifference\b|\bthan\b|\bor\b|\bratio\b", lower)),
        polymorphs=bool(re.search(r"\bpolymorphs?\b|\bphases?\b|\ballotropes?\b", lower)),
        measured=bool(re.search(r"\b(measured|experimental(?:ly)?|experiments?)\b", lower)),
        unit=_unit(text, spent),
        elements=elements,
        without=without,
        chemsys=chemsys,
        limits=limits,
        conditions=_conditions(group, lower),
    )
    reading = _with_flags(reading)
    return replace(reading, unrecognized=unrecognized_words(text, lower, reading))


def _with_flags(reading: ParsedQuestion) -> ParsedQuestion:
    """Flags are conditions where materials are looked for, and properties where one is named."""
    flags = [name for name in reading.properties if name in _FLAGS]
    if flags and (reading.count or not (reading.formulas or reading.material_ids)):
        given = {each.property for each in reading.conditions}
        more = tuple(Condition(name, "=", True) for name in flags if name not in given)
        rest = tuple(name for name in reading.properties if name not in flags)
        return replace(reading, properties=rest, conditions=(*reading.conditions, *more))
    orderings = tuple(each for each in reading.conditions if each.property == "ordering")
    if orderings and reading.formulas and not reading.properties and not reading.count:
        others = tuple(each for each in reading.conditions if each not in orderings)
        return replace(reading, properties=("ordering",), conditions=others)
    return reading


def _without_slips(lower: str) -> str:
    """The text with words put right that are one slip away from a word of the properties' names.

    A slip is a letter too many, too few, another one, or two that changed places.
    """
    words = re.split(r"(\w+)", lower)
    for i, word in enumerate(words):
        if len(word) > 4 and word.isalpha() and word not in _VOCABULARY:
            near = [each for each in _VOCABULARY if _is_slip(word, each)]
            words[i] = near[0] if len(near) == 1 else word
    return "".join(words)


def _is_slip(word: str, right: str) -> bool:
    if abs(len(word) - len(right)) > 1 or len(right) < 5 or word.rstrip("s") == right.rstrip("s"):
        return False
    same = next(
        (i for i, (a, b) in enumerate(zip(word, right, strict=False)) if a != b), len(right)
    )
    left, other = word[same:], right[same:]
    if len(word) != len(right):
        longer, shorter = sorted((left, other), key=len, reverse=True)
        return longer[1:] == shorter
    return left[1:] == other[1:] or (left[:2] == other[1::-1] and left[2:] == other[2:])


def _unknown_names(text: str) -> tuple[str, ...]:
    """What stands where a material's name would: "the gap of cds"; the tools may know it."""
    found = re.search(r"\b(?:of|for|does) ([A-Za-z][\w()]*)(?=[\s?.,!]|$)", text)
    if found is None or found[1].lower() in _NO_NAMES or found[1].lower() in _VOCABULARY:
        return ()
    return (found[1],)


def _properties(lower: str) -> list[tuple[int, str]]:
    """(position, property) of every property that is named."""
    return [(start, name) for start, _, name in property_spans(lower)]


def _materials(text: str, elements: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    formulas: dict[str, None] = {}
    misspelt: dict[str, None] = {}
    for token in re.findall(r"[A-Za-z][\w()\[\].·*]*", _UNIT_AFTER_NUMBER.sub(" ", text)):
        word = token.rstrip(".").removesuffix("'s")
        word = word if word.count("(") == word.count(")") else word.strip("()")
        if word in _WORDS or word in elements or not _looks_like_formula(word):
            continue
        if word.lower() in _VOCABULARY:  # a property's name in capitals
            continue
        try:
            parse_formula(word)
            formulas[word] = None
        except ToolError:
            misspelt[word] = None
    if not formulas:
        formulas = dict.fromkeys(name for name in _names(text) if name not in elements)
    return tuple(formulas), tuple(misspelt)


def _looks_like_formula(word: str) -> bool:
    if re.search(r"\d", word):
        return bool(re.match(r"[A-Z(]|[a-z]{1,2}\d|[a-z]+\d", word)) and "-" not in word
    inner = sum(each.isupper() for each in word[1:])
    return word in ELEMENTS or (word[0].isupper() and inner > 0)


def _names(text: str) -> list[str]:
    """Formulas of substances given by name; the longest name at each place."""
    words = re.findall(r"[A-Za-z-]+", text.lower())
    found, at = [], 0
    while at < len(words):
        for n in (3, 2, 1):
            name = " ".join(words[at : at + n])
            formula = from_name(name) if len(name) > 2 else None
            if formula and not (n == 1 and name in FAMILIES):
                found.append(formula)
                at += n - 1
                break
        at += 1
    return found


def _order(lower: str, found: list[tuple[int, str]]) -> tuple[Order | None, str]:
    for phrase, name in _ADJECTIVES.items():
        if re.search(rf"\b{phrase}\b", lower):
            lowest = phrase in ("softest", "most stable")
            return ("lowest" if lowest else "highest"), name
    for alias, _ in ALIASES:
        if re.match(_HIGHEST, alias):  # "largest piezoelectric modulus" may be a property's name
            lower = re.sub(rf"(?<!has the )(?<!have the )(?<!with the ){alias}", "~", lower)
    match = re.search(rf"\b(?:({_HIGHEST})|({_LOWEST}))\b", lower)
    if match is None or not found:
        return None, ""
    after = [name for at, name in found if at >= match.end()] or [found[-1][1]]
    return ("highest" if match[1] else "lowest"), after[0]


def _limits(text: str, found: list[tuple[int, str]]) -> tuple[tuple[Limit, ...], list[int]]:
    """Conditions such as "a band gap above 3 eV"; also where their units stand."""
    limits, spent = [], []
    for match in re.finditer(LIMIT, text, re.IGNORECASE):
        before = [name for at, name in found if at < match.start()]
        near = before[-1] if before else (found[0][1] if found else "")
        if not near:
            continue
        unit = match[5] or ""
        unit = "" if unit.lower() in _PLAIN_WORDS else unit
        spent.append(match.end())
        if match[1]:
            low, high = sorted((_number(match[1]), _number(match[2])))
            limits += [Limit(near, ">=", low, unit), Limit(near, "<=", high, unit)]
            continue
        phrase = match[3].lower()
        sign = ">" if re.fullmatch(ABOVE, phrase) else "<"
        operator: Operator = f"{sign}=" if phrase in INCLUSIVE else sign  # type: ignore[assignment]
        limits.append(Limit(near, operator, _number(match[4]), unit))
    return tuple(limits), spent


_PLAIN_WORDS = frozenset("and or is are that which have has in of with the for do does".split())


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def _unit(text: str, spent: list[int]) -> str:
    """The unit of "in meV", "(in GPa)", "expressed in Mbar"; not one of a condition."""
    asked = rf"\b(?:in|(?:converted|convert it) (?:in)?to) (?:units of )?({UNIT})(?=[\s?.,)]|$)"
    for match in re.finditer(asked, text):
        if match.end() not in spent and match[1] not in ELEMENTS and _is_unit(match[1]):
            return match[1]
    return ""


def _is_unit(text: str) -> bool:
    from ragkit.agents.units import parse_unit

    try:
        parse_unit(text)
    except ToolError:
        return False
    return True


def _composition(text: str, lower: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    system = re.search(
        r"\b((?:[A-Z][a-z]?-){1,6}[A-Z][a-z]?)\b(?= (?:system|chemical|phase))", text
    )
    without = _listed(text, r"(?:without|not contain(?:ing)?|free of|excluding)")
    elements = _listed(text, r"(?<!not )(?:contain(?:s|ing)?|with|compounds of|made of)")
    for word, symbol in FAMILIES.items():
        plural = rf"\b{word}s\b"
        alone = rf"\b(?:which|what|an?|the|every|binary|ternary|metal|of) {word}\b"
        if re.search(f"{plural}|{alone}", lower):
            elements.append(symbol)
    for name, symbol in BY_NAME.items():
        if re.search(rf"\b{name} (?:compounds|halides|minerals|{'|'.join(FAMILIES)})s\b", lower):
            elements.append(symbol)
    kept = [each for each in dict.fromkeys(elements) if each not in without]
    return tuple(kept), tuple(dict.fromkeys(without)), system[1] if system else ""


def _listed(text: str, lead: str) -> list[str]:
    """Element symbols or names in a list after some words: "containing Fe and oxygen"."""
    item = rf"(?:{'|'.join(sorted({*ELEMENTS, *BY_NAME}, key=len, reverse=True))})\b"
    found = re.findall(rf"{lead} ((?:both |only )?{item}(?:(?:, | and | or |, and ){item})*)", text)
    symbols = []
    for each in found:
        for word in re.split(r", and |, | and | or | ", each):
            symbol = word if word in ELEMENTS else BY_NAME.get(word.lower(), "")
            symbols += [symbol] if symbol else []
    return symbols


def _space_group(text: str) -> str:
    """The symbol in "the R3c polymorph", "space group Fm-3m"."""
    for pattern in (r"\b([PIFCRA]\S{1,9}) (?:polymorph|phase|structure)\b",
                    r"[Ss]pace ?group ([PIFCRA][\w/-]{1,9})(?=[\s?.,]|$)"):  # fmt: skip
        match = re.search(pattern, text)
        if match and match[1] in SYMBOLS:
            return match[1]
    return ""


def _conditions(group: str, lower: str) -> tuple[Condition, ...]:
    found = []
    for word, ordering in _ORDERINGS.items():
        if re.search(rf"(?<![\w-]){word}\b", lower):
            found.append(Condition("ordering", "=", ordering))
            break
    number = re.search(r"space ?group (?:number |no\.? ?)?(\d{1,3})\b", lower)
    if number:
        found.append(Condition("spacegroup_number", "=", int(number[1])))
    if not group:
        named = [name for name in POLYMORPHS if re.search(rf"\b{name}\b", lower)]
        group = POLYMORPHS[named[0]] if named else ""
    if group:
        found.append(Condition("space_group", "=", group))
    system = re.search(rf"\b({'|'.join(_SYSTEMS)})\b(?! (?:angstrom|cent|nano|met))", lower)
    if system:
        found.append(Condition("crystal_system", "=", system[1].capitalize()))
    if re.search(
        r"\b(?:are|is|all|thermodynamically) stable\b|\bstable (?:materials|compounds)\b", lower
    ):
        found.append(Condition("is_stable", "=", True))
    return tuple(found)
