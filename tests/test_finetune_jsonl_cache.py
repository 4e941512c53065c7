"""Results are computed once, survive a kill, and are not mixed with those of another job."""

from __future__ import annotations

import pytest

from ragkit.finetune.jsonl_cache import JsonlCache


def never():
    raise AssertionError("computed twice")


def test_a_result_is_computed_once_and_read_by_the_next_process(tmp_path):
    file = tmp_path / "cache.jsonl"
    first = JsonlCache(file, "a")
    assert first.get("x", lambda: (1, "ü")) == [1, "ü"]
    assert first.get("x", never) == [1, "ü"]
    assert JsonlCache(file, "a").get("x", never) == [1, "ü"]


def test_a_truncated_line_is_computed_again(tmp_path):
    file = tmp_path / "cache.jsonl"
    cache = JsonlCache(file, "a")
    for name in "xyz":
        cache.get(name, lambda: 1)
    whole = file.read_bytes()
    for n in range(1, len(whole.splitlines()[-1]) + 1):
        file.write_bytes(whole[:-n])
        again = JsonlCache(file, "a")
        assert again.get("y", never) == 1
        assert again.get("z", lambda: 2) == 2


def test_another_job_starts_again(tmp_path):
    file = tmp_path / "cache.jsonl"
    JsonlCache(file, "a").get("x", lambda: 1)
    assert JsonlCache(file, "b").get("x", lambda: 2) == 2
    assert JsonlCache(file, "a").get("x", lambda: 3) == 3


def test_what_fails_is_not_cached(tmp_path):
    cache = JsonlCache(tmp_path / "cache.jsonl", "a")
    with pytest.raises(KeyboardInterrupt):
        cache.get("x", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cache.get("x", lambda: 1) == 1
