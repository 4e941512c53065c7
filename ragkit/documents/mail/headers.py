"""Decode the headers of an e-mail."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

from ragkit.documents.losses import LossList
from ragkit.documents.text import clean, decode

_MAX_HEADER = 100_000  # characters
_MAX_PARAMETERS = 5_000  # characters of a header whose parameters Python parses in quadratic time
_FOLD = re.compile(r"\r?\n(?=[ \t])")
# RFC 2047: =?charset*language?encoding?text?=
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,60})?\?([bBqQ])\?([^?]*)\?=")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


def read_header(message: Message, header: str, losses: LossList, name: str) -> str:
    """Return the decoded values of a header, joined by commas; an empty string if it is missing."""
    values = [str(value) for key, value in message.raw_items() if key.lower() == header]
    raw = ", ".join(values)
    if len(raw) > _MAX_HEADER:
        why = f"a header of {len(raw)} characters"
        lost, kept = f"the rest of the header {header}", f"{_MAX_HEADER} characters"
        losses.report(name, why, lost=lost, kept=kept)
        raw = raw[:_MAX_HEADER]
    return decode_words(raw, losses, f"{name}: header {header}")


def decode_words(raw: str, losses: LossList, what: str) -> str:
    """Decode the encoded words of a header's value, and its bytes beyond ASCII.

    Args:
        raw: Value with bytes beyond ASCII as surrogate escapes, as `email` returns it.
        losses: List for the losses.
        what: Description of the header, for the losses.
    """
    raw = _FOLD.sub("", raw)
    if not raw.isascii():
        raw, decoding_losses = decode(raw.encode("utf-8", "surrogateescape"), what)
        losses.add_all(decoding_losses)
    parts = []
    for text, charset in _pieces(raw, losses, what):
        if isinstance(text, bytes):
            text, decoding_losses = decode(text, what, declared=declared_charset(charset))
            losses.add_all(decoding_losses)
        parts.append(text)
    return " ".join(clean("".join(parts)).split())


def _pieces(raw: str, losses: LossList, what: str) -> Iterator[tuple[str | bytes, str]]:
    """Yield texts, and bytes with their charset; a character may span adjacent encoded words."""
    position = 0
    pending, pending_charset = b"", ""
    for match in _ENCODED_WORD.finditer(raw):
        between = raw[position : match.start()]
        charset = match[1].lower()
        if pending and (between.strip() or charset != pending_charset):
            yield pending, pending_charset
            pending = b""
        if between.strip() or not position:
            yield between, ""
        try:
            pending += _word_bytes(match[2], match[3])
        except (binascii.Error, ValueError):
            losses.report(what, "an encoded word is damaged", lost="it", kept="its code")
            pending += match[0].encode()
        pending_charset = charset
        position = match.end()
    if pending:
        yield pending, pending_charset
    yield raw[position:], ""


def _word_bytes(encoding: str, text: str) -> bytes:
    data = text.encode()
    if encoding in "bB":
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    return _HEX.sub(lambda match: bytes.fromhex(match[1].decode()), data.replace(b"_", b" "))


def declared_charset(label: str | None) -> str:
    """Return the label of a charset, or an empty string for ASCII, which declares nothing.

    >>> [declared_charset(label) for label in ("us-ascii", "ISO-8859-1", None)]
    ['', 'ISO-8859-1', '']
    """
    label = (label or "").strip()
    return "" if label.lower() in {"ascii", "us-ascii", "ansi_x3.4-1968", "8bit"} else label


def shorten_parameters(part: Message, losses: LossList, name: str) -> None:
    """Cut the headers of a part whose parameters would take too long to parse."""
    for header in ("content-type", "content-disposition", "content-transfer-encoding"):
        value = str(part.get(header, ""))
        if len(value) > _MAX_PARAMETERS:
            part.replace_header(header, value[:_MAX_PARAMETERS])
            why = f"a header of {len(value)} characters"
            kept = f"{_MAX_PARAMETERS} characters"
            losses.report(name, why, lost=f"the rest of the header {header}", kept=kept)


def read_date(text: str, losses: LossList, name: str) -> str:
    """Return a date as ISO 8601 in UTC, such as "2024-03-05T14:07:00Z", which sorts by time.

    A date that cannot be parsed stays as it is, with a loss. One without a zone is taken as UTC.
    """
    try:
        moment = parsedate_to_datetime(text[:200])
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError):
        try:
            moment = datetime.fromisoformat(text[:40])
        except ValueError:
            why = f"the date {text[:60]!r} is not in the form of e-mails"
            losses.report(name, why, lost="the order by date", kept="the date as text")
            return text
    if moment.tzinfo is None:
        if not text.rstrip().endswith("-0000"):  # UTC, sent from an unknown zone
            why = f"the date {text[:60]!r} has no known time zone"
            losses.report(name, why, lost="up to a day of the date", kept="the time as UTC")
        moment = moment.replace(tzinfo=UTC)
    try:
        return f"{moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"
    except OverflowError:
        return text
