"""Memory that a training keeps between its steps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from ragkit.finetune.allocator import kept_memory

BLOCK = 64 << 20  # glibc never keeps one of this size by itself
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
SCRIPT = """
import resource
from ragkit.finetune.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

without = faults()
with kept_memory() as give_back:
    faults()
    kept = faults()
    held = resident()
    give_back()
    given_back = held - resident()
after = faults()
print(without, kept, after, given_back)
"""


@needs_glibc
def test_kept_memory_spares_the_system_clearing_pages_and_gives_them_back_at_the_end():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    without, kept, after, given_back = map(int, done.stdout.split())
    n_huge = 4 * BLOCK // (2 << 20)  # pages, where the system gives huge ones
    assert without >= n_huge
    assert kept < n_huge / 4
    assert after >= n_huge
    assert given_back > 0.9 * BLOCK


def test_kept_memory_where_the_library_is_another_changes_nothing(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    with kept_memory() as give_back:
        assert give_back() is None
