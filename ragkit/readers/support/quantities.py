"""The quantities of a sentence: numbers in any notation, with their units, and dates.

A quantity is an interval: "1.42 eV" is one point, "1.1-1.2 eV", "at least 5", "the 1990s" and "the
19th century" are intervals. Units that differ by an SI prefix only have the same base unit: 1420
meV is 1.42 eV. A number before a plural counts something: the unit of "201 episodes" is the noun.
"""

# ruff: noqa: RUF001 - the signs of numbers
from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from ragkit.indexes.terms import TermAnalyzer

_INFINITE = Decimal("Infinity")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
_ONES += "fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORTH = {word: value for value, word in enumerate(_ONES.split())}
_WORTH |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_WORTH["dozen"] = 12
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(),
        start=1,
    )
}
_MAGNITUDES = {
    "hundred": 2,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
    "k": 3,
    "m": 6,
    "mn": 6,
    "bn": 9,
    "b": 9,
}
_MONTHS = (
    "january february march april may june july august september october november december".split()
)
_MONTH = "|".join(month[:3] + f"(?:{month[3:]}|\\.)?" for month in _MONTHS)
_MONTH = _MONTH.replace("sep(?:", "sept?(?:").replace("may(?:|\\.)?", "may")
_SPELLED = "|".join(word for word in _WORTH if word not in ("zero", "one"))
_SPELLED = rf"(?:{_TENS.replace(' ', '|')})-(?:{'|'.join(_ONES.split()[1:10])})|{_SPELLED}"

_NUMBER = re.compile(
    rf"(?P<money>[$€£]\s?)?(?<![\w.^])(?<!\d[,:/])(?P<sign>(?<![\w)]\s)(?<![\w)%])-)?"
    rf"(?:(?P<digits>{_DIGITS})(?P<comma>,\d{{1,2}}(?=\s?(?:[kmµμn]?(?:eV|m|g|V)|%)(?!\w)))?"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?!\w))?"
    r"(?:\s?[×x*·]\s?10(?:\^|\*\*)?(?P<times>[+-]?\d{1,3})(?!\d))?"
    r"(?:(?:\^|\*\*)(?P<power>[+-]?\d{1,3}))?(?P<ending>'?s|st|nd|rd|th)?(?![^\W\d_]{4})"
    rf"|(?P<word>(?i:{_SPELLED}|(?:one|a)(?=\s(?:hundred|thousand|million|billion)\b)))\b)"
    r"(?:[\s-](?P<magnitude>hundred|thousand|million|billion|trillion)s?\b(?!-old)"
    r"|(?<=\d)(?P<short>[kmb]|bn|mn)\b)?"
)
_ORDINAL = re.compile(rf"\b(?i:{'|'.join(_ORDINALS)})\b(?![\s-](?i:hand|world\b))")
_DATE = re.compile(
    rf"\b(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+)?(?P<month>(?i:{_MONTH}))(?![a-z])"
    r"(?:\s+(?:the\s+)?(?P<after>\d{1,2})(?:st|nd|rd|th)?(?!\d|[.,]\d))?"
    r"(?:\s*,?\s*(?:of\s+)?(?P<year>1\d{3}|20\d\d)\b)?"
)
_PREFIXES = {"": 0, "f": -15, "p": -12, "n": -9, "μ": -6, "u": -6, "m": -3, "c": -2, "d": -1}
_PREFIXES |= {"k": 3, "M": 6, "G": 9, "T": 12}
_SYMBOL = r"(?:[fpnμumkMGT]?(?:eV|Pa|Hz|Wh|bar|mol|[gsJWVATKNLBCFHΩ])|[fpnμumkcd]?m)"
_PART = rf"({_SYMBOL}|°\s?[CF]|Å|dB)(?:(?:\^|\*\*)?(-?\d))?(?!\w)"
_DIVISOR = rf"(?:{_PART}|(?:h|min|yr)(?!\w))"
_UNIT = re.compile(
    rf"[\s-]?{_PART}(?:[\s·*]{_PART}){{0,2}}"
    rf"(?:\s?/\s?(?:\({_DIVISOR}(?:[\s·*]{_DIVISOR})*\)|{_DIVISOR})){{0,2}}"
)
_EACH = re.compile(rf"(?:{_PART}|(h|min|yr)(?!\w))")
_LONG = re.compile(
    r"[\s-]?(?:(kilo|centi|milli|micro|nano|pico|mega|giga|tera)?-?"
    r"(met(?:er|re)|gram(?:me)?|second|hertz|pascal|joule|watt|volt|ampere|kelvin|lit(?:er|re)"
    r"|electron[\s-]?volt)s?|(degrees?(?:\s(?:celsius|centigrade|fahrenheit|C|F))?)"
    r"|(%|per\s?cent(?:age points?)?|percentage points?|mph|ft|lbs?|hrs?|h|min|mins|km/h|kph)"
    r"|(?:US\s)?(dollars?|euros?|USD|EUR))(?![\w])",
    re.IGNORECASE,
)
_LONG_PREFIXES = {"kilo": 3, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12}
_LONG_PREFIXES |= {"mega": 6, "giga": 9, "tera": 12}
_LONG_BASES = {"met": "m", "gra": "g", "sec": "s", "her": "Hz", "pas": "Pa", "jou": "J"}
_LONG_BASES |= {"wat": "W", "vol": "V", "amp": "A", "kel": "K", "lit": "L", "ele": "eV"}
_ABBREVIATED = {"mph": "#mph", "ft": "#foot", "lb": "#pound", "lbs": "#pound", "hr": "#hour"}
_ABBREVIATED |= {"hrs": "#hour", "h": "#hour", "min": "#minut", "mins": "#minut"}
_ABBREVIATED |= {"km/h": "m h^-1", "kph": "m h^-1"}
_NOUN = re.compile(r"[\s-]+((?:[^\W\d_]|['-])+)")
_PLURALS = frozenset("people men women children feet percent species series".split())
_NO_COUNT = frozenset(
    "was is has his its this as us plus less across towards does versus minus perhaps always "
    "afterwards times and or to of in on at for from with by than the a an that which who when "
    "were are had have after before later ago since until during when while".split()
)
_ABOUT = re.compile(
    r"(?:\b(?:about|around|approximately|approx\.?|roughly|nearly|almost|some|circa|c\.|ca\.|close"
    r" to|estimated|probably|estimated at|typically)|[~≈])\s*(?:the\s|a\s|of\s)?$",
    re.IGNORECASE,
)
_LEAST = re.compile(
    r"\b(?:at least|(?<!no )(?<!not )(?:more|greater|larger|higher|longer|older|later) than|over"
    r"|(?:no|not) (?:less|fewer) than|above|exceed(?:s|ed|ing)?|upwards? of|beyond|as early as)"
    r"\s(?:an? )?(?:estimated )?[$€£]?$",
    re.IGNORECASE,
)
_MOST = re.compile(
    r"\b(?:at most|up to|(?<!no )(?<!not )(?:less|fewer|lower|smaller|shorter|younger|earlier) than"
    r"|under|below|(?:no|not) (?:more|longer|later) than|as late as|within)\s(?:an? )?[$€£]?$",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"\b(before|prior to|after|following)(?: the year)? $", re.IGNORECASE)
