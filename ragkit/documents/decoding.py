"""Decode the bytes of a text file: which encoding, and what was wrong with it."""

from __future__ import annotations

import codecs
import re

from ragkit.documents.encodings import find_codec, guess_codec, guess_utf16
from ragkit.types import Loss

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"GIF8",
    b"\x1f\x8b",
    b"\xd0\xcf\x11\xe0",
    b"\x7fELF",
)
_WIDE = ("utf-16", "utf-32")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))
_JAPANESE_ESCAPE = re.compile(rb"\x1b(?:\$[@B]|\([IJ])")
# One byte that is not UTF-8, between characters of Latin text.
_LONE_BYTE = re.compile(
    "(?<![^\\x00-\u024f\u2000-\u206f])[\udc80-\udcff](?![^\\x00-\u024f\u2000-\u206f])"
)
_C1 = re.compile("[\x80-\x9f]")
_C1_AS_WINDOWS = {code: bytes([code]).decode("cp1252", "replace") for code in range(0x80, 0xA0)}
_MAX_SEARCHED = 1_000_000  # characters that are searched for text encoded twice
_UNSURE = "certainty about characters beyond ASCII"
_REPLACED = "the bytes shown as U+FFFD"


def is_binary(data: bytes, encoding: str = "") -> bool:
    """Return True if bytes have a binary signature, an early NUL or many control characters.

    Args:
        data: Content of the file.
        encoding: Encoding given by the user, if any; in UTF-16 and UTF-32, NUL bytes are common.
    """
    if data.startswith(_MAGIC):
        return True
    if _bom_codec(data) or find_codec(encoding).startswith(_WIDE) or guess_utf16(data):
        return False
    head = data[:65536]
    n_controls = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" in head[:8192] or n_controls > len(head) // 10


def decode_bytes(
    data: bytes, name: str, *, declared: str = "", encoding: str = ""
) -> tuple[str, tuple[Loss, ...]]:
    """Decode text; report a loss if the encoding was guessed or does not fit.

    The encoding is that of the byte order mark, else `declared`, else UTF-8 if the bytes are, else
    `encoding`, else a guess. Bytes that are UTF-8 are read as such although another encoding with
    one byte per character is declared.

    Args:
        data: Content of the file.
        name: Id of the file, for the losses.
        declared: Label of the encoding declared in the file.
        encoding: Label of the encoding given by the user.
    """
    losses: list[Loss] = []

    def report(lost: str, why: str) -> None:
        losses.append(Loss("documents", name, lost, f"{len(text)} characters", why))

    codec = _bom_codec(data)
    why = ""
    if not codec:
        codec, why = _choose(data, declared, find_codec(encoding))
    text, mixture = _decode(data, codec, find_codec(encoding))
    if why:
        report(_UNSURE, why)
    if mixture:
        report("certainty about them", mixture)
    if "\ufffd" in text and not _fits(data, codec):
        report(_REPLACED, f"some bytes are not {codec}; save it as UTF-8")
    if example := _find_mojibake(text[:_MAX_SEARCHED]):
        why = f"{example!r} looks like UTF-8 that was read in another encoding and saved again"
        report(f"{_UNSURE}, possibly", f"{why}; if so, repair the file")
    elif _C1.search(text):
        n_controls = sum(map(text.count, map(chr, _C1_AS_WINDOWS)))
        text = text.translate(_C1_AS_WINDOWS)
        why = f"{n_controls} control characters (U+0080 to U+009F) were read as windows-1252"
        report("certainty about them", f"{why}, a guess; save it as UTF-8")
    return text, tuple(losses)


def _bom_codec(data: bytes) -> str:
    return next((name for mark, name in _BOMS if data.startswith(mark)), "")


