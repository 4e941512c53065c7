"""Names of character encodings, and the guess of an encoding that is not declared.

Labels mean what they mean on the web (WHATWG Encoding Standard): "iso-8859-1" is windows-1252.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from functools import lru_cache

import webencodings

# Python's codecs that contain the encodings of the standard with their vendors' extensions.
_CODECS = {
    "gbk": "gb18030",
    "euc-jp": "euc_jis_2004",
    "iso-8859-8-i": "iso8859_8",
    "x-user-defined": "cp1252",
}
_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "utf-7"})  # and the "…escape" codecs
_SAMPLE_BYTES = 2048  # of words with bytes beyond ASCII
_HANDICAP = 0.05  # of codecs that few files have
_LEGACY = re.compile(rb"[\x80-\xff]\S{0,2048}")
_WORD_START = re.compile(rb"\S{0,32}\Z")

_WESTERN = (
    "äöüßé àâæçèéêëîïôœùûüÿ áéíñóúüºª àèéìíîòóùú ãâáàçéêíóôõúüºª åäöéæø áðéíóúýþæö ëéïóüèöäç "
    "çéèíïòóúüàŀ åæøéèêòóô äöåšž ëç"
).split()
_CENTRAL = ("ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîșțşţ čćđšž ëç äöüßé").split()
_TURKISH = ["çğıöşüâîû"]
_DOTTED = frozenset(_TURKISH[0])  # the lower case of its letter İ begins with i
_BALTIC = "ąčęėįšųūž āčēģīķļņšūž äõöüšž".split()
_CYRILLIC = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюяё абвгґдеєжзиіїйклмнопрстуфхцчшщьюя "
    "абвгдеёжзійклмнопрстуўфхцчшыьэюя абвгдђежзијклљмнњопрстћуфхцчџш"
).split()
_GREEK = ["αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ"]
_HEBREW = ["אבגדהוזחטיךכלםמןנסעףפץצקרשת"]
_ARABIC = ["ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژگ"]
_THAI = ["กขคฆงจฉชซญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮฤะาำเแโใไๅๆฯัิีึืุู็่้๊๋์"]
# Codecs in the order of preference among equals, with the letters of their languages.
_ONE_BYTE = {
    "cp1252": _WESTERN,
    "cp1250": _CENTRAL,
    "iso8859_2": _CENTRAL,
    "cp1251": _CYRILLIC,
    "koi8_r": _CYRILLIC[:1],
    "koi8_u": _CYRILLIC[1:2],
    "iso8859_5": _CYRILLIC,
    "cp866": _CYRILLIC[:1],
    "cp1253": _GREEK,
    "iso8859_7": _GREEK,
    "cp1254": _TURKISH,
    "cp1255": _HEBREW,
    "cp1256": _ARABIC,
    "iso8859_6": _ARABIC,
    "cp1257": _BALTIC,
    "cp874": _THAI,
    "cp850": _WESTERN,
    "mac_roman": _WESTERN,
    "cp852": _CENTRAL,
}
_UNUSUAL = frozenset({"iso8859_5", "iso8859_6", "mac_roman", "cp850", "cp852"})
_RARE_LETTERS = frozenset("фцщъэюёхшџђћљњґўβζξψϋΐΰϊφχזטסצגךףץظغذضثخؤئآپچژگฆฌฎฏฐฑฒฬฮฤๆฯ๋")
# The most frequent letters or characters of a script.
_FREQUENT = frozenset(
    "оеаинтсрвлкмαοιετσνηυρπκςυהוילאמרתבשنايلمورتبعدانرอกเยมลวสงดท่้ิ์ั"
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后"
    "作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因"
    "只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应"
    "這個們來為國說時會對發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問應過"
    "이다는의에을가고하지를한은로사기도시자어인리대나과서수일해그부스전들정보아게라구상주제성동비으"
)
_QUOTES = "\u2018\u2019\u201a\u201c\u201d\u201e\u2039\u203a«»"
_PUNCTUATION = frozenset(f"{_QUOTES}…\u2013—•·€£©®™°±²³µ\xd7½¼¾§¡¿№\xa0")
_OPENING = frozenset("\u201c\u201e\u2018\u201a«\u2039")
_CLOSING = frozenset("\u201d\u2019»\u203a…")
_INSIDE_WORDS = frozenset("\u2019\u2013—·\xa0")
# Codecs with several bytes per character: a codec for their common characters, and the first and
# last lead byte of these.
_EAST_ASIAN = {
    "cp932": ("euc_jp", 0xB0, 0xCF),
    "gb18030": ("gb2312", 0xB0, 0xD7),
    "big5hkscs": ("big5", 0xA4, 0xC6),
    "cp949": ("euc_kr", 0xB0, 0xC8),
    "euc_jis_2004": ("euc_jp", 0xB0, 0xCF),
}
_JAPANESE = frozenset({"cp932", "euc_jis_2004"})


@lru_cache(maxsize=1_000)
def find_codec(label: str) -> str:
    """Return the name of Python's codec for the label of an encoding, or an empty string.

    >>> [find_codec(label) for label in ("ISO-8859-1", "gb2312", "tis-620", "cp437", "rot13")]
    ['cp1252', 'gb18030', 'cp874', 'cp437', '']
    """
    label = label.strip()
    if not label.isascii():
        return ""
    encoding = webencodings.lookup(label)
    if encoding is not None and encoding.name != "replacement":
        return str(_CODECS.get(encoding.name, encoding.codec_info.name))
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return ""
    is_charset = getattr(info, "_is_text_encoding", True) and not info.name.endswith("escape")
    return info.name if is_charset and info.name not in _NO_CHARSETS else ""


def check_encoding(label: str) -> None:
    """Raise ValueError if a label that a user gave is not empty and names no encoding."""
    if label and not find_codec(label):
        raise ValueError(
            f"encoding is {label!r}; expected the name of a character encoding, such as "
            "windows-1252, windows-1251, shift_jis, gb18030 or utf-16"
        )


def guess_utf16(data: bytes) -> str:
    """Return "utf-16-le" or "utf-16-be" if data without a byte order mark look like it, else "".

    The text must contain ASCII characters, whose other byte is 0, and only assigned characters;
    few of the others may be two ASCII characters, as in ASCII text with a few NUL bytes.
    """
    head = data[:4096]
    n_even, n_odd = head[::2].count(0), head[1::2].count(0)
    pairs = list(zip(head[::2], head[1::2], strict=False))
    n_ascii_pairs = sum(1 for a, b in pairs if 32 <= a < 127 and 32 <= b < 127)
    is_mixed = 2 * n_ascii_pairs > len(pairs) - n_even - n_odd
    if len(data) % 2 or bool(n_even) == bool(n_odd) or is_mixed:
        return ""
    codec = "utf-16-be" if n_even else "utf-16-le"
    text = codecs.getincrementaldecoder(codec)("replace").decode(head)
    allowed = "\t\n\r\f"
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cn", "Co", "Cs"} and char not in allowed:
            return ""
    return "" if "\ufffd" in text else codec


def guess_codec(data: bytes) -> str:
    """Guess the encoding of text that is not UTF-8, from its words with bytes beyond ASCII.

    Each candidate decodes a sample; its score is the mean over the characters beyond ASCII of
    how plausible they are: a letter of one language in the right case and next to letters of its
    own script, a frequent or at least common ideograph, a quotation mark outside a word.
    """
    sample = _sample(data)
    scores = {
        codec: _score(sample, codec) - (_HANDICAP if codec in _UNUSUAL else 0.0)
        for codec in (*_ONE_BYTE, *_EAST_ASIAN)
    }
    best = max(scores.values())
    return next(codec for codec, score in scores.items() if score >= best)


def _sample(data: bytes) -> bytes:
    """Return the first words with bytes beyond ASCII."""
    parts: list[bytes] = []
    n_bytes = position = 0
    while n_bytes < _SAMPLE_BYTES and (match := _LEGACY.search(data, position)):
        start = match.start()
        before = _WORD_START.search(data[max(position, start - 32) : start])
        parts.append((before[0] if before else b"") + match[0])
        n_bytes += len(match[0])
        position = match.end()
    return b" ".join(parts)


def _score(sample: bytes, codec: str) -> float:
    # The sample may end inside a character.
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
    if codec in _EAST_ASIAN:
        chars = Counter(char for char in text if char > "\x7f")
        points = sum(n * _ideograph_score(char, codec) for char, n in chars.items())
        return points / max(1, chars.total())
    letters, fixed, n_fixed = _survey(text)
    n_chars = letters.total() + n_fixed
    best = max(
        sum(n * _letter_score(*letter, alphabet) for letter, n in letters.items())
        for alphabet in map(frozenset, _ONE_BYTE[codec])
    )
    return (best + fixed) / max(1, n_chars)


def _survey(text: str) -> tuple[Counter[tuple[str, bool, bool]], float, int]:
    """Count the letters beyond ASCII of a text; return also the sum and number of other scores.

    A letter is counted in lower case, with two flags: whether it is upper case, and whether it is
    next to an ASCII letter.
    """
    letters: Counter[tuple[str, bool, bool]] = Counter()
    score, n_others = 0.0, 0
    padded = f" {text} "
    for before, char, after in zip(padded, padded[1:], padded[2:], strict=False):
        if char <= "\x7f":
            continue
        if char.isalpha() or unicodedata.category(char) == "Mn":
            is_upper = char.isupper()
            if is_upper and before.islower():
                score, n_others = score - 1, n_others + 1
                continue
            is_mixed = _is_ascii_letter(before) or _is_ascii_letter(after)
            letters[char.lower()[0], is_upper, is_mixed] += 1
        else:
            score, n_others = score + _mark_score(before, char, after), n_others + 1
    return letters, score, n_others


def _mark_score(before: str, char: str, after: str) -> float:
    """Return how plausible a character between two others is, which is no letter."""
    if before.isalpha() and after.isalpha():
        return (1.0 if char == "\u2019" else 0.9) if char in _INSIDE_WORDS else -1.0
    opens = char in _OPENING and not before.isalnum() and after.isalnum()
    closes = char in _CLOSING and before.isalnum() and not after.isalnum()
    return 1.0 if opens or closes else 0.9 if char in _PUNCTUATION else -1.0


def _letter_score(letter: str, is_upper: bool, is_mixed: bool, alphabet: frozenset[str]) -> float:
    if letter not in alphabet and not (letter == "i" and alphabet == _DOTTED):
        return -1.0
    if unicodedata.name(letter, "").startswith("LATIN"):
        return 1.0
    if is_mixed:
        return -1.0
    weight = 1.0 if letter in _FREQUENT else 0.2 if letter in _RARE_LETTERS else 0.6
    return weight * (0.95 if is_upper else 1.0)


def _is_ascii_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


@lru_cache(maxsize=10_000)
def _ideograph_score(char: str, codec: str) -> float:
    if "\u3041" <= char <= "\u30fe":  # kana
        return 1.0 if codec in _JAPANESE else -1.0
    is_wide = "\u3000" <= char <= "\u3020" or "\uff01" <= char <= "\uff5e"
    if is_wide or char in _QUOTES or char in "…—·":
        return 0.9
    if char in _FREQUENT and codec not in _JAPANESE:
        return 1.0
    common, first, last = _EAST_ASIAN[codec]
    try:
        encoded = char.encode(common)
    except UnicodeEncodeError:
        return -1.0
    return 0.8 if len(encoded) == 2 and first <= encoded[0] <= last else -1.0