_YEAR_BEFORE = re.compile(
    r"(?:\b(?:in|since|of|from|until|till|by|during|year|early|late|mid|to|and|between|before|after"
    r"|through|around|circa|for|the|[A-Z][a-z]+)[\s-]|[-(,;~]\s?|^|/)$"
)
_ANALYZER = TermAnalyzer("english")
_IRREGULAR = dict(
    pair.split("=")
    for pair in (
        "won=win lost=lose began=begin begun=begin wrote=write written=write became=become "
        "grew=grow grown=grow rose=rise risen=rise fell=fall fallen=fall made=make took=take "
        "taken=take gave=give given=give held=hold led=lead left=leave met=meet paid=pay "
        "ran=run sold=sell sent=send spent=spend stood=stand taught=teach told=tell went=go "
        "gone=go came=come did=do done=do saw=see seen=see sang=sing sung=sing built=build "
        "bought=buy brought=bring broke=break broken=break chose=choose chosen=choose "
        "drew=draw drawn=draw drove=drive driven=drive felt=feel fought=fight flew=fly "
        "found=find kept=keep knew=know known=know meant=mean said=say shot=shoot shown=show "
        "spoke=speak spoken=speak swam=swim threw=throw thrown=throw understood=understand "
        "died=die death=die dead=die birth=born men=man women=woman children=child feet=foot "
        "lay=lie bore=bear bound=bind dealt=deal froze=freeze frozen=freeze"
    ).split()
)


