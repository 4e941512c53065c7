"""A saved e-mail to text."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

from ragkit.documents.html import to_markdown
from ragkit.documents.text import Extract, clean
from ragkit.errors import DocumentError
from ragkit.types import Loss


def read_mail(data: bytes, name: str) -> Extract:
    """The body, plain before HTML; the subject as title; sender, recipients and date as metadata.

    Attachments are losses.

    Raises:
        DocumentError: It has no headers, hence is no e-mail.
    """
    message = email.message_from_bytes(data, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise DocumentError(f"{name}: broken: it has no mail headers")
    metadata: dict[str, Any] = {"format": "eml"}
    for header in ("from", "to", "date"):
        if message[header]:
            metadata[header] = clean(str(message[header]))
    losses = []
    for part in message.iter_attachments():
        what = clean(part.get_filename() or part.get_content_type())
        why = "attachments are not read; save it as a file and add that"
        losses.append(Loss("documents", f"{name}: {what}", "the attachment", "the mail", why))
    body = message.get_body(("plain", "html"))
    text = ""
    if isinstance(body, EmailMessage):
        try:
            text = str(body.get_content())
        except LookupError as error:  # an unknown charset or kind of content
            raise DocumentError(f"{name}: broken: its body cannot be decoded: {error}") from error
        if body.get_content_type() == "text/html":
            text = to_markdown(clean(text))[1]
            metadata["format"] = "markdown"
    return Extract(clean(text), clean(str(message["subject"] or "")), metadata, tuple(losses))
