"""Read a saved e-mail."""

from __future__ import annotations

import base64
import binascii
import email
import email.policy
import re
from collections.abc import Sequence
from email.message import Message
from typing import Any, NamedTuple

from ragkit.documents.files import printable
from ragkit.documents.html.reader import read_html
from ragkit.documents.losses import LossList
from ragkit.documents.mail.headers import (
    declared_charset,
    decode_words,
    read_date,
    read_header,
    shorten_parameters,
)
from ragkit.documents.mail.texts import calendar_text, unflow
from ragkit.documents.text import Extract, decode
from ragkit.errors import DocumentError

_MAX_NAME = 200
_MAX_MESSAGES = 5  # forwarded messages inside each other
_MAX_LEVELS = 50  # parts inside each other
_MAX_COMPARED = 200_000  # characters of versions that are compared
_MIN_COVERED = 0.8  # share of the words of all versions that the chosen one should have
_FIELDS = {  # header -> metadata
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "reply-to": "reply_to",
    "date": "date",
}
_WORD = re.compile("[\u2e80-\u9fff\uac00-\ud7a3]|[^\\W\u2e80-\u9fff\uac00-\ud7a3]+")
_QUOTED_PRINTABLE_DAMAGE = re.compile(r"=(?![0-9A-Fa-f]{2}|[ \t]*\r?(?:\n|\Z))")
_PGP_MESSAGE = re.compile(
    r"^-----BEGIN PGP MESSAGE-----$.*?(?:^-----END PGP MESSAGE-----$|\Z)", re.DOTALL | re.MULTILINE
)
_NEXT_MESSAGE = re.compile(rb"\r?\n\r?\nFrom \S+ [^\r\n]*\d\d:\d\d[^\r\n]*\r?\n[\w-]+:")
_ENCODINGS = frozenset(
    {"", "7bit", "8bit", "binary", "base64", "quoted-printable"}
    | {"x-uuencode", "uuencode", "uue", "x-uue"}
)
_CALENDARS = frozenset({"text/calendar", "application/ics"})
_MESSAGES = frozenset({"message/rfc822", "message/global"})
_SIGNATURES = frozenset(
    f"application/{name}" for name in ("pgp-signature", "pkcs7-signature", "x-pkcs7-signature")
)
_ENCRYPTED = frozenset(
    {"multipart/encrypted", "application/pgp-encrypted"}
    | {"application/pkcs7-mime", "application/x-pkcs7-mime"}
)
_DAMAGES = {
    "CloseBoundaryNotFoundDefect": "the end of its last part is missing; is the file complete?",
    "FirstHeaderLineIsContinuationDefect": "its first line is no header",
    "InvalidBase64CharactersDefect": "its base64 code contains other characters",
    "InvalidBase64LengthDefect": "its base64 code has an impossible length",
    "InvalidBase64PaddingDefect": "its base64 code is not complete",
    "MissingHeaderBodySeparatorDefect": "a line among its headers is no header",
    "NoBoundaryInMultipartDefect": "it does not declare where its parts begin",
    "StartBoundaryNotFoundDefect": "its parts are not where it declares them",
}


class _Block(NamedTuple):
    """A text of the mail, and whether it is Markdown."""

    text: str
    is_markdown: bool = False


