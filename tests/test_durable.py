"""Atomic replacement of folders."""

import os
import signal

import pytest
from fault_helpers import in_child, on_every_step
from tiers import smoke

from ragkit.durable import last_complete, replace_folder
from ragkit.errors import CollectionError


def interrupted(folder):
    """Start to replace a folder whose file contains "old", and interrupt it."""
    with replace_folder(folder) as writing:
        assert (folder / "file").read_text() == "old"
        assert not list(writing.iterdir())
        (writing / "file").write_text("half")
        raise KeyboardInterrupt


def test_folder_when_replaced_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path):
    folder = tmp_path / "adapter"
    for text in ("first", "second"):
        with replace_folder(folder) as writing:
            (writing / "inner").mkdir()
            (writing / "inner" / "file").write_text(text)
            if text == "second":
                assert (folder / "inner" / "file").read_text() == "first"
        assert (folder / "inner" / "file").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_folder_when_writing_fails_is_what_it_was(tmp_path):
    folder = tmp_path / "adapter"
    with replace_folder(folder) as writing:
        (writing / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(folder)
    assert (folder / "file").read_text() == "old"
    with pytest.raises(CollectionError, match="cannot be written"), replace_folder(folder):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_folder_after_a_death_between_two_renames_is_the_old_one_again(tmp_path):
    folder, aside = tmp_path / "adapter", tmp_path / "adapter.replaced"
    aside.mkdir()
    (aside / "file").write_text("old")
    (tmp_path / "adapter.writing").mkdir()
    with pytest.raises(KeyboardInterrupt):
        interrupted(folder)
    assert (folder / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["adapter", "adapter.writing", "adapter.replaced"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_folder_when_a_file_or_link_is_in_the_way_is_replaced_and_what_it_leads_to_stays(
    tmp_path, name, what
):
    elsewhere, parent = tmp_path / "elsewhere", tmp_path / "parent"
    elsewhere.mkdir()
    parent.mkdir()
    (elsewhere / "file").write_text("mine")
    if what == "link":
        (parent / name).symlink_to(elsewhere)
    else:
        (parent / name).write_text("not a folder")
    for text in ("first", "second"):
        with replace_folder(parent / "adapter") as writing:
            (writing / "file").write_text(text)
        assert (parent / "adapter" / "file").read_text() == text
        assert [path.name for path in parent.iterdir()] == ["adapter"]
    assert (elsewhere / "file").read_text() == "mine"


@pytest.mark.parametrize("killed", smoke([True, False]))
def test_folder_when_stopped_at_any_step_is_a_whole_one(tmp_path, killed):
    folder = tmp_path / "adapter"
    folder.mkdir()
    contents = set()
    for stop in range(1, 40):
        with replace_folder(folder) as writing:
            (writing / "file").write_text("old")

        def work(stop=stop):
            steps_left = [stop]

            def act(_):
                steps_left[0] -= 1
                if steps_left[0] == 0 and killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                if steps_left[0] == 0:
                    raise KeyboardInterrupt

            on_every_step(act)
            try:
                with replace_folder(folder) as writing:
                    (writing / "file").write_text("new")
            except KeyboardInterrupt:
                assert folder.is_dir()
            return "done" if steps_left[0] > 0 else "stopped"

        _, outcome = in_child(work)
        contents.add((last_complete(folder) / "file").read_text())
        if outcome == "done":
            break
    assert outcome == "done"
    assert contents == {"old", "new"}
