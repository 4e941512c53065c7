"""Folders that are replaced in one step."""

import pytest

from ragkit.durable import replaced
from ragkit.errors import CollectionError


def test_folder_when_replaced_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path):
    folder = tmp_path / "adapter"
    for text in ("first", "second"):
        with replaced(folder) as writing:
            (writing / "inner").mkdir()
            (writing / "inner" / "file").write_text(text)
            if text == "second":
                assert (folder / "inner" / "file").read_text() == "first"
        assert (folder / "inner" / "file").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_folder_when_writing_fails_is_what_it_was(tmp_path):
    folder = tmp_path / "adapter"
    with replaced(folder) as writing:
        (writing / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced(folder) as writing:
        (writing / "file").write_text("half")
        raise KeyboardInterrupt
    assert (folder / "file").read_text() == "old"
    with pytest.raises(CollectionError, match="cannot be written"), replaced(folder):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_folder_after_a_death_between_two_renames_is_the_old_one_again(tmp_path):
    folder, aside = tmp_path / "adapter", tmp_path / "adapter.old"
    aside.mkdir()
    (aside / "file").write_text("old")
    (tmp_path / "adapter.writing").mkdir()
    with pytest.raises(ValueError, match="later"), replaced(folder) as writing:
        assert (folder / "file").read_text() == "old"
        assert not list(writing.iterdir())
        raise ValueError("later")
    assert (folder / "file").read_text() == "old"
