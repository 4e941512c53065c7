"""Codes in questions: the names of single things, which a neighbour's figure must not answer."""

from __future__ import annotations

import re
from functools import lru_cache

from ragkit.normalize import normalize

_WORD = re.compile(r"[^\W_](?:[\w.+/-]*[^\W_])?")
# Numbers, also with a sign, separators, an ordinal ending or a unit: "1,000", "9/11", "19th",
# "1990s", "50kg", "300K", "3.2GHz", "1990-95".
_PLAIN = re.compile(
    r"\d[\d,/+-]*(?:[a-zµμ]+|[kMG]?(?:Pa|Hz|eV|[KVWCF])|°[CF])?"
    r"|\d[\d.,]*\d(?:[a-zµμ]+|[kMG]?(?:Pa|Hz|eV|[KVWCF])|°[CF])"
)
_DECIMAL = re.compile(r"\d+\.\d+(?:-\d+(?:\.\d+)?)?")
# A decimal number before one of these is a quantity, not the number of a version or a section.
_QUANTITY = re.compile(
    r"\s*(?:[%‰°$€£Å]|[munpkMGTµμ]?(?:eV|Pa|Hz|[mgsJWVATKNLBCFHΩ])\d?\b|(?:cm|bar|mol|min|h|ft|lb)\b"
    r"|(?:hundred|thousand|million|billion|trillion|times|percent|per|degrees?|point|points"
    r"|k?ilo\w+|milli\w+|centi\w+|mega\w+|giga\w+|met\w+|lit\w+|inch\w*|feet|foot|miles?|yards?"
    r"|pounds?|tons?|tonnes?|grams?|volts?|watts?|kelvin|hours?|minutes?|seconds?|days?|years?)\b)"
)


_ELEMENTS = frozenset(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am".split()
)
_FORMULA = re.compile(r"(?:[A-Z][a-z]?){2,}")


def find_codes(question: str) -> list[str]:
    """Return the words of a question that name a single thing by letters and digits, or by a dot.

    A formula without digits is one, too. Plain numbers, dates, ordinals and quantities with a unit
    are none.

    >>> find_codes("Does valve V-70 of Python 3.10 hold 2.5 bar at 300K in 1995, as TiO2 and 316L?")
    ['V-70', '3.10', 'TiO2', '316L']
    >>> find_codes("Do PCs or the NASA use GaAs?")
    ['GaAs']
    """
    question = normalize(question)
    codes = []
    for match in _WORD.finditer(question):
        word = match[0]
        if _is_formula(word):
            codes.append(word)
        if not any(char.isdigit() for char in word) or _PLAIN.fullmatch(word):
            continue
        if _DECIMAL.fullmatch(word) and (
            _QUANTITY.match(question, match.end()) or question[match.start() - 1 :][:1] in "$€£"
        ):
            continue
        codes.append(word)
    return list(dict.fromkeys(codes))


def _is_formula(word: str) -> bool:
    """Return True for symbols of elements in one word, of which one has two letters: "GaAs"."""
    symbols = re.findall(r"[A-Z][a-z]?", word)
    is_plural = word[:-1].isupper() and word.endswith("s")
    return bool(
        _FORMULA.fullmatch(word)
        and _ELEMENTS.issuperset(symbols)
        and not word.isupper()
        and not is_plural
    )


def has_code(text: str, code: str) -> bool:
    """Return True if a text contains a code: "V-70", not "V-7", "V-700" or "V-70-2".

    Upper and lower case, dashes, and subscripts count as the same, and so do "V-70", "V 70", "V70".

    >>> [has_code(text, "V-70") for text in ("valve v70.", "V\u201170", "V-700", "V-7", "V-70.1")]
    [True, True, False, False, False]
    """
    return _pattern(code).search(normalize(text)) is not None


@lru_cache
def _pattern(code: str) -> re.Pattern[str]:
    parts = re.split(r"(?<=[^\W\d_])-?(?=\d)|(?<=\d)(?=[^\W\d_])", normalize(code))
    middle = r"[-\s]?".join(map(re.escape, parts))
    return re.compile(
        rf"(?<![\w])(?<!\d[.-])(?<![A-Z]-)(?i:{middle})(?!\w)(?![.-]\d)(?!-[A-Za-z]\b)"
    )