def read_mail(data: bytes, name: str, *, encoding: str = "") -> Extract:
    """Read an e-mail: its texts, subject as title, and people and date (UTC) as metadata.

    All texts are read in order, forwarded messages and calendar events included. Of several
    versions of a text, the plain one is read if it has the content of the HTML one. Attachments and
    encrypted parts are losses. The text of a mail that has only a subject is the subject.

    Args:
        data: Content of the file.
        name: Id of the file.
        encoding: Encoding of texts that are not UTF-8 and declare none; guessed if empty.

    Raises:
        DocumentError: The file is no e-mail or holds several, or nothing of it can be read.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith(b"From ") and _NEXT_MESSAGE.search(data):
        why = "it is a mailbox (mbox) with several e-mails; save each one as an .eml file"
        raise DocumentError(f"{name}: unsupported: {why}")
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
    except RecursionError as error:
        raise DocumentError(f"{name}: broken: its parts are nested too deeply") from error
    if not message.keys():
        raise DocumentError(f"{name}: broken: it has no mail headers")
    reader = _MailReader(name, encoding)
    blocks = reader.read(message)
    title = read_header(message, "subject", reader.losses, name)
    text = _join(blocks) or title
    if not text and reader.is_encrypted:
        raise DocumentError(f"{name}: encrypted: save it decrypted and add it again")
    is_markdown = any(block.is_markdown for block in blocks)
    metadata = {"format": "markdown" if is_markdown else "eml", **reader.fields(message)}
    return Extract(text, title, metadata, reader.losses.all())


def _join(blocks: Sequence[_Block]) -> str:
    texts = (block.text.strip("\n") for block in blocks)
    return "\n\n".join(text for text in texts if text.strip())


class _MailReader:
    """Reader of the parts of one mail.

    Args:
        name: Id of the file.
        encoding: Encoding given by the user, or an empty string.
    """

    def __init__(self, name: str, encoding: str) -> None:
        self.losses = LossList(name)
        self.is_encrypted = False
        self._name = name
        self._encoding = encoding
        self._n_messages = 0  # open forwarded messages
        self._n_levels = 0  # open parts
        self._events: set[str] = set()
        self._damages: set[str] = set()

    def fields(self, message: Message) -> dict[str, Any]:
        """Return people and date of a message."""
        fields = {}
        for header, key in _FIELDS.items():
            value = read_header(message, header, self.losses, self._name)
            if value:
                is_date = header == "date"
                fields[key] = read_date(value, self.losses, self._name) if is_date else value
        return fields

    def read(self, part: Message) -> list[_Block]:
        """Return the texts of a part in order."""
        if self._n_levels >= _MAX_LEVELS:
            self._lose(f"parts inside each other, more than {_MAX_LEVELS} levels", "the inner ones")
            return []
        self._n_levels += 1
        shorten_parameters(part, self.losses, self._name)
        blocks = self._read(part)
        self._report_damage(part)
        self._n_levels -= 1
        return blocks

    def _read(self, part: Message) -> list[_Block]:
        kind = part.get_content_type()
        payload: Any = part.get_payload()
        if kind in _ENCRYPTED:
            self.is_encrypted = True
            self._lose(
                "it is encrypted or signed as a whole; save it decrypted", f"the part {kind}"
            )
        elif kind in _CALENDARS:
            return self._calendar(part)
        elif kind.startswith("message/"):
            return self._message(part, kind)
        elif isinstance(payload, list):
            if kind == "multipart/alternative":
                return self._alternative(payload)
            return [block for child in payload for block in self.read(child)]
        elif part.get_content_disposition() == "attachment" or not self._is_text(part):
            if kind not in _SIGNATURES:
                self._lose_attachment(part, kind)
        elif kind.endswith("html"):
            charset = declared_charset(part.get_content_charset())
            page = read_html(
                self._bytes(part), self._name, declared=charset, encoding=self._encoding
            )
            self.losses.add_all(page.losses)
            return [_Block(page.text, is_markdown=True)]
        else:
            return [_Block(self._plain(part))]
        return []

    def _is_text(self, part: Message) -> bool:
        kind = part.get_content_type()
        is_shown = kind.endswith("html") or kind == "text/plain" or not part.get_filename()
        # A multipart without a boundary is one text.
        return (kind.startswith("text/") and is_shown) or kind.startswith("multipart/")

    def _plain(self, part: Message) -> str:
        text = self._decode(part)
        if str(part.get_param("format", "")).lower() == "flowed":
            text = unflow(text, delete_space=str(part.get_param("delsp", "")).lower() == "yes")
        if "-----BEGIN PGP MESSAGE-----" in text:
            text, n_messages = _PGP_MESSAGE.subn("", text)
            if n_messages:
                self.is_encrypted = True
                self._lose("it is encrypted with PGP; save it decrypted", "a part of the text")
        return text

    def _decode(self, part: Message) -> str:
        charset = declared_charset(part.get_content_charset())
        text, losses = decode(
            self._bytes(part), self._name, declared=charset, encoding=self._encoding
        )
        self.losses.add_all(losses)
        return text

    def _bytes(self, part: Message) -> bytes:
        """Return the content of a part; its transfer encoding is undone."""
        coding = str(part.get("content-transfer-encoding", "")).strip().lower()
        if coding not in _ENCODINGS:
            self._lose(f"the transfer encoding {coding[:40]!r} is unknown", "its characters")
        elif coding == "quoted-printable":
            n_wrong = sum(1 for _ in _QUOTED_PRINTABLE_DAMAGE.finditer(str(part.get_payload())))
            if n_wrong:
                why = f"{n_wrong} codes of its quoted-printable text are damaged"
                self._lose(why, "these characters", kept="the codes")
        data = part.get_payload(decode=True)
        return data if isinstance(data, bytes) else b""

    def _alternative(self, parts: Sequence[Message]) -> list[_Block]:
        """Return the version of a text that has its content, and the calendar events."""
        versions: list[list[_Block]] = []
        events: list[_Block] = []
        for part in parts:
            blocks = self.read(part)
            if part.get_content_type() in _CALENDARS:
                events += blocks
            elif _join(blocks):
                versions.append(blocks)
        if not versions:
            return events
        versions.sort(key=lambda blocks: any(block.is_markdown for block in blocks))
        words = [frozenset(_WORD.findall(_join(blocks)[:_MAX_COMPARED])) for blocks in versions]
        union = frozenset().union(*words)
        chosen = next(
            (i for i, own in enumerate(words) if len(own) >= _MIN_COVERED * len(union)),
            max(range(len(words)), key=lambda i: len(words[i])),
        )
        missing = union - words[chosen]
        if len(missing) > (1 - _MIN_COVERED) * len(union):
            self._lose(
                "its versions differ",
                f"{len(missing)} words",
                kept="the version with the most words",
            )
        return [*versions[chosen], *events]

    def _message(self, part: Message, kind: str) -> list[_Block]:
        """Return a forwarded message, or the fields of a report."""
        payload: Any = part.get_payload()
        inner: list[Message] = payload if isinstance(payload, list) else []
        if kind in {"message/partial", "message/external-body"} or not inner:
            self._lose(f"{kind} does not contain the message", "the message")
            return []
        if kind not in _MESSAGES:
            return [block for item in inner for block in self._report_fields(item)]
        if self._n_messages >= _MAX_MESSAGES:
            self._lose(f"more than {_MAX_MESSAGES} messages inside each other", "the inner ones")
            return []
        self._n_messages += 1
        message = _decode_message(part, inner[0])
        header = self._header_lines(message)
        blocks = [_Block(header), *self.read(message)]
        self._n_messages -= 1
        return blocks

    def _header_lines(self, message: Message) -> str:
        """Return people, date and subject of a forwarded message as lines of text."""
        lines = []
        for header in ("from", "to", "cc", "date", "subject"):
            value = read_header(message, header, self.losses, self._name)
            if value:
                lines.append(f"{header.capitalize()}: {value}")
        return "\n".join(lines)

    def _report_fields(self, item: Message) -> list[_Block]:
        names = dict.fromkeys(item.keys())
        values = ((key, read_header(item, key.lower(), self.losses, self._name)) for key in names)
        lines = "\n".join(f"{key}: {value}" for key, value in values)
        return [_Block(lines), *(self.read(item) if item.get_payload() else [])]

    def _calendar(self, part: Message) -> list[_Block]:
        """Return the events of a calendar, which is often sent twice."""
        text = self._decode(part)
        event = calendar_text(text) or text
        if event in self._events:
            return []
        self._events.add(event)
        return [_Block(event)]

    def _lose_attachment(self, part: Message, kind: str) -> None:
        file = decode_words(part.get_filename() or "", self.losses, self._name)
        attachment = printable(file or kind)[:_MAX_NAME]
        why = "attachments are not read; save it as a file and add the file"
        if kind == "application/ms-tnef" or file.lower() == "winmail.dat":
            why = "Outlook packed attachments into it; ask the sender for another format"
        what = f"{self._name}: {attachment}"
        self.losses.report(what, why, lost="the attachment", kept="the mail")

    def _report_damage(self, part: Message) -> None:
        for defect in dict.fromkeys(type(defect).__name__ for defect in part.defects):
            if defect in _DAMAGES and defect not in self._damages:
                self._damages.add(defect)
                self._lose(_DAMAGES[defect], "possibly a part of the text", kept="what was read")

    def _lose(self, why: str, lost: str, *, kept: str = "the rest of the mail") -> None:
        self.losses.report(self._name, why, lost=lost, kept=kept)


def _decode_message(part: Message, inner: Message) -> Message:
    """Return a forwarded message; parse it again if it was sent in base64."""
    coding = str(part.get("content-transfer-encoding", "")).strip().lower()
    payload = inner.get_payload()
    if coding != "base64" or inner.keys() or not isinstance(payload, str):
        return inner
    try:
        data = base64.b64decode(payload)
    except (binascii.Error, ValueError):
        return inner
    return email.message_from_bytes(data, policy=email.policy.compat32)