# Stems that say the same of a thing, where the sentence is otherwise alike.
_SAME = {
    other: first
    for first, *others in map(
        str.split,
        (
            "found form establish start begin creat launch incorpor",
            "releas publish issu premier debut",
            "build construct",
            "film movi",
            "acquir buy purchas",
            "increas rise grow climb",
            "decreas fall declin drop reduc",
            "larg big",
            "locat situat",
            "consist compris",
            "end finish",
            "marri wed",
            "illeg unlaw",
        ),
    )
    for other in others
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """Interval of values in a base unit, and where it stands: `text[start:end]`.

    `kind` is "number", "year", "month", "day" (100 times the month and the day), "ordinal", or
    "label" for numbers in names, such as Boeing 727. `step` is the worth of the last digit.
    `of` are the stems between a number and the noun that it counts, `scale` is the worth of the
    unit as it was written in the base unit.
    """

    low: Decimal
    high: Decimal
    unit: str
    kind: str
    step: Decimal
    start: int
    end: int
    text: str
    about: bool = False
    of: frozenset[str] = frozenset()
    scale: Decimal = Decimal(1)

    @property
    def point(self) -> bool:
        """Whether it is one value."""
        return self.low == self.high

    def agrees(self, source: Quantity) -> bool:
        """Whether a source's quantity lies in this one, rounded to its digits."""
        half = self.step / 2
        if self.about and self.point:
            half = max(half, abs(self.low) / 20)
        inside = self.low - half <= source.low and source.high <= self.high + half
        if not source.point and self.point:
            ends = (source.low, source.high)
            return any(end.is_finite() and abs(end - self.low) <= half for end in ends)
        return inside or (self.low == source.low and self.high == source.high)

    def near(self, source: Quantity) -> bool:
        """Whether both may mean the same value, in more or less detail."""
        mine, other = self._slack(), source._slack()
        return (
            self.low - mine < source.high + other and source.low - other < self.high + mine
        ) or self.agrees(source)

    def _slack(self) -> Decimal:
        ends = [end for end in (self.low, self.high) if end.is_finite()]
        size = max((abs(end) for end in ends), default=Decimal(0))
        half = self.step / 2
        if self.kind == "year":
            return Decimal(3) if self.about else Decimal("0.1")
        if self.kind == "number" and 100 <= size < 10**15 and size % 100 == 0:
            half = max(half, size / 20)
        return max(half, size / 10) if self.about else half


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The stem of one word in lower case; of a stop word, the word itself.

    >>> stem("Founded"), stem("won"), stem("the")
    ('found', 'win', 'the')
    """
    terms = _ANALYZER.terms(_IRREGULAR.get(word.lower(), word))
    return _SAME.get(terms[0], terms[0]) if terms else word.lower()


def read_quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text that `ragkit.normalize.normalize` returned, in their order.

    >>> [(str(q.low), q.unit) for q in read_quantities("1420 meV at 300 K in two films")]
    [('1.420', 'eV'), ('300', 'K'), ('2', '#film')]
    """
    found: list[Quantity] = []
    if any(month[:3] in text.lower() for month in _MONTHS):
        for match in _DATE.finditer(text):
            found += _date(match)
        text = _DATE.sub(lambda match: "_" * len(match[0]) if _is_date(match) else match[0], text)
    plain: list[Quantity] = []
    for match in _NUMBER.finditer(text):
        if plain and match.start() < plain[-1].end:
            continue  # the power of a unit
        quantity = _quantity(match, text)
        if quantity is not None:
            plain.append(quantity)
    found += _joined(plain, text)
    for match in _ORDINAL.finditer(text):
        noun, end = _next_noun(text, match.end())
        value = Decimal(_ORDINALS[match[0].lower()])
        if noun == "centuri":
            found.append(_century(value, match.start(), end, text))
        elif noun:
            found.append(
                Quantity(
                    value, value, f"th {noun}", "ordinal", Decimal(0), match.start(), end, match[0]
                )
            )
    return tuple(sorted(found, key=lambda quantity: quantity.start))


def _is_date(match: re.Match[str]) -> bool:
    numbered = match["day"] or match["after"] or match["year"]
    before = match.string[max(0, match.start() - 6) : match.start()]
    alone = len(match["month"]) > 2 and re.search(r"\b(?:in|since|until|late|early) $", before)
    return bool(numbered or alone) and match["month"][0].isupper()


def _date(match: re.Match[str]) -> list[Quantity]:
    if not _is_date(match):
        return []
    month = [name[:3] for name in _MONTHS].index(match["month"][:3].lower()) + 1
    day, zero, span = match["day"] or match["after"], Decimal(0), match.span()
    values = [(month, "month")]
    if day:
        values.append((100 * month + int(day), "day"))
    if match["year"]:
        values.append((int(match["year"]), "year"))
    return [
        Quantity(Decimal(value), Decimal(value), kind, kind, zero, *span, match[0])
        for value, kind in values
    ]


def _quantity(match: re.Match[str], text: str) -> Quantity | None:
    value, step = _value(match)
    start, end, before = (
        match.start(),
        match.end(),
        text[max(0, match.start() - 30) : match.start()],
    )
    digits, ending = match["digits"] or "", match["ending"] or ""
    plain = len(digits) == 4 and digits.isdecimal() and value == int(digits) and not match["money"]
    if ending[-1:] == "s":
        return _decade(match) if plain or re.fullmatch(r"\d0", digits) else None
    if ending:
        noun, end = _next_noun(text, end)
        if noun == "centuri":
            return _century(value, start, end, text)
        unit = f"th {noun}" if noun else "th"
        return Quantity(value, value, unit, "ordinal", Decimal(0), start, end, match[0])
    unit, factor, end, of = _unit(match, text)
    if plain and 1000 <= value <= 2100:
        letter = text[match.end() : end].strip() in ("A", "C", "m", "s", "B")
        led = _YEAR_BEFORE.search(before)
        if (not unit and (led or value >= 1600)) or (letter and led):
            return _bounded(
                Quantity(value, value, "year", "year", Decimal(0), start, match.end(), digits),
                before,
                text,
            )
    kind = "number" if unit else _bare(before, text[end : end + 1])
    scale = Decimal(10) ** factor
    quantity = Quantity(
        value * scale,
        value * scale,
        unit,
        kind,
        step * scale,
        start,
        end,
        text[start:end].strip(),
        of=of,
        scale=scale,
    )
    return _bounded(quantity, before, text)


def _bare(before: str, following: str) -> str:
    """Return the kind of a number without unit: after a name, it is a part of that name."""
    named = re.search(r"(?:[A-Z][\w.]*|#|No\.|[\w]-)\s?$", before) or following == "-"
    return "label" if named else "number"


def _value(match: re.Match[str]) -> tuple[Decimal, Decimal]:
    """Return the value of a number and the worth of its last digit."""
    if match["word"]:
        tens, _, ones = match["word"].lower().partition("-")
        value, places = Decimal(_WORTH.get(tens, 1) + (_WORTH[ones] if ones else 0)), 0
    else:
        digits = match["digits"].replace(",", "") + (match["comma"] or "").replace(",", ".")
        value, places = Decimal(digits), len(digits.partition(".")[2])
    exponent = int(match["exponent"] or 0) + int(match["times"] or 0)
    exponent += _MAGNITUDES.get(match["magnitude"] or match["short"] or "", 0)
    if match["power"] and value == 10:
        value, exponent = Decimal(1), exponent + int(match["power"])
    scale = Decimal(10) ** exponent
    return (-value if match["sign"] else value) * scale, Decimal(10) ** -places * scale


def _unit(match: re.Match[str], text: str) -> tuple[str, int, int, frozenset[str]]:
    """Return the base unit, the power of ten to it, where it ends, and what stands between."""
    end, none = match.end(), frozenset[str]()
    if match["money"]:
        return match["money"].strip(), 0, end, none
    if unit := _UNIT.match(text, end):
        names, factor = [], 0
        divided = False
        for part in _EACH.finditer(unit[0]):
            divided = divided or "/" in unit[0][: part.start()]
            power = int(part[2] or 1) * (-1 if divided else 1)
            base, prefix = _base((part[1] or part[3]).replace(" ", ""))
            factor += prefix * power
            names.append(base if power == 1 else f"{base}^{power}")
        return " ".join(names), factor, unit.end(), none
    if (unit := _LONG.match(text, end)) or (unit := re.compile("(%)").match(text, end)):
        return (*_long_unit(unit), unit.end(), none)
    noun, stop, between = _counted(text, end)
    return (f"#{noun}" if noun else "", 0, stop, between)


def _base(symbol: str) -> tuple[str, int]:
    if symbol in ("Å", "°C", "°F", "dB", "m", "g", "mol", "bar", "Pa", "T", "min"):
        return symbol, 0
    for known in ("eV", "Pa", "Hz", "Wh", "bar", "mol", *"gsJWVATKNLBCFHΩm"):
        prefix = symbol.removesuffix(known)
        if symbol.endswith(known) and prefix in _PREFIXES:
            return known, _PREFIXES[prefix]
    return symbol, 0


def _long_unit(unit: re.Match[str]) -> tuple[str, int]:
    word = unit[0].strip(" -").lower()
    if word == "%" or word.startswith("per"):
        return "%", 0
    if word in _ABBREVIATED:
        return _ABBREVIATED[word], 3 if word[0] == "k" else 0
    if word.startswith("degree"):
        scale = word.split()[-1][0]
        return ("°" if word in ("degree", "degrees") else "°" + scale.upper()), 0
    if "dollar" in word or "usd" in word:
        return "$", 0
    if word.startswith("eur"):
        return "€", 0
    return _LONG_BASES[unit[2][:3].lower()], _LONG_PREFIXES.get((unit[1] or "").lower(), 0)


def _counted(text: str, end: int) -> tuple[str, int, frozenset[str]]:
    """Return the stem of the plural that a number counts, its end, and the stems between."""
    between: list[str] = []
    position = end
    for _ in range(4):
        match = _NOUN.match(text, position)
        if match is None or match[1].lower() in _NO_COUNT or match[1].endswith("ly"):
            break
        word, position = match[1].lower(), match.end()
        hyphen = match[0][0] == "-"
        if hyphen and word.startswith("year"):
            return "year", position, frozenset(between)
        plural = word.endswith("s") and not word.endswith(("ss", "us", "'s", "is"))
        if plural or word in _PLURALS:
            return stem(word), position, frozenset(between)
        if word.endswith("ed"):
            break
        between.append(stem(word))
    return "", end, frozenset()


def _next_noun(text: str, end: int) -> tuple[str, int]:
    match = _NOUN.match(text, end)
    if match is None or match[1].lower() in _NO_COUNT:
        return "", end
    return stem(match[1]), match.end()


def _decade(match: re.Match[str]) -> Quantity:
    low = Decimal(match["digits"])
    low = low + 1900 if low < 100 else low
    return Quantity(low, low + 9, "year", "year", Decimal(0), *match.span(), match[0])


def _century(number: Decimal, start: int, end: int, text: str) -> Quantity:
    low = 100 * (number - 1)
    return Quantity(low, low + 100, "year", "year", Decimal(0), start, end, text[start:end])


def _bounded(quantity: Quantity, before: str, text: str) -> Quantity:
    """Return a quantity with what the words before and after it say of its bounds."""
    after = text[quantity.end : quantity.end + 12]
    if quantity.kind == "year" and (match := _BEFORE.search(before)):
        if match[1].lower() in ("before", "prior to"):
            return replace(quantity, low=-_INFINITE)
        return replace(quantity, high=_INFINITE)
    if _LEAST.search(before) or re.match(r"\+| or (?:more|older|higher|later)", after):
        return replace(quantity, high=_INFINITE)
    if _MOST.search(before) or re.match(r" or (?:less|fewer|younger|lower)", after):
        return replace(quantity, low=-_INFINITE)
    return replace(quantity, about=bool(_ABOUT.search(before)))


def _joined(found: list[Quantity], text: str) -> list[Quantity]:
    """Join ranges and errors, and give the unit of a list to each of its members."""
    for i in range(len(found) - 2, -1, -1):
        here, after = found[i : i + 2]
        gap = text[here.end : after.start]
        listed = re.fullmatch(r"\s?(?:-|,|,? and|,? or|to|±|\+/-|,? versus|vs\.?)\s?", gap)
        if listed and not here.unit and after.unit and after.kind == "number":
            scale = after.scale
            found[i] = replace(
                here,
                low=here.low * scale,
                high=here.high * scale,
                step=here.step * scale,
                unit=after.unit,
                kind="number",
                of=after.of,
                scale=scale,
            )
    joined: list[Quantity] = []
    skip = False
    for i, here in enumerate(found):
        if skip:
            skip = False
            continue
        both = _range(here, found[i + 1], text) if i + 1 < len(found) else None
        skip = both is not None
        joined.append(both or here)
    return joined


def _range(here: Quantity, after: Quantity, text: str) -> Quantity | None:
    """Return "1.1-1.2 eV", "between 1.1 and 1.2 eV" or "1.1 ± 0.1 eV" as one quantity."""
    gap = text[here.end : after.start].strip()
    before = text[max(0, here.start - 9) : here.start].lower()
    both = text[here.start : after.end]
    same = here.unit == after.unit and here.point and after.point
    if not same or "label" in (here.kind, after.kind):
        return None
    if gap in ("±", "+/-"):
        return replace(
            here,
            low=here.low - after.low,
            high=here.high + after.low,
            end=after.end,
            text=both,
            step=here.step,
        )
    worded = (gap == "and" and before.endswith("between ")) or (gap == "to" and here.kind != "year")
    if (gap == "-" or worded) and here.low < after.low:
        return replace(here, high=after.high, end=after.end, text=both, of=after.of)
    return None
