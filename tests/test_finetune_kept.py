"""Results are made once, outlive a kill, and are not those of another job."""

from __future__ import annotations

import pytest

from ragkit.finetune.jsonl_cache import KeptLines


def never():
    raise AssertionError("made twice")


def test_a_result_is_made_once_and_read_by_the_next_process(tmp_path):
    file = tmp_path / "kept.jsonl"
    first = KeptLines(file, "a")
    assert first.get("x", lambda: (1, "ü")) == [1, "ü"]
    assert first.get("x", never) == [1, "ü"]
    assert KeptLines(file, "a").get("x", never) == [1, "ü"]


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    file = tmp_path / "kept.jsonl"
    kept = KeptLines(file, "a")
    for name in "xyz":
        kept.get(name, lambda: 1)
    whole = file.read_bytes()
    for n in range(1, len(whole.splitlines()[-1]) + 1):
        file.write_bytes(whole[:-n])
        again = KeptLines(file, "a")
        assert again.get("y", never) == 1
        assert again.get("z", lambda: 2) == 2


def test_another_job_begins_anew(tmp_path):
    file = tmp_path / "kept.jsonl"
    KeptLines(file, "a").get("x", lambda: 1)
    assert KeptLines(file, "b").get("x", lambda: 2) == 2
    assert KeptLines(file, "a").get("x", lambda: 3) == 3


def test_what_fails_is_not_kept(tmp_path):
    kept = KeptLines(tmp_path / "kept.jsonl", "a")
    with pytest.raises(KeyboardInterrupt):
        kept.get("x", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert kept.get("x", lambda: 1) == 1
