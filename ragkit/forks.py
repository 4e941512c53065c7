"""What a forked process must make anew, because it has none of its parent's threads.

It would wait for ever for a lock that another thread held, or for a pool of threads. And database
and network connections must not be used by two processes.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

_Work = Callable[[Any], None]
_preparations: list[tuple[weakref.ref[Any], _Work]] = []
_renewals: list[tuple[weakref.ref[Any], _Work]] = []
_single_threaded: set[str] = set()
_SETTERS = {"faiss": "omp_set_num_threads", "torch": "set_num_threads"}


def renew_after_fork(owner: _T, renew: Callable[[_T], None]) -> None:
    """Call `renew(owner)` in each process that is forked while the owner exists."""
    _register(_renewals, owner, renew)


def prepare_fork(owner: _T, prepare: Callable[[_T], None]) -> None:
    """Call `prepare(owner)` before each fork of this process while the owner exists."""
    _register(_preparations, owner, prepare)


def _register(works: list[tuple[weakref.ref[Any], _Work]], owner: object, work: _Work) -> None:
    def forget(reference: weakref.ref[Any]) -> None:
        works.remove((reference, work))

    works.append((weakref.ref(owner, forget), work))


def one_thread_after_fork(package: str) -> None:
    """Let a package run on one thread in forked processes, where OpenMP hangs with more.

    Args:
        package: "faiss" or "torch".
    """
    _single_threaded.add(package)


def abandon(value: object) -> None:
    """Never destroy an object: in a child, its destructor would wait for the parent's threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


class ForkSafeLock:
    """Lock that is free in a forked process, whoever held it in the parent.

    Args:
        make: Creates the lock: `threading.Lock` or `threading.RLock`.

    >>> with ForkSafeLock():
    ...     pass
    """

    def __init__(self, make: Callable[[], Any] = threading.Lock) -> None:
        self._make = make
        self._lock = make()
        renew_after_fork(self, ForkSafeLock._renew)

    def _renew(self) -> None:
        self._lock = self._make()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _before_fork() -> None:
    _run(_preparations)


def _after_fork_in_child() -> None:
    for package in _single_threaded:
        module: Any = sys.modules.get(package)
        if module is not None:
            getattr(module, _SETTERS[package])(1)
    _run(_renewals)


def _run(works: list[tuple[weakref.ref[Any], _Work]]) -> None:
    for reference, work in list(works):
        owner = reference()
        if owner is not None:
            work(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