def _choose(data: bytes, declared: str, given: str) -> tuple[str, str]:
    """Return the codec of data without a byte order mark, and why it is a guess, if it is one."""
    codec = find_codec(declared)
    is_utf8 = _fits(data, "utf-8")
    if codec and codec != "utf-8":
        if is_utf8 and not data.isascii() and _has_one_byte(codec):
            return "utf-8", f"it declares {declared[:40]!r}, but its bytes are UTF-8"
        return codec, ""
    why = f"it declares the unknown encoding {declared[:40]!r}" if declared and not codec else ""
    if is_utf8 and not data.isascii() and b"\0" not in data:
        return "utf-8", why
    is_mostly_utf8 = _is_mostly_utf8(data)
    if given and not is_mostly_utf8:
        return given, ""
    if not codec and (wide := guess_utf16(data)):
        return wide, f"it has no byte order mark and was read as {wide}, a guess"
    if _JAPANESE_ESCAPE.search(data) and _fits(data, "iso2022_jp"):
        return "iso2022_jp", "it was read as iso2022_jp, a guess; save it as UTF-8 to be sure"
    if is_utf8 or is_mostly_utf8:
        return "utf-8", why
    codec = guess_codec(data)
    return codec, (
        f"it is not UTF-8 and was read as {codec}, a guess; save it as UTF-8 to be sure, or name "
        "its encoding (--encoding)"
    )


def _decode(data: bytes, codec: str, given: str) -> tuple[str, str]:
    """Return the text, and what single bytes in UTF-8 were read as, in words."""
    if codec != "utf-8":
        return data.decode(codec, "replace"), ""
    text = data.decode("utf-8", "surrogateescape")
    legacy = given if given and _has_one_byte(given) else "cp1252"
    text, n_bytes = _LONE_BYTE.subn(
        lambda match: _bytes_of(match[0]).decode(legacy, "replace"), text
    )
    text = _bytes_of(text).decode("utf-8", "replace")
    if not n_bytes:
        return text, ""
    return text, f"bytes that are not UTF-8 ({n_bytes}) were read as {legacy}, a guess"


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _fits(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeError:
        return False
    return True


def _has_one_byte(codec: str) -> bool:
    """Return True if an encoding has one byte per character."""
    try:
        return len(bytes(range(256)).decode(codec, "replace")) == 256
    except UnicodeError:
        return False


def _is_mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    n_wrong = text.count("\ufffd")
    n_right = sum(1 for char in text if char > "\x7f") - n_wrong
    return n_right > 2 * n_wrong


def _chars(codec: str, first: int, last: int) -> str:
    """Return the characters of a range of bytes, escaped for a regular expression's class."""
    data = bytes(range(first, last + 1))
    # Latin-1 characters, too: other programs map the gaps of the code page to control characters.
    chars = data.decode(codec, "ignore") + (data.decode("latin-1") if codec == "cp1252" else "")
    return re.escape("".join(sorted(set(chars))))


def _mojibake_pattern(codec: str) -> str:
    """Return the pattern of UTF-8 read in a one-byte encoding: several characters in a row."""
    after = f"[{_chars(codec, 0x80, 0xBF)}]"
    two, three = (
        f"[{_chars(codec, 0xC2, 0xDF)}]{after}",
        f"[{_chars(codec, 0xE1, 0xEF)}]{after}{{2}}",
    )
    return f"(?:{two}){{3,}}|(?:{three}){{2,}}"


_AFTER = f"[{_chars('cp1252', 0x80, 0xBF)}]"
# In Western text one character is enough, such as "Ã©", but not in "MANHÃ" before a quotation mark.
_MOJIBAKE = re.compile(
    f"(?<![A-Z])[ÂÃ]{_AFTER}|[ÂÃ](?![\u2019\u201d»\u203a…\u2013—\xa0]){_AFTER}|â[\x80-\x84€\u201aƒ„]{_AFTER}"
    f"|ð[Ÿ\x9f]{_AFTER}{{2}}|{_mojibake_pattern('cp1252')}|{_mojibake_pattern('cp1251')}"
)


def _find_mojibake(text: str) -> str:
    """Return the first piece of a text that looks like UTF-8 that was encoded twice."""
    if text.isascii():
        return ""
    match = _MOJIBAKE.search(text)
    return match[0][:40] if match else ""
