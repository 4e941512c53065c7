"""One spelling of a text, for comparison only.

Stored texts and their offsets stay as they are: terms, filters, the support check and formulas
compare normalized copies. Source of the forms: Unicode Standard Annex 15 (NFKC) and the property
Default_Ignorable_Code_Point, with the deviations that `normalize` names.
"""

# ruff: noqa: RUF001, RUF002 - characters of other scripts
from __future__ import annotations

import re
import unicodedata

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
)
_IGNORED = re.compile(f"\u00ad[ \t]*\n[ \t]*|[{_IGNORABLE}]")  # a soft hyphen joins two lines
_POWERS = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079"
_POWER = re.compile(f"(?<=[0-9])[\u207a\u207b]?[{_POWERS}]+|(?<=[^\\W_])\u207b[{_POWERS}]+")
_SET_OFF = "\u00bc-\u00be\u2150-\u215f\u2189\u2460-\u249b"  # fractions, numbers in circles
_FRACTION = re.compile(f"(?<=[0-9])(?=[{_SET_OFF}])")
_SPECIAL = re.compile(f"[{_POWERS}{_SET_OFF}]")
_DIGIT = re.compile(r"[^\D0-9]")
_SIGNS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212", "-"),
    **dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4", "'"),
    "\u2044": "/",
    "\u2215": "/",
    "İ": "I",
    "ı": "i",
    "\u0307": "",  # what case folding leaves of İ; composed letters have no such mark
}
_TRADE_MARKS = frozenset("\u2122\u2120")  # their letters are no part of the word


def normalize(text: str) -> str:
    """Return a text in one spelling; case is kept, and the length may differ.

    NFKC unites composed and decomposed letters, ligatures, full-width forms, sub- and superscripts,
    and the signs for micro, ohm, kelvin and ångström. Besides: soft hyphens, zero-width and
    direction marks and the vowel points of Arabic and Hebrew are removed; hyphens, dashes and the
    minus sign become "-", apostrophes and primes "'"; all decimal digits become ASCII; Turkish
    dotted and dotless i become i. Deviations from NFKC: a superscript after a digit or with a minus
    is a power (10⁵ becomes 10^5, not 105), a fraction after a digit is set off (1½ becomes 1 1/2),
    and trade mark signs become spaces.

    >>> [normalize(text) for text in ["ﬁnance", "TiO₂", "10⁵ m⁻²", "µm", "con\\u00adduct", "１½"]]
    ['finance', 'TiO2', '10^5 m^-2', 'μm', 'conduct', '1 1/2']
    """
    if text.isascii():
        return text
    characters = "".join(set(text))  # searched instead of the text: few substitutions are needed
    if _DIGIT.search(characters):
        text = _DIGIT.sub(_ascii_digit, text)
    if _SPECIAL.search(characters):
        text = _FRACTION.sub(" ", _POWER.sub(r"^\g<0>", text))
    if not _TRADE_MARKS.isdisjoint(characters):
        text = text.translate(dict.fromkeys(map(ord, _TRADE_MARKS), " "))
    text = unicodedata.normalize("NFKC", text)
    characters = "".join(set(text))
    if _IGNORED.search(characters):
        text = unicodedata.normalize("NFC", _IGNORED.sub("", text))
    for character in _SIGNS.keys() & characters:
        text = text.replace(character, _SIGNS[character])
    return text


def fold(text: str) -> str:
    """Return a normalized text without differences of case (Unicode's case folding).

    >>> fold("STRASSE") == fold("Straße"), fold("ISPARTA") == fold("ısparta")
    (True, True)
    """
    return normalize(text).casefold()


def _ascii_digit(match: re.Match[str]) -> str:
    value = unicodedata.decimal(match[0], None)
    return match[0] if value is None else str(value)
