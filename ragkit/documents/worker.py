"""Child process that parses files: `python -m ragkit.documents.worker`, see `sandbox`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import astuple
from io import BufferedReader, BufferedWriter
from typing import Any

from ragkit.documents.html.reader import read_html
from ragkit.documents.mail.reader import read_mail
from ragkit.documents.text import Extract
from ragkit.errors import DocumentError, MissingExtra
from ragkit.layout import pack
from ragkit.types import Loss

_MAX_REASON = 500  # characters: some parsers quote the whole file
_MAX_TITLE = 1_000


def main() -> None:
    """Serve requests until the end of the input."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # Keep what the parsers print or read out of the protocol's pipes.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    threading.Thread(target=_exit_with_parent, args=[os.getppid()], daemon=True).start()
    while line := requests.readline():
        if not _serve(json.loads(line), requests, replies):
            return


def _serve(request: dict[str, Any], requests: BufferedReader, replies: BufferedWriter) -> bool:
    """Answer one request; return True if this process can serve another."""
    name = str(request["name"])
    reply: dict[str, Any]
    text = layout = b""
    reusable = True
    _set_limits(int(request["memory_bytes"]), float(request["seconds"]))
    try:
        data = requests.read(int(request["n_bytes"]))
        reply, text, layout = _make_reply(_extract(request, data), request)
    except MissingExtra as error:
        reply = {"missing": str(error)}
    except DocumentError as error:
        reply = {"error": str(error)}
    except MemoryError:
        why = f"too big when unpacked: more than {request['memory_bytes']} bytes of memory needed"
        reply = {"error": f"{name}: {why}", "exhausted": True}
        reusable = False
    except Exception as error:  # noqa: BLE001  a parser's bug must not end the whole run
        reply = {"error": f"{name}: broken: {type(error).__name__}: {str(error)[:_MAX_REASON]}"}
    sizes = {"n_bytes": len(text), "n_layout_bytes": len(layout)}
    replies.write(json.dumps({**reply, **sizes}).encode() + b"\n")
    replies.write(text + layout)
    replies.flush()
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    return reusable


def _extract(request: dict[str, Any], data: bytes) -> Extract:
    kind, name, encoding = (str(request[key]) for key in ("kind", "name", "encoding"))
    if kind == "html":
        return read_html(data, name, encoding=encoding)
    if kind == "eml":
        return read_mail(data, name, encoding=encoding)
    if kind == "pdf":
        from ragkit.documents.pdf.reader import read_pdf

        return read_pdf(data, name)
    from ragkit.documents.office.reader import read_office

    return read_office(data, name, kind=kind, unpacked_bytes=int(request["unpacked_bytes"]))


def _make_reply(extract: Extract, request: dict[str, Any]) -> tuple[dict[str, Any], bytes, bytes]:
    """Return the fields of the reply's first line, and the text and layout that follow it."""
    name, n_characters = request["name"], int(request["characters"])
    if len(extract.text) > n_characters:
        size = f"{len(extract.text)} characters of text, the limit is {n_characters}"
        raise DocumentError(f"{name}: too big when unpacked: {size}; split the file")
    losses = list(extract.losses)
    if len(extract.title) > _MAX_TITLE:
        why = f"a title of {len(extract.title)} characters; is it closed?"
        kept = f"{_MAX_TITLE} characters"
        losses.append(Loss("documents", name, "the rest of the title", kept, why))
    answer = {
        "title": extract.title[:_MAX_TITLE],
        "metadata": extract.metadata,
        "losses": [astuple(loss) for loss in losses],
    }
    if len(json.dumps(answer)) > int(request["header_bytes"]) - 1000:
        raise DocumentError(f"{name}: too big when unpacked: its metadata, e.g. mail headers")
    return answer, extract.text.encode("utf-8", "replace"), pack(extract.layout)


def _exit_with_parent(parent: int) -> None:
    """Exit within a second of the parent's death, even during parsing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _set_limits(memory_bytes: int, seconds: float) -> None:
    """Limit the memory and time of this process, if the platform supports it."""
    if hasattr(signal, "alarm"):
        # Ends a hang if the parent dies; the parent's own timeout is shorter.
        signal.alarm(int(seconds) + 10)
    if sys.platform == "win32":
        return
    import resource

    for resource_id, amount in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        try:
            hard = resource.getrlimit(resource_id)[1]
            soft = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            resource.setrlimit(resource_id, (soft, hard))
        except (OSError, ValueError):  # macOS refuses a limit below what is in use
            continue


if __name__ == "__main__":
    main()
