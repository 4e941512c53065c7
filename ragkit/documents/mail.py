"""Read a saved e-mail."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

from ragkit.documents.files import printable
from ragkit.documents.html import to_markdown
from ragkit.documents.losses import LossList
from ragkit.documents.text import Extract, clean
from ragkit.errors import DocumentError

_MAX_HEADER = 5_000  # characters
_MAX_NAME = 200


def read_mail(data: bytes, name: str) -> Extract:
    """Read an e-mail: body, subject as title, and sender, recipients and date as metadata.

    A plain text body is preferred to an HTML one. Attachments are reported as losses.

    Raises:
        DocumentError: The file has no headers, so it is not an e-mail.
    """
    message = email.message_from_bytes(data, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise DocumentError(f"{name}: broken: it has no mail headers")
    losses = LossList(name)
    metadata: dict[str, Any] = {"format": "eml"}
    for header in ("from", "to", "date"):
        value = _header(message, header, losses, name)
        if value:
            metadata[header] = value
    for part in message.iter_attachments():
        attachment = printable(part.get_filename() or part.get_content_type())[:_MAX_NAME]
        why = "attachments are not read; save it as a file and add the file"
        losses.report(f"{name}: {attachment}", why, lost="the attachment", kept="the mail")
    body = message.get_body(("plain", "html"))
    text = ""
    if isinstance(body, EmailMessage):
        try:
            text = str(body.get_content())
        except LookupError as error:  # unknown charset or content type
            raise DocumentError(f"{name}: broken: its body cannot be decoded: {error}") from error
        if body.get_content_type() == "text/html":
            text = to_markdown(clean(text))[1]
            metadata["format"] = "markdown"
    title = _header(message, "subject", losses, name)
    return Extract(clean(text), title, metadata, losses.all())


def _header(message: EmailMessage, header: str, losses: LossList, name: str) -> str:
    """Return a header's decoded value, or its raw value if it cannot be decoded."""
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == header), "")
    if len(raw) > _MAX_HEADER:  # the decoder needs quadratic time and memory
        why = f"a header of {len(raw)} characters"
        kept = f"{_MAX_HEADER} characters, not decoded"
        losses.report(name, why, lost=f"the rest of the header {header}", kept=kept)
        return clean(raw[:_MAX_HEADER])
    try:
        return clean(str(message[header] or ""))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return clean(raw)
