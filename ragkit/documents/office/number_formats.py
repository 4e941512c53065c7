"""Write the numbers of a workbook as a reader of the sheet sees them."""

from __future__ import annotations

import datetime
import re
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple

BUILT_IN = {
    **{1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00"},
    **{5: '"$"#,##0;("$"#,##0)', 6: '"$"#,##0;("$"#,##0)', 12: "# ?/?", 13: "# ??/??"},
    **{7: '"$"#,##0.00;("$"#,##0.00)', 8: '"$"#,##0.00;("$"#,##0.00)'},
    **dict.fromkeys((14, 15, 16, 17, *range(27, 32), 36, *range(50, 59)), "yyyy-mm-dd"),
    **dict.fromkeys((18, 19, 20, 21, 32, 33, 34, 35), "h:mm:ss"),
    **{22: "yyyy-mm-dd h:mm", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0"},
    **dict.fromkeys((37, 38, 41), "#,##0;(#,##0)"),
    **dict.fromkeys((39, 40, 43), "#,##0.00;(#,##0.00)"),
    **{42: '"$"#,##0;("$"#,##0)', 44: '"$"#,##0.00;("$"#,##0.00)', 49: "@"},
}
"""Number formats that a workbook does not spell out, by their number."""

_ALL_DIGITS = "general"
_GENERAL = frozenset({_ALL_DIGITS, "standard", "@"})
_PRECISION = Context(prec=15)  # digits that Excel keeps
_PLAIN = re.compile(r"0|-?[1-9]\d*|-?(?:0|[1-9]\d*)\.\d*[1-9]", re.ASCII)  # shown as it is
_MAX_PLAIN = 15
_MAX_FORMAT = 1_000
_TOKEN = re.compile(r'"([^"]*)"?|\\(.)|_(.)|\*(.)|\[([^\]]*)\]|([0#?.,]+(?:E[+-]0+)?)|(.)', re.S)
_CURRENCY = re.compile(r"\$([^-]*)")
_ELAPSED = re.compile("h+|m+|s+")
_CONDITION = re.compile("[<>=]")
_SECONDS_A_DAY = 86_400
_LAST_DAY = 2_958_465  # 9999-12-31
_DAYS_1904 = 1_462  # from the start of the 1900 system to that of the other one


class _Section(NamedTuple):
    """One part of a number format.

    Attributes:
        before: Text before the number.
        pattern: Digits of the number; empty if it is not shown.
        after: Text after the number.
        letters: Letters of dates and times, in lower case.
        is_simple: Whether this module can write numbers in it.
    """

    before: str = ""
    pattern: str = ""
    after: str = ""
    letters: str = ""
    is_simple: bool = True


def format_value(text: str, code: str, *, is_1904: bool = False) -> str:
    """Write a stored number in a number format; dates and times in ISO 8601.

    A number whose format is not supported, such as fractions, has all its digits.

    Args:
        text: Number as it is stored.
        code: Number format, such as "0.00%".
        is_1904: Whether days are counted from 1904.

    >>> [format_value("0.1234", code) for code in ["General", "0%", "0.0", "# ?/?"]]
    ['0.1234', '12%', '0.1', '0.1234']
    >>> format_value("45292.5", "dd.mm.yy"), format_value("-1234.5", '#,##0.00 "€";(#,##0.00 "€")')
    ('2024-01-01', '(1,234.50 €)')
    """
    if code == "General" and len(text) <= _MAX_PLAIN and _PLAIN.fullmatch(text):
        return text
    try:
        number = _PRECISION.create_decimal(text)
        if not number.is_finite() or abs(number.adjusted()) > 300:
            return text
        return _format(number, code, is_1904)
    except (ArithmeticError, InvalidOperation, ValueError):
        return text


def _format(number: Decimal, code: str, is_1904: bool) -> str:
    sections = _sections(code[:_MAX_FORMAT])
    if not sections:
        return _exact(number)
    index = 1 if number < 0 and len(sections) > 1 else 0
    if number == 0 and len(sections) > 2:
        index = 2
    section = sections[index]
    if section.letters:
        return _date(number, section.letters, is_1904) or _exact(number)
    if not section.pattern:
        return " ".join((section.before + section.after).split())
    sign = "-" if number < 0 and index == 0 else ""
    digits = (
        _digits(abs(number), section) if section.pattern != _ALL_DIGITS else _exact(abs(number))
    )
    if digits is None:
        return _exact(number)
    if not digits.strip("0.,"):
        sign = ""  # rounded to zero
    return " ".join(f"{sign}{section.before}{digits}{section.after}".split())


def _exact(number: Decimal) -> str:
    """Write all digits of a number.

    >>> [_exact(Decimal(text)) for text in ["1.50", "1E+3", "1E-12"]]
    ['1.5', '1000', '1E-12']
    """
    number = number.normalize(_PRECISION)
    return format(number, "f") if -10 <= number.adjusted() < 21 else format(number, "E")


@lru_cache(maxsize=1_000)
def _sections(code: str) -> tuple[_Section, ...]:
    """Return the parts of a format for positive numbers, negative ones, zero and text.

    There are none if the format is not supported.
    """
    parts: list[list[tuple[str, ...]]] = [[]]
    for token in _TOKEN.findall(code):
        if token[-1] == ";":
            parts.append([])
        else:
            parts[-1].append(token)
    sections = tuple(map(_parse_section, parts[:4]))
    return sections if all(section.is_simple for section in sections) else ()


def _parse_section(tokens: list[tuple[str, ...]]) -> _Section:
    texts: list[str] = [""]
    patterns: list[str] = []
    letters = ""
    is_simple = True
    word = "".join(token[-1] for token in tokens).strip()
    if word.lower() in _GENERAL:
        start = next(index for index, token in enumerate(tokens) if token[-1].strip())
        digits = ("", "", "", "", "", _ALL_DIGITS, "")
        after = [token for token in tokens[start:] if not token[-1].strip()]
        tokens = [*tokens[:start], digits, *after]
    for quoted, escaped, space, _fill, bracket, pattern, char in tokens:
        if bracket:
            currency = _CURRENCY.match(bracket)
            texts[-1] += currency[1] if currency else ""
            letters += f"[{bracket.lower()}]" if _ELAPSED.fullmatch(bracket.lower()) else ""
            is_simple = is_simple and not _CONDITION.match(bracket)
        elif pattern and not (letters and pattern.strip("0.,") == ""):
            patterns.append(pattern)
            texts.append("")
        elif char.isalpha() and char not in "eE":
            letters += char.lower()
        else:
            texts[-1] += quoted or escaped or char or " " * len(space)
    letters = letters if set(letters) & set("ymdhs") else ""
    is_simple = is_simple and (bool(letters) or len(patterns) < 2)
    return _Section(texts[0], "".join(patterns), "".join(texts[1:]), letters, is_simple)


def _digits(number: Decimal, section: _Section) -> str | None:
    """Write the digits of a number without its sign; None if the pattern is not supported."""
    pattern, _, exponent = section.pattern.partition("E")
    whole, _, decimals = pattern.partition(".")
    n_percents = (section.before + section.after).count("%")
    number = number.scaleb(2 * n_percents)
    if exponent:
        if whole not in {"0", "#"}:
            return None
        mantissa, _, power = f"{number:.{len(decimals)}E}".partition("E")
        return f"{mantissa}E{power[0]}{power[1:].zfill(len(exponent) - 1)}"
    scales = (part[len(part.rstrip(",")) :] for part in (whole, decimals))
    number = number.scaleb(-3 * len("".join(scales)))
    n_decimals = len(decimals.rstrip(","))
    number = number.quantize(Decimal(1).scaleb(-n_decimals), ROUND_HALF_UP, Context(prec=400))
    text = format(number, ",f" if "," in whole.strip(",") else "f")
    head, _, tail = text.partition(".")
    n_fixed = len(decimals.rstrip("#?,"))
    tail = tail[:n_fixed] + tail[n_fixed:].rstrip("0")
    head = head.zfill(whole.count("0")) if "," not in head else head
    if head == "0" and "0" not in whole:
        head = ""
    return f"{head}.{tail}" if tail else head


def _date(serial: Decimal, letters: str, is_1904: bool) -> str:
    """Write a day or a time in ISO 8601; an empty string if there is no such day."""
    if "[" in letters:
        seconds = round(float(serial) * _SECONDS_A_DAY)
        hours, rest = divmod(abs(seconds), 3600)
        return f"{'-' if seconds < 0 else ''}{hours}:{rest // 60:02d}:{rest % 60:02d}"
    if not 0 <= serial < _LAST_DAY + 1:
        return ""
    days = int(serial)
    moment = datetime.datetime(1900, 1, 1) + datetime.timedelta(
        milliseconds=round(float(serial - days) * _SECONDS_A_DAY * 1000)
    )
    if is_1904:
        days += _DAYS_1904
    has_time = bool(set(letters) & set("hs"))
    has_day = bool(set(letters) & set("yd")) or not has_time
    if has_day and days == 60:
        return "1900-02-29"  # the day that the calendar of the first such program has too many
    if has_day and days < 1 and not has_time:
        return ""
    if has_day and days >= 1:
        moment += datetime.timedelta(days=days - (1 if days < 60 else 2))
    time = moment.time().isoformat("auto").rstrip("0") if moment.microsecond else ""
    time = time or moment.time().isoformat("seconds" if moment.second or not has_day else "minutes")
    parts = [moment.date().isoformat()] * (has_day and days >= 1) + [time] * has_time
    return " ".join(parts)
