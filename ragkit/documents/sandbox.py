"""Parse files in a child process, so that a hang, crash or archive bomb affects one file only.

The parent sends a JSON line and the file's bytes; the child replies with a JSON line, the text's
bytes and its layout's. A child serves many files, because importing the parsers takes longer than
parsing most files. Replies are not trusted: their size is limited, and an invalid one is an error
of the file.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.documents.text import Extract, clean, to_json_value
from ragkit.errors import DocumentError, MissingExtra
from ragkit.layout import fault, unpack
from ragkit.types import Loss

_MAX_JOBS = 500  # then a new child takes over, which frees what the parsers leaked
_MAX_HEADER_BYTES = 16 << 20  # title, metadata and losses
_MAX_LAYOUT_BYTES = 64 << 20  # two million lines
_MAX_MESSAGE = 10_000  # characters of an error message
# Environment variables passed on; others may be secrets such as API keys.
_ENVIRONMENT = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT"),
    *("TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV"),
)


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """SandboxLimits for parsing one file in the child process.

    Attributes:
        seconds: Wall-clock time, apart from `seconds_per_mb`.
        seconds_per_mb: Additional wall-clock time per megabyte of the file.
        memory_bytes: Address space of the child, if the platform can limit it.
        unpacked_bytes: Unpacked size of an archive.
        characters: Length of the extracted text.
    """

    seconds: float = 60.0
    seconds_per_mb: float = 10.0
    memory_bytes: int = 2 << 30
    unpacked_bytes: int = 500_000_000
    characters: int = 100_000_000


def extract(
    kind: str, data: bytes, name: str, limits: SandboxLimits, *, encoding: str = ""
) -> Extract:
    """Parse a file's bytes in a child process.

    Args:
        kind: A value of `ragkit.documents.SUPPORTED` that the worker supports.
        data: Content of the file.
        name: Id of the file, for messages.
        limits: SandboxLimits; exceeding one is an error.
        encoding: Encoding of HTML and mail that is not UTF-8 and declares none; guessed if empty.

    Raises:
        DocumentError: The child rejected the file, timed out or crashed.
        MissingExtra: An optional package is not installed.
    """
    seconds = limits.seconds + limits.seconds_per_mb * len(data) / 1e6
    header = {
        "kind": kind,
        "name": name,
        "encoding": encoding,
        "n_bytes": len(data),
        "seconds": seconds,
        "memory_bytes": limits.memory_bytes,
        "unpacked_bytes": limits.unpacked_bytes,
        "characters": limits.characters,
        "header_bytes": _MAX_HEADER_BYTES,
    }
    pool = _pool(os.getpid())
    while True:
        worker = pool.acquire()
        was_fresh = worker.is_fresh()
        try:
            reply, timed_out = worker.request(json.dumps(header).encode(), data, limits, seconds)
        except BaseException:
            worker.stop()
            raise
        pool.release(worker)
        exhausted = reply is None or "exhausted" in reply
        if was_fresh or timed_out or not exhausted:
            break  # else earlier files may be the cause: retry in a new child
        pool.close()
    if timed_out:
        raise DocumentError(f"{name}: timed out: not parsed within {seconds:.0f} s; split the file")
    if reply is None:
        raise DocumentError(f"{name}: broken: its parser crashed or ran out of memory")
    return _unpack(reply, name)


def _unpack(reply: Mapping[str, Any], name: str) -> Extract:
    if "missing" in reply:
        raise MissingExtra(_message(reply["missing"]))
    if "error" in reply:
        raise DocumentError(_message(reply["error"]))
    try:
        losses = tuple(Loss(*map(_message, loss)) for loss in reply["losses"])
        metadata = to_json_value(dict(reply["metadata"]))
        return Extract(reply["text"], clean(reply["title"]), metadata, losses, reply["layout"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise DocumentError(f"{name}: broken: its parser returned an invalid reply") from error


def _is_valid(reply: Mapping[str, Any], max_bytes: int) -> bool:
    """Return True if the reply has the expected form, so that the child can be used again."""
    for key, most in (("n_bytes", max_bytes), ("n_layout_bytes", _MAX_LAYOUT_BYTES)):
        n_bytes = reply.get(key)
        if type(n_bytes) is not int or not 0 <= n_bytes <= most:
            return False
    types = {"title": str, "metadata": dict, "losses": list}
    return bool({"error", "missing"} & reply.keys()) or all(
        isinstance(reply.get(key), type_) for key, type_ in types.items()
    )


def _message(value: object) -> str:
    return clean(str(value))[:_MAX_MESSAGE]


class _Worker:
    """A child process. It exits at the end of its input, so it never outlives this process."""

    def __init__(self) -> None:
        # -P and PYTHONPATH: import this ragkit, and nothing from an untrusted working folder.
        package_root = str(Path(__file__).parents[2])
        search_path = [package_root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
        environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
        command = [sys.executable, "-P", "-W", "ignore", "-m", "ragkit.documents.worker"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which then stops the child
        )
        self._n_jobs = 0

    def request(
        self, header: bytes, data: bytes, limits: SandboxLimits, seconds: float
    ) -> tuple[dict[str, Any] | None, bool]:
        """Return the reply, or None if there is no valid one, and whether it timed out."""
        self._n_jobs += 1
        timed_out = threading.Event()
        timer = threading.Timer(seconds, self._time_out, [timed_out])
        timer.daemon = True
        timer.start()
        try:
            reply = self._exchange(header, data, 4 * limits.characters)
        finally:
            timer.cancel()
        if timed_out.is_set() or reply is None:
            self.stop()
        return reply, reply is None and timed_out.is_set()

    def is_fresh(self) -> bool:
        """Return True if it has not parsed anything yet."""
        return self._n_jobs == 0

    def is_usable(self) -> bool:
        """Return True if it is alive and has not reached its maximum number of files."""
        return self._n_jobs < _MAX_JOBS and self._process.poll() is None

    def stop(self) -> None:
        """Kill the child and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except OSError:  # flushing data buffered for the dead child
                continue

    def _time_out(self, timed_out: threading.Event) -> None:
        timed_out.set()
        self._process.kill()

    def _exchange(self, header: bytes, data: bytes, max_bytes: int) -> dict[str, Any] | None:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        try:
            stdin.write(header + b"\n")
            stdin.write(data)
            stdin.flush()
            line = stdout.readline(_MAX_HEADER_BYTES)
            reply = json.loads(line) if line.endswith(b"\n") else None
            if not isinstance(reply, dict) or not _is_valid(reply, max_bytes):
                return None
            data = stdout.read(reply["n_bytes"])
            layout = stdout.read(reply["n_layout_bytes"])
            if (len(data), len(layout)) != (reply["n_bytes"], reply["n_layout_bytes"]):
                return None
            text, lines = clean(data.decode("utf-8", "replace")), unpack(layout)
        except (OSError, ValueError, RecursionError):
            return None
        return None if fault(lines, len(text)) else {**reply, "text": text, "layout": lines}


class _Pool:
    """Pool of idle workers; each thread that parses holds one."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        atexit.register(self.close)

    def acquire(self) -> _Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker and worker.is_usable():
            return worker
        if worker:
            worker.stop()
        return _Worker()

    def release(self, worker: _Worker) -> None:
        if worker.is_usable():
            with self._lock:
                self._idle.append(worker)
        else:
            worker.stop()

    def close(self) -> None:
        if os.getpid() == self._process_id:  # a forked process must not stop its parent's workers
            with self._lock:
                while self._idle:
                    self._idle.pop().stop()


@functools.cache
def _pool(process_id: int) -> _Pool:
    return _Pool(process_id)
