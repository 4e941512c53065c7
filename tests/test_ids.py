"""Ids: two sources never share one, and each source keeps its own."""

import json
import os
import sys
import unicodedata

import pytest
from fault_helpers import temporary_folder

from ragkit.collection import Collection
from ragkit.errors import CollectionError
from ragkit.testing import HashEmbedder
from ragkit.types import Document

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that keeps bytes")


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


@pytest.fixture
def notes(folder):
    with Collection(folder / "notes.rag", embedder=HashEmbedder()) as collection:
        yield collection


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _texts(collection):
    """Return the text of each live document by id."""
    live = [row["id"] for row in collection.documents() if row["state"] == "indexed"]
    return {doc_id: collection.document(doc_id).text for doc_id in live}


def _bytes(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _records(path, ids):
    lines = (json.dumps({"id": own, "text": f"{path.stem} {own}"}) for own in ids)
    return _write(path, "\n".join(lines))


def test_add_when_folders_have_files_of_the_same_name_keeps_all_of_them(notes, folder):
    places = ["a/README.md", "b/README.md", "y/b/README.md", "a/sub/n.txt", "b/sub/n.txt"]
    for place in places:
        _write(folder / place, f"The text of {place}.")
    for name in ("a", "b", "y/b"):
        report = notes.add(folder / name)
        assert (report.changed, report.failed, report.losses) == (0, 0, ())
    expected = {
        "README.md": "The text of a/README.md.",
        "b/README.md": "The text of b/README.md.",
        "y/b/README.md": "The text of y/b/README.md.",
        "sub/n.txt": "The text of a/sub/n.txt.",
        "b/sub/n.txt": "The text of b/sub/n.txt.",
    }
    assert _texts(notes) == expected
    assert notes.document("b/README.md").source == "b/README.md"
    again = notes.add([folder / "y" / "b", folder / "b", folder / "a"])
    assert (again.unchanged, again.added, again.changed) == (5, 0, 0)
    _write(folder / "b" / "README.md", "New words.")
    assert notes.add(folder / "b").changed == 1
    assert _texts(notes) == expected | {"b/README.md": "New words."}
    assert notes.verify().faults == ()


def test_add_when_one_call_has_files_of_the_same_name_keeps_all_of_them(notes, folder):
    for place in ("a/n.txt", "b/n.txt", "c.txt", "d/c.txt"):
        _write(folder / place, f"The text of {place}.")
    items = [folder / "a", folder / "b", folder / "c.txt", folder / "d" / "c.txt", folder / "d"]
    assert (notes.add(items).added, notes.add(items[::-1]).unchanged) == (4, 4)
    assert _texts(notes) == {
        "n.txt": "The text of a/n.txt.",
        "b/n.txt": "The text of b/n.txt.",
        "c.txt": "The text of c.txt.",
        "d/c.txt": "The text of d/c.txt.",
    }


def test_add_when_a_file_is_named_in_another_way_is_the_same_document(notes, folder, monkeypatch):
    _write(folder / "docs" / "sub" / "deep" / "n.txt", "Some words.")
    _write(folder / "docs" / "m.txt", "Other words.")
    (folder / "link").symlink_to(folder / "docs")
    notes.add(folder / "docs")
    monkeypatch.chdir(folder / "docs" / "sub")
    ways = [
        "deep/n.txt",
        "deep",
        ".",
        "..",
        folder,
        folder / "link",
        folder / "link/sub/deep/n.txt",
    ]
    for way in ways:
        report = notes.add(way)
        assert (report.added, report.changed) == (0, 0), way
    assert _texts(notes) == {"sub/deep/n.txt": "Some words.", "m.txt": "Other words."}
    (folder / "docs" / "sub" / "deep" / "n.txt").unlink()
    assert notes.sync(folder / "docs").deleted == 1


def test_add_when_a_folder_follows_its_file_keeps_the_files_id(notes, folder):
    file = _write(folder / "docs" / "sub" / "n.txt", "Some words.")
    notes.add(file)
    assert (notes.add(folder / "docs").unchanged, list(_texts(notes))) == (1, ["n.txt"])
    file.write_text("Changed words.")
    assert (notes.add(folder).changed, list(_texts(notes))) == (1, ["n.txt"])


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_add_when_records_of_two_files_have_the_same_ids_keeps_all(notes, folder, suffix):
    def write(name):
        rows = [{"id": str(n), "text": f"{name} {n}"} for n in (1, 2)]
        text = {
            "csv": "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows),
            "json": json.dumps(rows),
            "jsonl": "\n".join(map(json.dumps, rows)),
        }[suffix]
        _write(folder / "docs" / name / f"t.{suffix}", text)

    write("one")
    write("two")
    assert notes.add(folder / "docs" / "one").added == 2
    assert notes.add(folder / "docs" / "two").added == 2
    assert _texts(notes) == {
        f"t.{suffix}#1": "one 1",
        f"t.{suffix}#2": "one 2",
        f"two/t.{suffix}#1": "two 1",
        f"two/t.{suffix}#2": "two 2",
    }
    assert notes.add(folder / "docs").unchanged == 2


def test_add_when_some_records_have_no_id_gives_them_numbers_that_no_id_has(notes, folder):
    lines = [{"id": 3, "text": "own three"}, {"text": "second"}, {"text": "third"}]
    _write(folder / "m.jsonl", "\n".join(map(json.dumps, lines)))
    _write(folder / "n.json", json.dumps([{"text": "first"}, {"text": "second of n"}]))
    _write(folder / "o.json", json.dumps({"id": "o", "text": "an object", "n": 1}))
    assert notes.add([folder / name for name in ("m.jsonl", "n.json", "o.json")]).added == 6
    assert _texts(notes) == {
        "m.jsonl#3": "own three",
        "m.jsonl@2": "second",
        "m.jsonl@3": "third",
        "n.json#1": "first",
        "n.json#2": "second of n",
        "o.json": "an object\n\nid: o\nn: 1",
    }
    assert notes.document("o.json").metadata == {"id": "o", "n": 1, "format": "json"}


def test_add_when_a_folder_was_moved_knows_its_files(notes, folder):
    for place in ("x/a/one.txt", "x/a/two.txt", "b/one.txt"):
        _write(folder / place, f"The text of {place}.")
    notes.add(folder / "b")
    notes.add(folder / "x" / "a")
    ids = ["a/one.txt", "one.txt", "two.txt"]
    assert sorted(_texts(notes)) == ids
    (folder / "x" / "a").rename(folder / "a")  # the same name
    _write(folder / "a" / "one.txt", "A new text.")
    report = notes.add(folder / "a")
    assert (report.unchanged, report.changed, sorted(_texts(notes))) == (1, 1, ids)
    (folder / "a").rename(folder / "z")  # another name: the content decides
    _write(folder / "z" / "one.txt", "An even newer text.")
    report = notes.sync(folder / "z")
    assert (report.unchanged, report.added, report.changed, report.deleted) == (1, 1, 0, 0)
    assert _texts(notes) == {
        "one.txt": "The text of b/one.txt.",
        "a/one.txt": "A new text.",
        "two.txt": "The text of x/a/two.txt.",
        "z/one.txt": "An even newer text.",
    }


def test_add_when_another_folder_comes_for_one_that_is_gone_is_another_source(notes, folder):
    file = _write(folder / "a" / "one.txt", "The first.")
    notes.add(folder / "a")
    file.unlink()
    (folder / "a").rmdir()
    _write(folder / "b" / "one.txt", "The second.")
    assert notes.add(folder / "b").added == 1
    assert _texts(notes) == {"one.txt": "The first.", "b/one.txt": "The second."}


def test_sync_when_other_folders_were_added_touches_only_its_own(notes, folder):
    for place in ("a/n.txt", "b/n.txt", "b/sub/m.txt", "b/o.txt", "b/p.txt"):
        _write(folder / place, f"The text of {place}.")
    notes.add([folder / "a", folder / "b"])
    for place in ("a/n.txt", "b/n.txt", "b/sub/m.txt"):
        (folder / place).unlink()
    assert notes.sync(folder / "b" / "sub", yes=True).deleted == 1
    assert sorted(_texts(notes)) == ["b/n.txt", "n.txt", "o.txt", "p.txt"]
    assert notes.sync(folder / "b").deleted == 1
    assert sorted(_texts(notes)) == ["n.txt", "o.txt", "p.txt"]
    assert notes.sync(folder / "a", yes=True).deleted == 1
    assert sorted(_texts(notes)) == ["o.txt", "p.txt"]


@LINUX
def test_add_when_a_name_is_decomposed_or_composed_is_the_same_document(notes, folder):
    composed, decomposed = "Müller/é.md", unicodedata.normalize("NFD", "Müller/é.md")
    assert composed != decomposed
    file = _write(folder / "docs" / decomposed, "Some words.")
    notes.add(folder / "docs")
    assert list(_texts(notes)) == [composed]
    _write(folder / "docs" / composed, "Some words.")
    file.unlink()
    file.parent.rmdir()
    report = notes.sync(folder / "docs")
    assert (report.added, report.deleted, list(_texts(notes))) == (0, 0, [composed])
    _write(folder / "docs" / decomposed, "Two files now.")
    assert notes.add(folder / "docs").added == 1
    assert _texts(notes) == {composed: "Some words.", f"docs/{composed}": "Two files now."}
    assert notes.add(folder / "docs").unchanged == 2


@LINUX
def test_add_when_a_folder_is_not_utf8_stores_where_its_files_are(notes, folder):
    root = folder / os.fsdecode(b"caf\xe9")
    _write(root / os.fsdecode(b"\xff.txt"), "Some words.")
    _write(root / "two.txt", "Other words.")
    assert notes.add(root).added == 2
    assert (notes.add(root).unchanged, sorted(_texts(notes))) == (2, ["\\xff.txt", "two.txt"])
    (root / os.fsdecode(b"\xff.txt")).unlink()
    assert (notes.sync(root).deleted, list(_texts(notes))) == (1, ["two.txt"])
    assert notes.verify().faults == ()


def test_add_when_ids_are_raw_gives_records_their_own(notes, folder):
    _records(folder / "corpus.jsonl", ["d1", "d2"])
    _write(folder / "one.json", json.dumps({"_id": "single", "text": "an object"}))
    _write(folder / "t.csv", "id,text\nrow,a row\n,no id\n")
    names = ("corpus.jsonl", "one.json", "t.csv")
    paths = [folder / name for name in names]
    assert notes.add(paths, raw_ids=True).added == 5
    expected = {
        "d1": "corpus d1",
        "d2": "corpus d2",
        "single": "an object",
        "row": "a row",
        "t.csv@2": "no id",
    }
    assert _texts(notes) == expected
    assert notes.add(paths, raw_ids=True).unchanged == 3
    assert notes.add(paths[:1]).added == 2  # the choice is part of the file's key
    assert _texts(notes) == expected | {
        "corpus.jsonl#d1": "corpus d1",
        "corpus.jsonl#d2": "corpus d2",
    }


def _raw_clashes(folder):
    """Return items that clash with what `_raw_base` adds, or with each other."""
    other, twice = folder / "other.jsonl", folder / "twice.csv"
    return [
        [_records(other, ["x", "d1"])],  # another file's record
        [_records(folder / "third.jsonl", ["memo"])],  # a document in memory
        [_records(folder / "f4.jsonl", ["note.txt"])],  # a file's document
        [_records(folder / "f5.jsonl", ["y"]), _records(folder / "f6.jsonl", ["y"])],
        [_records(folder / "f7.jsonl", ["z"]), Document("z", "in memory")],
        [_records(folder / "f8.jsonl", ["w", "w"])],
        [_write(twice, "id,text\n7,a\n7,b\n")],
        [_records(folder / "f9.jsonl", ["new.txt"]), _write(folder / "new.txt", "words")],
    ]


def test_add_when_raw_ids_clash_is_refused_before_it_writes(folder):
    path = folder / "notes.rag"
    base = [
        _records(folder / "base.jsonl", ["d1", "d2"]),
        _write(folder / "note.txt", "A note."),
        Document("memo", "A memo."),
    ]
    with Collection(path, embedder=HashEmbedder()) as notes:
        notes.add(base, raw_ids=True)
    before = _bytes(path)
    for items in _raw_clashes(folder):
        with (
            Collection(path, embedder=HashEmbedder()) as notes,
            pytest.raises(CollectionError, match=r"belongs to .*; nothing was written"),
        ):
            notes.add(items, raw_ids=True)
        assert _bytes(path) == before, items
    for items in _raw_clashes(folder)[3:]:
        new = Collection(folder / "new.rag", embedder=HashEmbedder())
        with pytest.raises(CollectionError, match="nothing was written"):
            new.add(items, raw_ids=True)
        assert not new.path.exists()


def test_add_when_a_raw_record_goes_from_file_to_file_follows_it(notes, folder):
    one, two = _records(folder / "c/one.jsonl", ["a", "b"]), _records(folder / "c/two.jsonl", ["x"])
    notes.add(folder / "c", raw_ids=True)
    _records(one, ["a"])
    _records(two, ["b", "x"])
    assert notes.sync(folder / "c", raw_ids=True).deleted == 0
    assert _texts(notes) == {"a": "one a", "b": "two b", "x": "two x"}
    two.write_bytes(b"\0\0\0")  # it keeps what it had
    _records(one, ["a", "x"])
    with pytest.raises(CollectionError, match=r"'x', which belongs to the file 'two\.jsonl'"):
        notes.add(folder / "c", raw_ids=True)
    _records(one, ["a"])
    _records(two, ["b", "x"])
    two.rename(folder / "c" / "three.jsonl")
    with pytest.raises(CollectionError, match=r"'b', which belongs to the file 'two\.jsonl'"):
        notes.add(folder / "c", raw_ids=True)
    report = notes.sync(folder / "c", raw_ids=True)  # the old file is gone from the folder
    assert (report.deleted, report.failed, sorted(_texts(notes))) == (0, 0, ["a", "b", "x"])
    assert notes.verify().faults == ()


def test_add_when_memory_and_files_have_the_same_id_is_refused_before_it_writes(folder):
    path = folder / "notes.rag"
    note, table = _write(folder / "n.txt", "A note."), _records(folder / "t.jsonl", ["1"])
    later, rows = _write(folder / "later.txt", "Later."), _records(folder / "rows.jsonl", ["5"])
    with Collection(path, embedder=HashEmbedder()) as notes:
        notes.add([note, table, Document("later.txt", "First."), Document("rows.jsonl#5", "Row.")])
    before = _bytes(path)
    clashes = [
        Document("n.txt", "Other words."),
        Document("n.txt", "A note."),
        [Document("fine", "words"), Document("t.jsonl#1", "Other words.")],
        Document("t.jsonl", "Other words."),
        later,
        folder,
        rows,
        [_write(folder / "u.txt", "U."), Document("u.txt", "U.")],
    ]
    for items in clashes:
        with (
            Collection(path, embedder=HashEmbedder()) as notes,
            pytest.raises(CollectionError, match=r"belongs to .*; nothing was written"),
        ):
            notes.add(items)
        assert _bytes(path) == before, items
    with Collection(path, embedder=HashEmbedder()) as notes:
        assert notes.add(Document("later.txt", "Second.")).changed == 1
        notes.delete("later.txt")
        assert notes.add(later).added == 1


def test_add_when_a_generator_has_a_files_id_fails_that_document(notes, folder):
    notes.add(_write(folder / "n.txt", "A note."))
    report = notes.add(Document(name, "Words.") for name in ("m", "n.txt"))
    assert (report.added, report.changed, report.failed) == (1, 0, 1)
    assert [(loss.what, loss.kept) for loss in report.losses] == [("n.txt", "the one of n.txt")]
    assert _texts(notes) == {"m": "Words.", "n.txt": "A note."}


def test_add_when_a_record_and_a_file_come_to_the_same_id_keeps_the_first(notes, folder):
    _write(folder / "d" / "a.csv", "id,text\nb.md,a record\n")
    _write(folder / "d" / "a.csv#b.md", "A file.")
    report = notes.add(folder / "d")
    assert (report.added, report.failed, len(report.losses)) == (1, 1, 1)
    assert notes.add(folder / "d").failed == 1
    assert _texts(notes) == {"a.csv#b.md": "a record"}


def test_index_add_when_ids_clash_exits_with_1_and_writes_nothing(ragkit, tmp_path):
    _write(tmp_path / "docs" / "n.txt", "A note.")
    _records(tmp_path / "a.jsonl", ["1"])
    _records(tmp_path / "b.jsonl", ["1"])
    assert ragkit("index", "add", "docs", "a.jsonl", "--to", "n.rag", "--raw-ids")[0] == 0
    before = _bytes(tmp_path / "n.rag")
    code, _, err = ragkit("index", "add", "b.jsonl", "--to", "n.rag", "--raw-ids")
    assert (code, "belongs to the file 'a.jsonl'" in err.replace("\n", " ")) == (1, True)
    code, _, err = ragkit("index", "add", "-", "--name", "n.txt", "--to", "n.rag", stdin="Words.")
    assert (code, "belongs to the file 'n.txt'" in err.replace("\n", " ")) == (1, True)
    assert _bytes(tmp_path / "n.rag") == before


def test_index_add_when_two_streams_come_keeps_both(ragkit, tmp_path):
    for text in ("One stream.", "Another stream.", "One stream."):
        assert ragkit("index", "add", "-", "--to", "n.rag", stdin=text)[0] == 0
    with Collection("n.rag") as notes:
        texts = _texts(notes)
    assert sorted(texts.values()) == ["Another stream.", "One stream."]
    assert all(doc_id.startswith("stdin-") for doc_id in texts)
