"""Memory between the steps of a training: kept, where the C library would give it back."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_DEFAULTS = {_M_TRIM_THRESHOLD: 128 * 1024, _M_MMAP_MAX: 65536}
_KEPT = {_M_TRIM_THRESHOLD: -1, _M_MMAP_MAX: 0}


@contextmanager
def kept_memory() -> Iterator[Callable[[], object]]:
    """Within it, memory that is freed stays with the process; at the end it is given back.

    glibc maps every block of more than 32 MB anew and unmaps it when it is freed, so that each step
    has the system clear some gigabytes of pages. What is kept falls into pieces, though, and grows:
    call what it yields from time to time, to give back what is free. Elsewhere nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        yield lambda: None
        return
    libc = ctypes.CDLL(None)
    try:
        for option, value in _KEPT.items():
            _set(libc, option, value)
        yield lambda: libc.malloc_trim(0)
    finally:
        for option, value in _DEFAULTS.items():
            _set(libc, option, value)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, option: int, value: int) -> None:
    if not libc.mallopt(option, value):
        raise OSError(f"glibc's mallopt refuses option {option} with the value {value}")
