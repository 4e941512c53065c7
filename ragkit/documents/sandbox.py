"""Parsing in a child process, so that a hang, a crash or a bomb costs one file.

The parent sends a JSON line and the file's bytes, the child answers with a JSON line and the text's
bytes. A child serves many files, because importing the parsers takes longer than most of them. What
it answers is not trusted: a reply has a limited size, and a wrong one is this file's error.
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

from ragkit.documents.text import Extract, clean, plain
from ragkit.errors import DocumentError, MissingExtra
from ragkit.types import Loss

_MAX_JOBS = 500  # then a fresh child takes over, and what the parsers leaked is gone
_MAX_HEADER_BYTES = 16 << 20  # title, metadata and losses
_MAX_WORDS = 10_000  # characters of an error
# Secrets of the environment, such as API keys, are no business of a parser.
_ENVIRONMENT = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT"),
    *("TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What parsing one file in the child may cost.

    Attributes:
        seconds: Wall-clock time, to which `seconds_per_mb` comes for each megabyte of the file.
        seconds_per_mb: More time for bigger files.
        memory_bytes: Address space of the child, where the platform can limit it.
        unpacked_bytes: What an archive may unpack to.
        characters: Length of the extracted text.
    """

    seconds: float = 60.0
    seconds_per_mb: float = 10.0
    memory_bytes: int = 2 << 30
    unpacked_bytes: int = 500_000_000
    characters: int = 100_000_000


def extract(kind: str, data: bytes, name: str, limits: Limits) -> Extract:
    """What the child makes of a file's bytes.

    Args:
        kind: A value of `ragkit.documents.SUPPORTED` that the worker knows.
        data: The file's bytes.
        name: The file's id, for messages.
        limits: Caps, all of which end in an error.

    Raises:
        DocumentError: The child refused the file, timed out or died.
        MissingExtra: An optional package is missing.
    """
    seconds = limits.seconds + limits.seconds_per_mb * len(data) / 1e6
    header = {
        "kind": kind,
        "name": name,
        "n_bytes": len(data),
        "seconds": seconds,
        "memory_bytes": limits.memory_bytes,
        "unpacked_bytes": limits.unpacked_bytes,
        "characters": limits.characters,
        "header_bytes": _MAX_HEADER_BYTES,
    }
    pool = _pool(os.getpid())
    while True:
        worker = pool.take()
        was_fresh = worker.is_fresh()
        try:
            reply, timed_out = worker.ask(json.dumps(header).encode(), data, limits, seconds)
        except BaseException:
            worker.stop()
            raise
        pool.give(worker)
        exhausted = reply is None or "exhausted" in reply
        if was_fresh or timed_out or not exhausted:
            break  # else earlier files may be to blame: once more, in a fresh child
        pool.close()
    if timed_out:
        raise DocumentError(f"{name}: timed out: not parsed within {seconds:.0f} s; split the file")
    if reply is None:
        raise DocumentError(f"{name}: broken: its parser crashed or ran out of memory")
    return _unpack(reply, name)


def _unpack(reply: Mapping[str, Any], name: str) -> Extract:
    if "missing" in reply:
        raise MissingExtra(_words(reply["missing"]))
    if "error" in reply:
        raise DocumentError(_words(reply["error"]))
    try:
        losses = tuple(Loss(*map(_words, loss)) for loss in reply["losses"])
        metadata = plain(dict(reply["metadata"]))
        return Extract(clean(reply["text"]), clean(reply["title"]), metadata, losses)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise DocumentError(f"{name}: broken: its parser gave no usable answer") from error


def _is_sound(reply: Mapping[str, Any], max_bytes: int) -> bool:
    """Whether the reply has the form of one, so that the child may go on."""
    n_bytes = reply.get("n_bytes")
    if type(n_bytes) is not int or not 0 <= n_bytes <= max_bytes:
        return False
    kinds = {"title": str, "metadata": dict, "losses": list}
    return bool({"error", "missing"} & reply.keys()) or all(
        isinstance(reply.get(key), kind) for key, kind in kinds.items()
    )


def _words(value: object) -> str:
    return clean(str(value))[:_MAX_WORDS]


class _Worker:
    """One child process. It ends when its input does, so it never outlives this process."""

    def __init__(self) -> None:
        # -P and PYTHONPATH: this ragkit, and nothing from a working folder that may be untrusted.
        package_root = str(Path(__file__).parents[2])
        search = [package_root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
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

    def ask(
        self, header: bytes, data: bytes, limits: Limits, seconds: float
    ) -> tuple[dict[str, Any] | None, bool]:
        """The reply, or None if there is no good one; and whether time ran out."""
        self._n_jobs += 1
        timed_out = threading.Event()
        timer = threading.Timer(seconds, self._expire, [timed_out])
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
        """Whether it has not parsed anything yet."""
        return self._n_jobs == 0

    def is_usable(self) -> bool:
        """Whether it lives and is not due to be replaced."""
        return self._n_jobs < _MAX_JOBS and self._process.poll() is None

    def stop(self) -> None:
        """Ends the child and waits for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except OSError:  # what was still buffered for the dead child
                continue

    def _expire(self, timed_out: threading.Event) -> None:
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
            if not isinstance(reply, dict) or not _is_sound(reply, max_bytes):
                return None
            text = stdout.read(reply["n_bytes"])
        except (OSError, ValueError, RecursionError):
            return None
        whole = len(text) == reply["n_bytes"]
        return {**reply, "text": text.decode("utf-8", "replace")} if whole else None


class _Pool:
    """Idle workers; as many live as threads ask at once."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        atexit.register(self.close)

    def take(self) -> _Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker and worker.is_usable():
            return worker
        if worker:
            worker.stop()
        return _Worker()

    def give(self, worker: _Worker) -> None:
        if worker.is_usable():
            with self._lock:
                self._idle.append(worker)
        else:
            worker.stop()

    def close(self) -> None:
        if os.getpid() == self._process_id:  # a forked copy leaves the workers alone
            with self._lock:
                while self._idle:
                    self._idle.pop().stop()


@functools.cache
def _pool(process_id: int) -> _Pool:
    return _Pool(process_id)
