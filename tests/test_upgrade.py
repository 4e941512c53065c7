"""Upgrade of a collection that ragkit 0.1 wrote in format 1; tests/data/format1 is a dump of it."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from fault_helpers import DIED, CountingEmbedder, in_child, on_every_step, temporary_folder

import ragkit
from ragkit.collection import Collection
from ragkit.collection import upgrade as upgrade_module
from ragkit.collection.writer import acquire_write_lock
from ragkit.errors import (
    CollectionError,
    CorruptCollection,
    EmbedderMismatch,
    FormatMismatch,
    Locked,
)
from ragkit.testing import HashEmbedder
from ragkit.types import Document

DUMP = Path(__file__).parent / "data" / "format1"
FILES = {
    "docs/one.txt": "Iron melts at 1538 degrees.",
    "docs/sub/two.md": "---\nyear: 2020\n---\n# Copper\n\nCopper melts at 1085 degrees.\n",
    "docs/data.jsonl": '{"_id": "r0", "text": "Record of zinc."}\n'
    '{"_id": "r1", "text": "Record of tin."}\n',
    "docs/bad.json": "{",
    "plain/t.csv": "id,name\nFe,iron\nCu,copper\n",
    "plain/changes.txt": "The second version.",  # the stored one is the first
    "plain/breaks.json": "{",  # it was good when it was added
}
GIVEN = {"lab": "north", "year": 1999}  # metadata passed with `docs`
EXPECTED = {
    "one.txt": ("Iron melts at 1538 degrees.", {"format": "text", **GIVEN}),
    "sub/two.md": (
        "# Copper\n\nCopper melts at 1085 degrees.\n",
        {"format": "markdown", **GIVEN},
    ),
    "data.jsonl#r0": ("Record of zinc.", {"format": "jsonl", **GIVEN}),
    "data.jsonl#r1": ("Record of tin.", {"format": "jsonl", **GIVEN}),
    "t.csv#Fe": ("id: Fe\nname: iron", {"format": "csv", "name": "iron"}),
    "t.csv#Cu": ("id: Cu\nname: copper", {"format": "csv", "name": "copper"}),
    "changes.txt": ("The second version.", {"format": "text"}),
    "breaks.json": ("It was good.", {"format": "json"}),
    "note.txt": ("A note whose file is gone.", {"format": "text"}),
    "x1": ("a row", {"format": "csv"}),
    "memo": ("A memo from memory.", {"n": 1}),
}


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


def _restore(folder):
    """Write the collection of format 1, and those of its files that still exist."""
    path = folder / "c.rag"
    (path / "ledger").mkdir(parents=True)
    (path / "adapter").mkdir()
    (path / "adapter" / "README.md").write_text("mine")
    shutil.copy(DUMP / "collection.json", path)
    for ledger in DUMP.glob("*.f32"):
        shutil.copy(ledger, path / "ledger")
    connection = sqlite3.connect(path / "store.db")
    connection.executescript((DUMP / "store.sql").read_text().replace("ROOT", str(folder)))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return path


def _content(path):
    with Collection(path, embedder=HashEmbedder(16)) as notes:
        assert notes.verify().faults == ()
        live = [row["id"] for row in notes.documents() if row["state"] == "indexed"]
        found = {doc_id: notes.document(doc_id) for doc_id in live}
    return {doc_id: (d.text, dict(d.metadata)) for doc_id, d in found.items()}


def _bytes(path):
    """Return the files of a collection, without those that opening it for reading makes."""
    made = {"lock", "store.db-shm", "store.db-wal"}
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in made)
    return {file: file.read_bytes() for file in files}


def test_collection_when_it_has_format_1_says_how_to_upgrade_it(folder):
    path = _restore(folder)
    with pytest.raises(FormatMismatch, match=f"run `ragkit index upgrade {path}`$"):
        Collection(path)
    (path / "collection.json").unlink()  # the copy in the store is used
    with pytest.raises(FormatMismatch, match=f"run `ragkit index upgrade {path}`$"):
        Collection(path)


def test_upgrade_when_files_exist_reads_them_and_keeps_the_other_texts(folder):
    path = _restore(folder)
    embedder = HashEmbedder(16)
    report = ragkit.upgrade(path, embedder=embedder)
    assert (report.upgraded, report.n_read, report.n_kept) == (True, 7, 4)
    assert (report.n_chunks, report.n_embedded, embedder.n_embedded) == (11, 1, 1)
    assert report.n_reused == 10
    assert [loss.what for loss in report.losses] == ["bad.json", "breaks.json"]
    assert _content(path) == EXPECTED
    assert sorted(item.name for item in folder.iterdir()) == ["c.rag", "docs", "plain"]
    assert (path / "adapter" / "README.md").read_text() == "mine"
    with Collection(path, embedder=HashEmbedder(16)) as notes:
        assert notes.info()["format"] == 2
        assert (notes.document("memo").title, notes.document("memo").source) == ("Memo", "desk")
        assert notes.add(folder / "docs", metadata=GIVEN).unchanged == 3  # the same keys
        (folder / "plain" / "breaks.json").write_text('{"text": "It is good again."}')
        again = notes.add(folder / "plain")
        assert (again.unchanged, again.changed) == (2, 1)
        (folder / "gone").mkdir()
        (folder / "gone" / "note.txt").write_text("The file is back.")
        assert (notes.add(folder / "gone").changed, notes.verify().faults) == (1, ())
    assert ragkit.upgrade(path, embedder=HashEmbedder(16)).upgraded is False


def test_upgrade_when_ids_are_raw_keeps_those_of_records(folder):
    path = _restore(folder)
    ragkit.upgrade(path, embedder=HashEmbedder(16), raw_ids=True)
    assert _content(path) == {doc_id.rpartition("#")[2]: v for doc_id, v in EXPECTED.items()}


def test_upgrade_when_metadata_of_a_changed_file_is_unknown_keeps_what_the_file_lacks(folder):
    path = _restore(folder)
    for name in ("one.txt", "sub/two.md", "data.jsonl"):  # no file tells what was passed
        file = folder / "docs" / name
        file.write_text(file.read_text() + "\n")
    ragkit.upgrade(path, embedder=HashEmbedder(16))
    content = _content(path)
    assert content["one.txt"][1] == {"format": "text", "lab": "north", "year": 1999}
    assert content["sub/two.md"][1] == {"format": "markdown", "lab": "north", "year": 2020}
    assert content["data.jsonl#r0"][1] == {"format": "jsonl", "lab": "north", "year": 1999}


def test_upgrade_when_a_file_has_fewer_records_says_so(folder):
    path = _restore(folder)
    (folder / "plain" / "t.csv").write_text("id,name\nFe,iron\n")
    report = ragkit.upgrade(path, embedder=HashEmbedder(16))
    assert [(loss.what, loss.lost) for loss in report.losses][-1] == ("t.csv", "1 documents")


def test_upgrade_when_it_cannot_be_done_leaves_the_collection_as_it_is(folder):
    path = _restore(folder)
    with pytest.raises(EmbedderMismatch, match="pass the first one"):
        ragkit.upgrade(path, embedder=HashEmbedder(32))
    faults = {
        "UPDATE documents SET text = 'x' || text WHERE id = 'memo'": "text of 'memo' has changed",
        "UPDATE documents SET metadata = '[1]' WHERE id = 'memo'": "metadata is",
        "UPDATE files SET digest = x'00'": "other types",
        "DROP TABLE files": "a table is missing",
    }
    for statement, said in faults.items():
        connection = sqlite3.connect(path / "store.db")
        connection.executescript(statement)
        connection.close()
        damaged = _bytes(path)
        with pytest.raises(CorruptCollection, match=said):
            ragkit.upgrade(path, embedder=HashEmbedder(16))
        assert _bytes(path) == damaged
        assert not (folder / "c.rag.upgrading").exists()
        shutil.rmtree(path)
        _restore(folder)
    with pytest.raises(CollectionError, match="there is no collection"):
        ragkit.upgrade(folder / "docs")
    mine = shutil.copytree(path, folder / "c.rag.format-1")
    with pytest.raises(CollectionError, match="give it another name"):
        ragkit.upgrade(path, embedder=HashEmbedder(16))
    path.rename(folder / "elsewhere")
    with Collection(path, embedder=HashEmbedder(16)) as other:
        other.add(Document("a", "words"))
    assert ragkit.upgrade(path, embedder=HashEmbedder(16)).upgraded is False
    assert _bytes(mine)  # it is not what an upgrade left


def _upgrade_in_child(path, act, exchanged):
    """Upgrade in a child that calls `act(name)` before every durable step."""

    def work():
        if not exchanged:  # as on a system that has no such step
            upgrade_module.exchange = lambda first, second: False
        steps = []
        on_every_step(lambda name: (steps.append(name), act(len(steps))))
        ragkit.upgrade(path, embedder=CountingEmbedder())
        return steps

    status, said = in_child(work)
    assert status in (0, DIED), said
    return said


def _check_killed(path):
    """The old collection is whole, or the new one."""
    if json.loads((path / "collection.json").read_text())["format"] == 1:
        connection = sqlite3.connect(path / "store.db")
        query = "SELECT count(*) FROM documents WHERE born NOT NULL AND died IS NULL"
        assert connection.execute(query).fetchall() == [(11,)]
        connection.close()
        return False
    assert _content(path) == EXPECTED
    return True


def _copy_base(folder):
    for name in ("c.rag", "c.rag.upgrading", "c.rag.format-1"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return shutil.copytree(folder / "base", folder / "c.rag")


def _kill(folder, steps, exchanged):
    """Kill an upgrade before each of these steps; return which collections were there."""
    seen = set()
    for n in steps:
        path = _copy_base(folder)
        _upgrade_in_child(path, lambda i, n=n: i == n and os._exit(DIED), exchanged)
        if path.exists():
            seen.add(_check_killed(path))
        else:
            assert not exchanged
            for act in (lambda c: c.add(Document("a", "words")), lambda c: c.info()):
                with (
                    pytest.raises(CollectionError, match="run `ragkit index upgrade"),
                    Collection(path, embedder=HashEmbedder(16)) as notes,
                ):
                    act(notes)
        ragkit.upgrade(path, embedder=HashEmbedder(16))
        assert _content(path) == EXPECTED
        assert sorted(item.name for item in folder.iterdir()) == ["base", "c.rag", "docs", "plain"]
    return seen


@pytest.mark.parametrize("exchanged", [True, False])
def test_upgrade_when_killed_beside_the_exchange_leaves_one_of_the_two_whole(folder, exchanged):
    _restore(folder).rename(folder / "base")
    steps = _upgrade_in_child(_copy_base(folder), lambda i: None, exchanged)
    renames = [i for i, name in enumerate(steps, start=1) if name == "os.rename"]
    # Before the exchange and while the old one is removed; or between the two renames.
    places = [renames[-2] - 1, renames[-1] + 2] if exchanged else [renames[-2]]
    assert _kill(folder, places, exchanged) == ({True, False} if exchanged else set())


@pytest.mark.faults
@pytest.mark.parametrize("exchanged", [True, False])
def test_upgrade_when_killed_at_any_durable_step_leaves_one_of_the_two_whole(folder, exchanged):
    _restore(folder).rename(folder / "base")
    steps = _upgrade_in_child(_copy_base(folder), lambda i: None, exchanged)
    assert _kill(folder, range(1, len(steps) + 1, 3), exchanged) == {True, False}


def test_upgrade_when_interrupted_leaves_the_old_collection_and_starts_again(folder):
    path = _restore(folder)
    before = _bytes(path)

    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ragkit.upgrade(path, embedder=HashEmbedder(16), on_progress=interrupt)
    assert _bytes(path) == before
    lock = acquire_write_lock(path)
    with pytest.raises(Locked):
        ragkit.upgrade(path, embedder=HashEmbedder(16))
    lock.release()
    assert ragkit.upgrade(path, embedder=HashEmbedder(16), wait=1.0).upgraded
    assert _content(path) == EXPECTED
    assert sorted(item.name for item in folder.iterdir()) == ["c.rag", "docs", "plain"]


def test_index_upgrade_when_interrupted_says_how_to_start_again(ragkit, folder, monkeypatch):
    path = _restore(folder)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ragkit.collection.upgrade.upgrade", interrupted)
    code, _, err = ragkit("index", "upgrade", str(path))
    assert code == 130
    assert f"Start again with: ragkit index upgrade {path}" in err.replace("\n", "")


def test_index_upgrade_when_it_ends_says_what_was_done(ragkit, folder, monkeypatch):
    path = _restore(folder)
    monkeypatch.setattr(
        "ragkit.collection.collection.load_embedder", lambda *_, **__: HashEmbedder(16)
    )
    (folder / "docs" / "bad.json").unlink()
    (folder / "plain" / "breaks.json").write_text('{"text": "It was good."}')
    code, out, _ = ragkit("index", "upgrade", path)
    assert (code, out.strip()) == (
        0,
        f"{path}: upgraded; 8 documents read again, 3 kept as they were stored, 0 failed; 1 texts "
        "embedded, 10 vectors reused",
    )
    code, out, _ = ragkit("index", "upgrade", path)
    assert (code, out.strip()) == (0, f"{path} has the current format")
    code, _, err = ragkit("index", "upgrade", folder / "docs")
    assert (code, "there is no collection at" in err) == (1, True)
