"""The child that parses: `python -m ragkit.documents.worker`, see `sandbox`."""

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

from ragkit.documents.html import read_html
from ragkit.documents.mail import read_mail
from ragkit.documents.text import Extract
from ragkit.errors import DocumentError, MissingExtra
from ragkit.types import Loss

_MAX_REASON = 500  # characters: some parsers quote the whole file
_MAX_TITLE = 1_000


def main() -> None:
    """Serves requests until the input ends."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # What the parsers print or read must not reach the protocol.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    threading.Thread(target=_follow, args=[os.getppid()], daemon=True).start()
    while line := requests.readline():
        if not _serve(json.loads(line), requests, replies):
            return


def _serve(request: dict[str, Any], requests: BufferedReader, replies: BufferedWriter) -> bool:
    """Answers one request, and says whether this process is fit for another."""
    name = str(request["name"])
    reply: dict[str, Any]
    text = b""
    fit = True
    _limit(int(request["memory_bytes"]), float(request["seconds"]))
    try:
        data = requests.read(int(request["n_bytes"]))
        reply, text = _reply(_extract(request, data), request)
    except MissingExtra as error:
        reply = {"missing": str(error)}
    except DocumentError as error:
        reply = {"error": str(error)}
    except MemoryError:
        why = f"too big when unpacked: more than {request['memory_bytes']} bytes of memory needed"
        reply = {"error": f"{name}: {why}", "exhausted": True}
        fit = False
    except Exception as error:  # noqa: BLE001  a parser's bug is this file's fault, not the run's
        reply = {"error": f"{name}: broken: {type(error).__name__}: {str(error)[:_MAX_REASON]}"}
    replies.write(json.dumps({**reply, "n_bytes": len(text)}).encode() + b"\n")
    replies.write(text)
    replies.flush()
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    return fit


def _extract(request: dict[str, Any], data: bytes) -> Extract:
    kind, name = str(request["kind"]), str(request["name"])
    if kind == "html":
        return read_html(data, name)
    if kind == "eml":
        return read_mail(data, name)
    if kind == "pdf":
        from ragkit.documents.pdf import read_pdf

        return read_pdf(data, name)
    from ragkit.documents.office import read_office

    return read_office(data, name, kind=kind, unpacked_bytes=int(request["unpacked_bytes"]))


def _reply(extract: Extract, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The reply's first line, and the text that follows it."""
    name, n_characters = request["name"], int(request["characters"])
    if len(extract.text) > n_characters:
        size = f"{len(extract.text)} characters of text, at most {n_characters} are taken"
        raise DocumentError(f"{name}: too big when unpacked: {size}; split the file")
    losses = list(extract.losses)
    if len(extract.title) > _MAX_TITLE:
        why = f"a title of {len(extract.title)} characters; is its end marked?"
        kept = f"{_MAX_TITLE} characters"
        losses.append(Loss("documents", name, "the rest of the title", kept, why))
    answer = {
        "title": extract.title[:_MAX_TITLE],
        "metadata": extract.metadata,
        "losses": [astuple(loss) for loss in losses],
    }
    if len(json.dumps(answer)) > int(request["header_bytes"]) - 1000:
        raise DocumentError(f"{name}: too big when unpacked: its metadata, as mail headers are")
    return answer, extract.text.encode("utf-8", "replace")


def _follow(parent: int) -> None:
    """Ends this process soon after its parent was killed, whatever it is busy with."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit(memory_bytes: int, seconds: float) -> None:
    """Caps this process, where the platform can."""
    if hasattr(signal, "alarm"):
        # Ends a hang that outlives the parent; the parent's own clock comes first.
        signal.alarm(int(seconds) + 10)
    if sys.platform == "win32":
        return
    import resource

    for what, amount in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        try:
            hard = resource.getrlimit(what)[1]
            soft = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            resource.setrlimit(what, (soft, hard))
        except (OSError, ValueError):  # macOS refuses a limit below what is in use
            continue


if __name__ == "__main__":
    main()
