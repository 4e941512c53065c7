"""Ids of the Materials Project: one number in two spellings, mp-2026 and mp-aaaaaczy.

Releases from 0.87 on write the number in base 26, with the letters a to z as digits, in eight
places (https://github.com/materialsproject/emmet, `AlphaID`). ragkit keeps the number: what is
compared, cited and sorted is always "mp-2026".
"""

from __future__ import annotations

import re

_LETTERS = re.compile(r"(mp|mvc)-([a-z]{8})", re.IGNORECASE)
_PLACES = 8
ID_PATTERN = r"(?:mp|mvc)-(?:\d+|[a-z]{8})"
"""Pattern of an id in either spelling, in lower case."""


def canonical_id(material_id: str) -> str:
    """Return an id with its number in digits; anything else as it is.

    >>> [canonical_id(text) for text in ("mp-aaaaaczy", "MP-2026", "mp-2534-GGA", "aluminium")]
    ['mp-2026', 'mp-2026', 'mp-2534-GGA', 'aluminium']
    """
    match = _LETTERS.fullmatch(material_id)
    if match is None:
        plain = material_id.lower()
        return plain if re.fullmatch(ID_PATTERN, plain) else material_id
    number = 0
    for letter in match[2].lower():
        number = 26 * number + ord(letter) - ord("a")
    return f"{match[1].lower()}-{number}"


def letter_id(material_id: str) -> str:
    """Return an id with its number in letters; an id without a number as it is.

    >>> letter_id("mp-2026"), canonical_id(letter_id("mp-149"))
    ('mp-aaaaaczy', 'mp-149')
    """
    prefix, _, digits = material_id.partition("-")
    if not digits.isdigit() or int(digits) >= 26**_PLACES:
        return material_id
    number, letters = int(digits), ""
    for _ in range(_PLACES):
        number, rest = divmod(number, 26)
        letters = chr(ord("a") + rest) + letters
    return f"{prefix}-{letters}"
