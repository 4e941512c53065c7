import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest
from fault_helpers import small_batches
from tiers import smoke

from ragkit.collection.collection import Collection, Settings
from ragkit.collection.context import Progress
from ragkit.errors import (
    CollectionError,
    CorruptCollection,
    DocumentError,
    EmbedderMismatch,
    FormatMismatch,
    Locked,
    LossError,
    ModelError,
)
from ragkit.indexes import trust
from ragkit.testing import HashEmbedder, check_embedder
from ragkit.types import Document

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # flushing costs nothing there
RETRIEVERS = ("dense", "bm25", "hybrid")
ROCKS = [
    Document("gaas", "Gallium arsenide has a direct gap.", "GaAs", metadata={"year": 2001}),
    Document("si", "Silicon has an indirect gap.", "Silicon", metadata={"year": 1999}),
    Document("fe3o4", "Magnetite is a ferrimagnet.", metadata={"year": 2001, "tags": ["oxide"]}),
]


@pytest.fixture
def tmp_path():
    made = Path(tempfile.mkdtemp(dir=MEMORY))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "notes.rag"


@pytest.fixture
def notes(path):
    with Collection(path, embedder=HashEmbedder()) as collection:
        yield collection


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "docs"
    (made / "sub").mkdir(parents=True)
    (made / "one.txt").write_text("Iron melts at 1538 degrees.")
    (made / "sub" / "two.md").write_text("# Copper\nCopper melts at 1085 degrees.")
    records = [{"_id": f"r{i}", "text": f"Record number {i} of zinc."} for i in range(6)]
    (made / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    return made


def _ids(collection, query="gap", name="dense", k=100, where=None):
    retriever = collection.retriever(name, copies=True)
    return [hit.chunk.doc_id for hit in retriever.retrieve([query], k, where=where)[0]]


def _rows(path, statement):
    connection = sqlite3.connect(path / "store.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def _change(path, statement, *values):
    connection = sqlite3.connect(path / "store.db")
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def _fresh(tmp_path, documents):
    with Collection(tmp_path / "fresh.rag", embedder=HashEmbedder()) as collection:
        collection.add(documents)
        return collection.digest()


def test_add_when_repeated_does_nothing(notes, folder):
    first = notes.add(folder)
    assert (first.added, first.failed, first.n_embedded, first.generation) == (8, 0, 8, 1)
    digest = notes.digest()
    second = notes.add(folder)
    assert (second.added, second.changed, second.unchanged) == (0, 0, 3)
    assert (second.n_embedded, second.n_chunks, second.generation) == (0, 0, 1)
    third = notes.add(ROCKS)
    fourth = notes.add(ROCKS)
    assert (third.added, fourth.added, fourth.unchanged) == (3, 0, 3)
    assert fourth.generation == third.generation
    notes.delete([rock.id for rock in ROCKS])
    assert notes.digest() == digest


def test_add_when_a_file_changed_keeps_its_id_and_replaces_its_chunks(notes, folder):
    notes.add(folder)
    (folder / "one.txt").write_text("Tungsten melts at 3422 degrees.")
    report = notes.add(folder)
    assert (report.added, report.changed, report.unchanged) == (0, 1, 2)
    assert report.n_embedded == 1
    assert "one.txt" in _ids(notes, "tungsten", "bm25")
    assert "one.txt" not in _ids(notes, "iron", "bm25")
    assert notes.document("one.txt").text == "Tungsten melts at 3422 degrees."
    assert notes.info()["documents"]["indexed"] == 8


def test_add_when_only_metadata_changed_replaces_it_and_embeds_nothing(notes, folder):
    notes.add(folder)
    report = notes.add(folder, metadata={"lab": "north"})
    assert (report.changed, report.n_embedded) == (8, 0)
    assert len(_ids(notes, "melts", where={"lab": "north"})) == 8
    assert notes.add(folder, metadata={"lab": "north"}).unchanged == 3
    assert notes.document("data.jsonl#r1").metadata == {"format": "jsonl", "lab": "north"}


def test_add_when_another_encoding_is_given_then_the_files_are_read_again(notes, path, tmp_path):
    root = tmp_path / "legacy"
    root.mkdir()
    text = "\u0434\u043e\u043c \u043d\u0430 \u0433\u043e\u0440\u0435"  # a house, in Russian
    (root / "one.txt").write_bytes(text.encode("koi8-r"))
    report = notes.add(root)
    assert notes.document("one.txt").text == text
    assert ["a guess" in loss.why for loss in report.losses] == [True]
    report = notes.add(root, encoding="cp866")
    wrong = text.encode("koi8-r").decode("cp866")
    assert (report.changed, report.losses) == (1, ())
    assert notes.document("one.txt").text == wrong
    assert notes.add(root, encoding="IBM866").unchanged == 1
    report = notes.sync(root, encoding="koi8-r")
    assert (report.changed, report.losses) == (1, ())
    assert notes.document("one.txt").text == text
    assert notes.sync(root, encoding="KOI8-R").unchanged == 1
    for call in (notes.add, notes.sync):
        with pytest.raises(ValueError, match="encoding is 'nonsense'; expected the name of a char"):
            call(root, encoding="nonsense")


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": float("nan")}, {"a": {1, 2}}])
def test_add_when_metadata_is_no_json_raises_before_it_writes(notes, path, folder, metadata):
    with pytest.raises(ValueError, match="metadata cannot be written as JSON"):
        notes.add(folder, metadata=metadata)
    assert not path.exists()


def test_add_when_one_documents_metadata_is_no_json_fails_that_one(notes):
    report = notes.add([Document("a", "text", metadata={"x": object()}), ROCKS[0]])
    assert (report.added, report.failed) == (1, 1)
    assert "metadata cannot be written as JSON" in report.losses[0].why


def test_add_when_ids_repeat_keeps_the_first_and_says_so(notes, folder):
    report = notes.add([Document("a", "first words"), Document("a", "second words")])
    assert (report.added, notes.document("a").text) == (1, "first words")
    assert [(loss.what, loss.kept) for loss in report.losses] == [
        ("a", "the first one with this id")
    ]
    good_then_bad = notes.add([Document("b", "fine words"), Document("b", "")])
    assert (good_then_bad.added, good_then_bad.failed) == (1, 1)
    assert notes.document("b").text == "fine words"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (Document("", "text"), "its id is ''"),
        (Document(3, "text"), "its id is 3"),
        (Document("a", "   "), "it has no text"),
        (Document("a", None), "it has no text"),
        (Document("a\0", "text"), "contains NUL"),
        (Document("a\ud800", "text"), "lone surrogate"),
        (Document("a", "text", title=None), "its title is None"),
    ],
)
def test_add_when_a_document_is_unusable_fails_it_with_the_reason(notes, document, why):
    report = notes.add([document, ROCKS[0]])
    assert (report.added, report.failed) == (1, 1)
    assert why in report.losses[0].why
    failed = [row for row in notes.documents() if row["state"] == "failed"]
    assert why in failed[0]["reason"]
    assert notes.verify().ok


def test_add_when_a_file_fails_lists_it_and_tries_it_again(notes, folder):
    (folder / "bad.json").write_text("{")
    report = notes.add(folder)
    assert (report.added, report.failed) == (8, 1)
    listed = {row["id"]: row for row in notes.documents()}
    assert listed["bad.json"]["state"] == "failed"
    assert "it is not JSON" in listed["bad.json"]["reason"]
    assert notes.add(folder).failed == 1
    (folder / "bad.json").write_text('{"text": "Now it is good."}')
    assert (notes.add(folder).added, notes.info()["documents"]["failed"]) == (1, 0)
    (folder / "bad.json").write_text("{")
    assert notes.add(folder).failed == 1
    assert notes.document("bad.json").text == "Now it is good."
    (folder / "bad.json").write_text('{"text": "Now it is good."}')
    assert (notes.add(folder).failed, notes.info()["documents"]["failed"]) == (0, 0)


def test_add_when_text_holds_nul_replaces_it_and_keeps_offsets(notes):
    report = notes.add(Document("a", "x\0y\r\nband \ud800gap", "t\0", metadata={"k\0": "v\0"}))
    assert report.losses[0].kept == "U+FFFD in their places"
    document = notes.document("a")
    assert document.text == "x\ufffdy\r\nband \ufffdgap"
    assert (document.title, dict(document.metadata)) == ("t\ufffd", {"k\ufffd": "v\ufffd"})
    chunk = notes.retriever("bm25").retrieve(["gap"])[0][0].chunk
    assert document.text[chunk.start : chunk.end] == chunk.text
    assert notes.verify().ok


def test_add_when_texts_are_equal_embeds_them_once(path):
    embedder = HashEmbedder()
    with Collection(path, embedder=embedder) as notes:
        report = notes.add([Document(f"d{i}", "the same words") for i in range(300)])
        assert (report.added, report.n_embedded, embedder.n_embedded) == (300, 1, 1)
        notes.delete([f"d{i}" for i in range(300)])
        again = notes.add(Document("new", "the same words"))
        assert (again.n_embedded, again.n_reused) == (0, 1)


def test_add_when_there_is_more_than_one_segment_of_a_file_commits_in_between(notes, tmp_path):
    lines = (json.dumps({"_id": f"d{i}", "text": f"w{i % 5} x"}) for i in range(14))
    (tmp_path / "big.jsonl").write_text("\n".join(lines))
    with small_batches():
        report = notes.add(tmp_path / "big.jsonl")
    assert (report.added, report.generation, report.n_embedded) == (14, 2, 5)
    assert notes.add(tmp_path / "big.jsonl").unchanged == 1
    assert len(notes.info()["segments"]) == 2


def test_add_when_losses_occur_records_them_in_the_store(notes, path, folder):
    (folder / ".hidden").write_text("secret")
    report = notes.add([folder, *ROCKS, ROCKS[0]])
    assert sorted(Path(loss.what).name for loss in report.losses) == [".hidden", "gaas"]
    recorded = _rows(path, "SELECT what, why FROM losses")
    assert sorted(recorded) == sorted((loss.what, loss.why) for loss in report.losses)


def test_add_when_strict_raises_at_the_first_loss(path):
    with Collection(path, embedder=HashEmbedder(), strict=True) as notes:
        with pytest.raises(LossError, match="the first one with this id"):
            notes.add([ROCKS[0], ROCKS[0]])
        assert [job["state"] for job in notes.info()["jobs"]] == ["failed"]
        assert notes.retriever("dense").retrieve(["gap"]) == [[]]
        assert notes.add(ROCKS).added == 3


def test_add_when_items_are_wrong_says_so(notes, path, tmp_path):
    with pytest.raises(DocumentError, match="no such file or folder"):
        notes.add(tmp_path / "absent")
    with pytest.raises(TypeError, match="expected a path or a Document"):
        notes.add([3])
    assert not path.exists()


def test_add_when_progress_is_wanted_reports_every_file(notes, folder):
    seen: list[Progress] = []
    notes.add(folder, on_progress=seen.append)
    files = [(p.done, p.total, p.item) for p in seen if p.stage == "files"]
    assert files == [(1, 3, "data.jsonl"), (2, 3, "one.txt"), (3, 3, "sub/two.md")]


def test_add_when_interrupted_keeps_the_collection_whole(notes, folder):
    notes.add(ROCKS)
    digest = notes.digest()

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notes.add(folder, on_progress=stop)
    assert notes.info()["jobs"][0]["state"] == "interrupted"
    assert (notes.digest(), notes.verify().ok) == (digest, True)
    assert notes.add(folder).added == 8
    assert {row["state"] for row in notes.documents()} == {"indexed"}


def test_sync_when_files_and_records_vanished_deletes_them(notes, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    notes.add("docs")
    notes.add(ROCKS)
    (folder / "one.txt").unlink()
    kept = (folder / "data.jsonl").read_text().splitlines()[:4]
    (folder / "data.jsonl").write_text("\n".join(kept))
    report = notes.sync(folder)
    assert report.deleted == 3
    live = {row["id"] for row in notes.documents()}
    records = {f"data.jsonl#r{i}" for i in range(4)}
    assert live == {*records, "sub/two.md", "gaas", "si", "fe3o4"}
    again = notes.sync("docs")
    assert (again.deleted, again.generation) == (0, report.generation)


def test_sync_when_over_half_would_go_refuses_without_yes(notes, folder):
    notes.add(folder)
    (folder / "data.jsonl").write_text('{"_id": "r0", "text": "Record number 0 of zinc."}')
    with pytest.raises(CollectionError, match=r"would delete 5 of 8 documents.*yes=True"):
        notes.sync(folder)
    assert notes.info()["documents"]["indexed"] == 8
    assert notes.sync(folder, yes=True).deleted == 5


def test_sync_when_a_folder_is_empty_now_deletes_all_with_yes(notes, folder):
    notes.add(folder)
    (folder / "bad.json").write_text("{")
    notes.sync(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(CollectionError, match="would delete 8 of 8"):
        notes.sync(folder)
    assert notes.sync(folder, yes=True).deleted == 8
    assert notes.documents() == []


def test_sync_when_a_file_cannot_be_read_any_more_keeps_its_documents(notes, folder):
    notes.add(folder)
    (folder / "data.jsonl").write_bytes(b"\0\0\0")
    (folder / "sub" / "two.md").unlink()
    (folder / "sub" / "two.md").symlink_to("/etc/hostname")
    report = notes.sync(folder)
    assert (report.deleted, report.failed) == (0, 1)
    assert notes.info()["documents"]["indexed"] == 8


def test_sync_when_the_folder_moved_still_knows_its_files(notes, folder):
    notes.add(folder)
    moved = folder.rename(folder.with_name("moved"))
    assert notes.sync(moved).unchanged == 3
    (moved / "one.txt").unlink()
    assert notes.sync(moved).deleted == 1


def test_writes_that_embed_nothing_when_the_model_is_gone_work_without_it(notes, path):
    notes.add(ROCKS)
    notes.close()
    bare = Collection(path)  # no name resolves to its embedder
    assert bare.delete("si") == ["si"]
    bare.compact()
    assert (bare.gc(), bare.trust()) == (0, 0)
    assert _ids(bare, name="bm25", query="gap") == ["gaas"]
    with pytest.raises(ModelError, match="hash"):
        bare.add(ROCKS)


def test_delete_when_some_ids_are_unknown_deletes_the_others(notes):
    notes.add(ROCKS)
    assert notes.delete(["si", "nothing", "gaas", "si"]) == ["gaas", "si"]
    generation = notes.source.generation
    assert notes.delete("nothing") == []
    assert notes.source.generation == generation
    assert _ids(notes) == ["fe3o4"]


def test_delete_when_done_text_is_found_nowhere(notes, path):
    notes.add(ROCKS)
    notes.delete("fe3o4")
    for name in RETRIEVERS:
        assert "fe3o4" not in _ids(notes, "magnetite ferrimagnet", name)
        assert _ids(notes, "magnetite", name, where={"tags": {"contains": "oxide"}}) == []
    assert notes.document("fe3o4") is None
    notes.compact()
    for table in ("documents", "chunks"):
        for row in _rows(path, f"SELECT * FROM {table}"):
            assert "ferrimagnet" not in str(row)


def test_delete_when_another_write_follows_drops_the_text_though_the_segment_stays(notes, path):
    notes.add(ROCKS)
    notes.delete("fe3o4")
    notes.add(Document("zn", "Zinc oxide."))
    for table in ("documents", "chunks"):
        assert "ferrimagnet" not in str(_rows(path, f"SELECT * FROM {table}"))
    assert "fe3o4" not in _ids(notes, "magnetite")


def test_add_when_deleted_before_brings_it_back(notes, folder):
    notes.add(folder)
    digest = notes.digest()
    notes.delete(["one.txt", "data.jsonl#r3"])
    report = notes.add(folder)
    assert (report.added, report.n_embedded) == (2, 0)
    assert notes.digest() == digest
    (folder / "data.jsonl").unlink()
    (folder / "one.txt").unlink()
    notes.delete("data.jsonl#r1")
    assert notes.sync(folder, yes=True).deleted == 6
    assert notes.info()["documents"]["indexed"] == 1


def test_collection_when_the_embedder_is_another_is_refused(notes, path):
    notes.add(ROCKS)
    with pytest.raises(EmbedderMismatch, match=r"built with the embedder 'hash-64'.*'hash-32'"):
        Collection(path, embedder=HashEmbedder(32))
    other = HashEmbedder()
    other.fingerprint = "0" * 32
    with pytest.raises(EmbedderMismatch, match="cannot be compared"):
        Collection(path, embedder=other)


def test_collection_when_settings_differ_is_refused(notes, path):
    notes.add(ROCKS)
    with pytest.raises(CollectionError, match="was created with"):
        Collection(path, settings=Settings(chunk_tokens=7))
    Collection(path, settings=Settings()).close()
    late = Collection(path.with_name("late.rag"), settings=Settings(chunk_tokens=7))
    with Collection(late.path, embedder=HashEmbedder()) as first:
        first.add(ROCKS)
    with pytest.raises(CollectionError, match="was created with"):
        late.digest()


def test_collection_when_made_meanwhile_by_another_takes_its_settings(path):
    mine = Collection(path, embedder=HashEmbedder())
    with Collection(path, embedder=HashEmbedder(), settings=Settings(chunk_tokens=2)) as other:
        other.add(Document("a", "One two three. Four five six."))
    mine.add(Document("b", "One two three. Four five six."))
    assert {row["chunks"] for row in mine.documents()} == {4}
    mine.close()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"format": 99}, FormatMismatch, "has format version 99; this version of ragkit reads 2"),
        ({"embedder": {}}, CorruptCollection, "cannot be read"),
        (
            {"embedder": {"name": "x", "fingerprint": "../x", "dim": 3}},
            CorruptCollection,
            "fingerprint",
        ),
        ({"settings": 3}, CorruptCollection, "cannot be read"),
    ],
)
def test_collection_when_its_description_is_wrong_says_so(notes, path, change, error, said):
    notes.add(ROCKS)
    file = path / "collection.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(error, match=said):
        Collection(path)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        *(("fingerprint", value) for value in ("sha256:0a1b", "0a-1b", "", "a" * 129, "é" * 20, 7)),
        *(("dim", value) for value in (0, -3, np.int64(64), True, 64.0, 1 << 17)),
        *(("name", value) for value in (3, "x" * (1 << 21))),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_add_when_the_embedder_could_not_be_stored_is_refused_before_it_writes(
    path, attribute, value
):
    embedder = HashEmbedder()
    setattr(embedder, attribute, value)
    with pytest.raises((ValueError, TypeError), match=r"expected|bytes"):
        Collection(path, embedder=embedder).add(ROCKS)
    assert not path.exists()
    if not isinstance(value, str) or len(value) < 1 << 21:
        with pytest.raises((AssertionError, TypeError)):
            check_embedder(embedder)


def test_add_when_a_description_is_written_it_can_be_read_again(path):
    embedder = HashEmbedder()
    embedder.name = "fake \ud800 \x00 \u2028 é" * 100
    embedder.fingerprint = "Z" * 128
    settings = Settings(chunk_tokens=1 << 31, overlap=3, k1=1e300, b=0)
    with Collection(path, embedder=embedder, settings=settings) as notes:
        notes.add(ROCKS)
    with Collection(path, embedder=embedder) as again:
        assert again.settings == notes.settings
        assert (again.settings.embedder, again.verify().faults) == (embedder.name, ())


def test_add_when_metadata_is_nested_stores_what_can_be_read_again(notes, path):
    def nested(depth, value=1):
        for _ in range(depth):
            value = {"k": [value]}
        return value

    documents = [
        Document("flat", "gap", metadata={"n": 10**30, "": "empty", "a.b": 1, "é\"'": 2}),
        Document("deep", "gap", metadata=nested(50)),
        Document("deeper", "gap", metadata=nested(51)),
        Document("deepest", "gap", metadata=nested(5000)),
        Document("long", "gap", metadata={"n": 10**5000}),
        Document("keys", "gap", metadata={("a", "b"): 1}),
    ]
    report = notes.add(documents)
    assert (report.added, report.failed) == (2, 4)
    with Collection(path, embedder=HashEmbedder()) as again:
        assert again.document("deep").metadata == nested(50)
        assert again.document("flat").metadata == dict(documents[0].metadata)
        assert _ids(again, where={"n": {">": 5}}) == ["flat"]
        assert again.verify().faults == ()


def test_collection_when_missing_is_not_made_by_reading_or_maintenance(path):
    missing = Collection(path, embedder=HashEmbedder())
    calls = [
        missing.digest,
        missing.verify,
        missing.info,
        missing.gc,
        missing.compact,
        missing.repair,
        lambda: missing.delete("a"),
        lambda: missing.retriever("dense").retrieve(["x"]),
    ]
    for call in calls:
        with pytest.raises(CollectionError, match=r"there is no collection at .*notes\.rag"):
            call()
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(CollectionError, match="is a file; a collection is a folder"):
        Collection(path)


def test_write_when_another_process_writes_raises_locked(notes, path):
    notes.add(ROCKS)
    code = (
        "import filelock, sys\n"
        f"with filelock.FileLock({str(path / 'lock')!r}):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        for write in (lambda: notes.add(ROCKS), notes.gc, lambda: notes.delete("si")):
            with pytest.raises(Locked, match=r"another process is writing to .*wait for it"):
                write()
        assert len(_ids(notes)) == 3
        holder.stdin.close()
    assert notes.add(ROCKS).unchanged == 3
    with filelock.FileLock(path / "lock", timeout=0), pytest.raises(Locked):
        notes.add(ROCKS)


def test_collection_when_read_only_can_be_searched():
    folder = Path(tempfile.mkdtemp())
    try:
        with Collection(folder / "c.rag", embedder=HashEmbedder()) as notes:
            notes.add(ROCKS)
            digest = notes.digest()
        for item in [folder, *folder.rglob("*")]:
            item.chmod(0o555 if item.is_dir() else 0o444)
        code = (
            "import sys; sys.path.insert(0, sys.argv[2])\n"
            "from ragkit.collection import Collection\n"
            "from ragkit.testing import HashEmbedder\n"
            "from ragkit.errors import CollectionError\n"
            "c = Collection(sys.argv[1], embedder=HashEmbedder())\n"
            "print(c.retriever('hybrid').retrieve(['magnetite'])[0][0].chunk.doc_id, c.digest())\n"
            "try:\n    c.delete('si')\n"
            "except CollectionError as error:\n    print(error)\n"
        )
        # root may write anywhere, unless it gives up its capabilities
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        if drop and not shutil.which("setpriv"):
            pytest.skip("root without setpriv can write in a read-only folder")
        root = str(Path(__file__).parents[1])
        found = subprocess.run(
            [*drop, sys.executable, "-W", "error", "-c", code, str(folder / "c.rag"), root],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout.splitlines()[0] == f"fe3o4 {digest}", found.stderr
        assert "cannot be written; check its permissions" in found.stdout
    finally:
        for item in [folder, *folder.rglob("*")]:
            item.chmod(item.stat().st_mode | stat.S_IWUSR)
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_retriever_when_filtered_finds_all_that_pass(notes, name):
    words = [Document(f"d{i:03}", f"gap w{i % 7}", metadata={"n": i}) for i in range(60)]
    for start in (0, 7, 14):
        notes.add(words[start : start + 7])
    notes.add(words[21:])
    assert len(notes.info()["segments"]) > 2
    assert set(_ids(notes, "gap", name, where={"n": {">=": 57}})) == {"d057", "d058", "d059"}
    assert len(_ids(notes, "gap", name, k=10, where={"n": {"<": 30}})) == 10
    assert _ids(notes, "gap", name, where={"n": "3"}) == []
    assert _ids(notes, "gap", name, where={"doc_id": "d003"}) == ["d003"]


@pytest.mark.parametrize("name", RETRIEVERS)
def test_retriever_when_arguments_are_extreme_answers_or_says_why(notes, name):
    notes.add(ROCKS)
    retriever = notes.retriever(name)
    assert len(retriever.retrieve(["gap"], 10**9)[0]) == (2 if name == "bm25" else 3)
    assert len(retriever.retrieve(["gap " * 25_000])[0]) >= 2
    assert retriever.retrieve(["\0"]) is not None
    assert len(retriever.retrieve(["gap\0 x"])[0]) >= 2
    with pytest.raises(ValueError, match="cannot be encoded as UTF-8"):
        retriever.retrieve(["gap \ud800"])
    assert retriever.retrieve([]) == []
    with pytest.raises(ValueError, match="k is 0; expected at least 1"):
        retriever.retrieve(["gap"], 0)
    with pytest.raises(ValueError, match="the query is empty"):
        retriever.retrieve(["gap", " \n"])
    with pytest.raises(TypeError, match="queries is one string"):
        retriever.retrieve("gap")
    notes.delete([rock.id for rock in ROCKS])
    assert retriever.retrieve(["gap"], 5) == [[]]


def test_retriever_when_options_do_not_apply_or_name_is_wrong_refuses(notes):
    with pytest.raises(TypeError, match="'dense' takes no options, but got method"):
        notes.retriever("dense", method="rrf")
    with pytest.raises(ValueError, match="no retriever is named 'sparse'"):
        notes.retriever("sparse")


def test_hits_when_returned_carry_title_source_and_digest(notes):
    notes.add(ROCKS)
    hit = notes.retriever("bm25").retrieve(["gallium"])[0][0]
    assert hit.chunk.metadata["title"] == "GaAs"
    assert hit.chunk.metadata["source"] == "gaas"
    assert hit.chunk.metadata["year"] == 2001
    assert hit.parts[-1].detail == {"terms": {"gallium": pytest.approx(hit.score, abs=2e-6)}}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_hits_when_the_text_is_not_ascii_are_slices_of_it(notes, name):
    text = "Größe: 3·10⁵ m². " * 3 + "Наука 糖尿病 — “gap” 🙂 here. " * 3 + "Ende"
    notes.add([Document("x", text)])
    stored = notes.document("x").text
    assert stored == text
    hits = notes.retriever(name).retrieve(["gap Größe"], k=5)[0]
    assert hits
    for hit in hits:
        chunk = hit.chunk
        assert chunk.text == stored[chunk.start : chunk.end]
        assert len(chunk.text) == chunk.end - chunk.start


def test_bm25_hits_when_segments_are_many_name_what_each_term_added(notes):
    for rock in ROCKS:
        notes.add(rock)
    for hits in notes.retriever("bm25").retrieve(["gallium gap", "band gap"], 10):
        assert hits
        for hit in hits:
            [part] = hit.parts
            assert sum(part.detail["terms"].values()) == pytest.approx(hit.score, abs=5e-6)


def test_snapshot_when_a_writer_commits_stays_as_it_was(notes, path):
    notes.add(ROCKS)
    query = notes.embedder.embed_queries(["gap"])
    old = notes.snapshot()
    before = old.search_vectors(query, 10, None)
    where = {"year": 2001}
    with Collection(path, embedder=HashEmbedder()) as writer:
        writer.delete("gaas")
        assert old.search_vectors(query, 10, None) == before
        assert len(old.search_vectors(query, 10, where)[0]) == 2
        assert len(_ids(notes)) == 2
        assert notes.snapshot() is not old
        writer.add([Document(f"n{i}", "gap") for i in range(3)])
        assert old.search_vectors(query, 10, None) == before
    assert len(_ids(notes)) == 5


def test_snapshot_when_a_document_is_replaced_filters_the_old_version(notes, path):
    notes.add(ROCKS)
    query = notes.embedder.embed_queries(["gap"])
    old = notes.snapshot()
    before = old.search_vectors(query, 10, None)[0]
    with Collection(path, embedder=HashEmbedder()) as writer:
        writer.add([Document("gaas", "Another text.", metadata={"year": 2001})])
        rows = old.search_vectors(query, 10, {"year": {"<": 2002}})[0]
    assert rows == before


def test_retrievers_when_a_writer_commits_meanwhile_see_whole_generations(notes, path):
    """Every generation holds one version, in all of ten documents; hits must never mix them."""
    versions = [[Document(f"d{i}", f"gap v{v}") for i in range(10)] for v in range(12)]
    notes.add(versions[0])
    problems: list[str] = []
    done = threading.Event()

    def read():
        with Collection(path, embedder=HashEmbedder()) as reader:
            retrievers = [reader.retriever(name, copies=True) for name in RETRIEVERS]
            while not done.is_set():
                for retriever in retrievers:
                    hits = retriever.retrieve(["gap"], 30)[0]
                    texts = {hit.chunk.text for hit in hits}
                    if len(hits) != 10 or len(texts) != 1:
                        problems.append(f"{len(hits)} hits of {texts}")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version in versions[1:]:
            notes.add(version)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_snapshot_when_many_threads_filter_answers_each(notes):
    notes.add([Document(f"d{i}", "gap", metadata={"n": i}) for i in range(80)])
    wrong: list[int] = []

    def read(seed):
        for i in range(80):
            n = (i * seed) % 80
            if _ids(notes, where={"n": n}) != [f"d{n}"]:
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bm25_when_scores_are_large_does_not_show_segments(tmp_path, path):
    documents = [Document(f"d{i}", f"w{i % 3} " * (i + 1) + "common gap") for i in range(12)]
    query = "gap w0 w1 w2 common " * 400
    with (
        Collection(tmp_path / "one.rag", embedder=HashEmbedder()) as one,
        Collection(path, embedder=HashEmbedder()) as many,
    ):
        one.add(documents)
        for document in documents[::-1][:7]:
            many.add(document)
        many.add(documents)
        for name in RETRIEVERS:
            first, second = (c.retriever(name).retrieve([query], 20)[0] for c in (one, many))
            assert first == second
            assert name != "bm25" or first[0].score > 16


@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_faiss_factory_when_data_are_few_gives_the_hits_of_exact(tmp_path, factory):
    documents = [Document(f"d{i}", f"gap w{i} v{i % 9}", metadata={"n": i}) for i in range(80)]
    runs = []
    for index in ("exact", factory):
        settings = Settings(index=index)
        path = tmp_path / index
        with Collection(path, embedder=HashEmbedder(), settings=settings) as c:
            c.add(documents[:50])
            c.add(documents[50:])
            c.delete("d3")
            where = {"n": {"<": 20}}
            dense = c.retriever("dense")
            runs.append([dense.retrieve(["gap w7", "v3"], 10, where=w) for w in (None, where)])
            assert c.verify().ok
    assert runs[0] == runs[1]


@pytest.mark.parametrize("damage", ["bytes", "no mac", "strange mac", "foreign key"])
def test_faiss_file_when_not_trusted_is_not_opened(tmp_path, damage, monkeypatch):
    path = tmp_path / "c.rag"
    settings = Settings(index="HNSW16")
    with Collection(path, embedder=HashEmbedder(), settings=settings) as c:
        c.add([Document(f"d{i}", f"gap w{i}") for i in range(30)])
        expected = c.retriever("dense").retrieve(["w3"])
    [file] = path.glob("segments/*/index.faiss")
    mac = file.with_name("index.faiss.mac")
    if damage == "bytes":
        file.write_bytes(b"hostile" + file.read_bytes()[7:])
    elif damage == "no mac":
        mac.unlink()
        file.write_bytes(b"hostile")
    elif damage == "strange mac":
        mac.write_bytes(b"\xff\xfe")
        file.write_bytes(b"hostile")
    else:
        monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "elsewhere"))
    with Collection(path, embedder=HashEmbedder()) as c:
        assert c.retriever("dense").retrieve(["w3"]) == expected
        assert c.verify().ok is (damage == "foreign key")


def test_faiss_file_when_trusted_on_request_is_signed_unless_damaged(tmp_path, monkeypatch):
    path = tmp_path / "c.rag"
    with Collection(path, embedder=HashEmbedder(), settings=Settings(index="Flat")) as c:
        c.add([Document(f"d{i}", f"gap w{i}") for i in range(30)])
    [file] = path.glob("segments/*/index.faiss")
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "elsewhere"))
    with Collection(path, embedder=HashEmbedder()) as c:
        assert not trust.is_trusted(file)
        assert c.trust() == 1
        assert trust.is_trusted(file)
        file.write_bytes(b"hostile" + file.read_bytes()[7:])
        assert c.trust() == 0
        assert not trust.is_trusted(file)


def test_repair_when_a_faiss_file_was_tampered_with_replaces_it(tmp_path):
    path = tmp_path / "c.rag"
    with Collection(path, embedder=HashEmbedder(), settings=Settings(index="Flat")) as c:
        c.add([Document(f"d{i}", f"gap w{i}") for i in range(30)])
        [file] = path.glob("segments/*/index.faiss")
        good = file.read_bytes()
        file.write_bytes(b"hostile")
        assert c.repair() == 0
        assert [f.read_bytes() for f in path.glob("segments/*/index.faiss")] == [good]
        assert c.verify().ok


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _manifest_bit(path: Path) -> None:
    [file] = path.glob("segments/*/manifest.json")
    file.write_text(file.read_text().replace('"n_rows": 3', '"n_rows": 7'))


def _truncate_vectors(path: Path) -> None:
    [file] = path.glob("segments/*/vectors.npy")
    os.truncate(file, 100)


DAMAGES = {
    **{
        name: (lambda path, name=name: _flip(next(path.glob(f"segments/*/{name}"))), 0)
        for name in ("chunks.npy", "vectors.npy", "terms.npy", "rows.npy", "lengths.npy")
    },
    "manifest": (_manifest_bit, 0),
    "no manifest": (lambda path: next(path.glob("segments/*/manifest.json")).unlink(), 0),
    "short vectors": (_truncate_vectors, 0),
    "no segment": (lambda path: shutil.rmtree(next(path.glob("segments/*"))), 0),
    "ledger": (lambda path: _flip(next(path.glob("ledger/*"))), 1),
    "short ledger": (lambda path: os.truncate(next(path.glob("ledger/*")), 300), 2),
    "no ledger": (lambda path: next(path.glob("ledger/*")).unlink(), 3),
    "text": (
        lambda path: _change(
            path, "UPDATE documents SET text = replace(text, 'direct', 'direkt') WHERE id = 'gaas'"
        ),
        0,
    ),
    "chunk text": (
        lambda path: _change(
            path, "UPDATE chunks SET text = replace(text, 'gap', 'cap') WHERE id LIKE 'si:%'"
        ),
        0,
    ),
}


@pytest.mark.parametrize("damage", smoke(DAMAGES, "vectors.npy", "ledger", "text"))
def test_verify_when_a_bit_flipped_finds_it_and_repair_brings_it_back(notes, path, damage):
    notes.add(ROCKS)
    assert notes.verify() == type(notes.verify())(3, 3, 1, ())
    digest, hits = notes.digest(), notes.retriever("hybrid").retrieve(["gap", "oxide"])
    notes.close()
    hurt, n_embedded = DAMAGES[damage]
    hurt(path)
    with Collection(path, embedder=HashEmbedder()) as again:
        found = again.verify()
        assert not found.ok
        assert all(("segment" in f or "ledger" in f or "store.db" in f) for f in found.faults)
        assert again.repair() == n_embedded
        assert again.verify().faults == ()
        assert again.digest() == digest
        assert again.retriever("hybrid").retrieve(["gap", "oxide"]) == hits
        assert again.add(ROCKS).unchanged == 3


def test_repair_when_a_text_is_beyond_it_lets_its_source_be_added_again(notes, path, folder):
    notes.add(folder)
    digest = notes.digest()
    _change(path, "UPDATE documents SET text = 'x' || text WHERE id = 'data.jsonl#r2'")
    _change(path, "UPDATE chunks SET text = 'x' || text WHERE id LIKE 'data.jsonl#r2:%'")
    notes.repair()
    assert any("'data.jsonl#r2'" in fault for fault in notes.verify().faults)
    assert notes.add(folder).changed == 1
    assert (notes.digest(), notes.verify().faults) == (digest, ())


def test_verify_when_a_title_changed_finds_it(notes, path):
    notes.add(ROCKS)
    _change(path, "UPDATE documents SET title = 'InAs' WHERE id = 'gaas'")
    assert "differs from the embedded text" in notes.verify().faults[0]


def test_verify_when_the_database_file_is_damaged_says_so(notes, path):
    notes.add(ROCKS)
    notes.close()
    data = bytearray((path / "store.db").read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 16] = b"\xff" * 16
    (path / "store.db").write_bytes(data)
    with Collection(path, embedder=HashEmbedder()) as again:
        assert not again.verify().ok


def test_repair_when_a_segment_name_is_a_path_touches_nothing_else(notes, path, tmp_path):
    notes.add(ROCKS)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("keep me")
    _change(path, "UPDATE segments SET digest = '../../victim'")
    with Collection(path, embedder=HashEmbedder()) as again:
        for call in (again.repair, again.compact, again.digest):
            with pytest.raises(CorruptCollection, match="not a digest"):
                call()
        assert not again.verify().ok
    assert (victim / "file").read_text() == "keep me"


def test_gc_when_run_keeps_two_generations(notes, path):
    notes.add(ROCKS)
    old = notes.snapshot()
    query = notes.embedder.embed_queries(["gap"])
    before = old.search_vectors(query, 10, {"year": 2001})
    (path / "segments" / "writing-1").mkdir()
    notes.delete("gaas")
    assert not (path / "segments" / "writing-1").exists()
    notes.gc()
    assert old.search_vectors(query, 10, {"year": 2001}) == before
    assert len(_rows(path, "SELECT * FROM documents WHERE died IS NOT NULL AND text != ''")) == 1
    notes.compact()
    assert len(list(path.glob("segments/*"))) == 2
    notes.add(Document("new", "New words."))
    assert len(list(path.glob("segments/*"))) == 2
    assert _rows(path, "SELECT * FROM documents WHERE died IS NOT NULL") == []
    assert notes.gc() == 0


@pytest.mark.parametrize("name", RETRIEVERS)
def test_compact_when_run_keeps_digest_and_answers(notes, tmp_path, name):
    documents = [Document(f"d{i}", f"gap w{i % 5} v{i % 3}") for i in range(25)]
    notes.add(documents[:20])
    for document in documents[20:]:
        notes.add(document)
    notes.delete(["d3", "d4"])
    assert 1 < len(notes.info()["segments"]) <= 16
    digest, hits = notes.digest(), notes.retriever(name).retrieve(["gap w3", "v1"], 30)
    notes.compact()
    assert notes.info()["segments"] == [23]
    assert notes.digest() == digest == _fresh(tmp_path, [*documents[:3], *documents[5:]])
    assert notes.retriever(name).retrieve(["gap w3", "v1"], 30) == hits
    generation = notes.source.generation
    notes.compact()
    assert notes.source.generation == generation
    assert notes.verify().ok


def test_jobs_when_one_died_leaves_nothing_in_the_next(notes, path):
    notes.add(ROCKS[:1])
    _change(
        path,
        "INSERT INTO documents VALUES "
        "(50,'si','','si','Silicon','dead text','{}','x','embedded',NULL,1,NULL,NULL,x''),"
        "(51,'lost','','lost','','lost text','{}','x','embedded',NULL,1,NULL,NULL,x'')",
    )
    _change(path, "INSERT INTO chunks VALUES (90,50,'si:0-4',0,4,'dead','{}',x'00')")
    _change(path, "UPDATE meta SET value = 60 WHERE key = 'next_document'")
    _change(path, "UPDATE meta SET value = 95 WHERE key = 'next_chunk'")
    _change(path, "UPDATE jobs SET state = 'running'")
    assert notes.add(ROCKS[1:]).added == 2
    assert [job["state"] for job in notes.info()["jobs"]] == ["done", "interrupted"]
    assert {r["id"]: r["state"] for r in notes.documents()} == {
        "gaas": "indexed", "si": "indexed", "fe3o4": "indexed", "lost": "embedded",
    }  # fmt: skip
    assert _rows(path, "SELECT * FROM chunks WHERE document = 50") == []
    assert notes.document("lost") is None
    assert notes.verify().ok


def test_vectors_when_stored_are_the_embedders(notes):
    notes.add(ROCKS)
    [segment] = notes.snapshot().segments
    expected = HashEmbedder().embed_queries(["Magnetite is a ferrimagnet."])[0]
    assert any(np.array_equal(row, expected) for row in segment.vectors)


def test_add_when_the_collection_lies_in_the_folder_leaves_itself_out(tmp_path):
    (tmp_path / "a.txt").write_text("Quartz is piezoelectric.")
    with Collection(tmp_path / "notes.rag", embedder=HashEmbedder()) as c:
        assert (c.add(tmp_path).added, c.add(tmp_path).failed) == (1, 0)
        assert [row["id"] for row in c.documents()] == ["a.txt"]
        assert c.sync(tmp_path).deleted == 0


def test_collection_when_the_folder_holds_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CollectionError, match="contains other files"):
        Collection(tmp_path, embedder=HashEmbedder()).add(Document("a", "words"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="a path is empty"):
        Collection(tmp_path / "n.rag", embedder=HashEmbedder()).add("")


def test_collection_when_the_index_is_unknown_is_refused_before_any_work(tmp_path):
    embedder = HashEmbedder()
    c = Collection(tmp_path / "n.rag", embedder=embedder, settings=Settings(index="foo"))
    with pytest.raises(ValueError, match="does not accept the factory 'foo'"):
        c.add(Document("a", "words"))
    assert (embedder.n_embedded, (tmp_path / "n.rag").exists()) == (0, False)
    with pytest.raises(TypeError, match="the setting k1 is 'x'"):
        Settings(k1="x")


@pytest.mark.parametrize("damage", ["overwritten", "truncated"])
def test_writing_when_the_store_is_damaged_says_so(tmp_path, damage):
    path = tmp_path / "n.rag"
    with Collection(path, embedder=HashEmbedder()) as c:
        c.add([Document(f"d{i}", f"gap w{i}") for i in range(200)])
    data = (path / "store.db").read_bytes()
    data = b"\xff" * 2048 + data[2048:] if damage == "overwritten" else data[: len(data) // 3]
    (path / "store.db").write_bytes(data)
    for call in ("repair", "compact", "gc"):
        with pytest.raises(CollectionError, match=r"store\.db"):
            getattr(Collection(path, embedder=HashEmbedder()), call)()


@pytest.mark.faults
def test_chunks_when_a_writer_commits_meanwhile_are_those_of_one_generation(tmp_path):
    documents = [Document(f"d{i:04}", f"Number {i}.") for i in range(1200)]
    with Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as writer:
        writer.add(documents)
        with Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as reader:
            chunks = reader.chunks()
            found = [next(chunks)]
            for i in range(600, 604):  # more generations than are kept
                writer.delete([f"d{j:04}" for j in range(i, 1200, 4)])
            writer.compact()
            writer.delete("d0001")
            found += chunks
            assert [chunk.text for chunk in found] == [each.text for each in documents]
            assert sum(1 for _ in reader.chunks()) == 599


def test_use_adapter_when_another_process_is_writing_is_refused(tmp_path):
    with Collection(tmp_path / "c.rag", embedder=HashEmbedder()) as notes:
        notes.add(Document("a", "One."))
        source = tmp_path / "adapter"
        source.mkdir()
        about = {"format": 1, "base": "b", "base_fingerprint": "f", "task": "t"}
        (source / "ragkit.json").write_text(json.dumps(about))
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (source / name).write_text("")
        with filelock.FileLock(notes.path / "lock"), pytest.raises(Locked):
            notes.use_adapter(source)
        assert not (notes.path / "adapter").exists()
        notes.use_adapter(source)
        assert len(list((notes.path / "adapter").iterdir())) == 3


def test_table_when_it_has_several_chunks_then_the_header_is_indexed_with_each(path):
    rows = "\n".join(f"| V-{i} | {i}.5 |" for i in range(60))
    table = f"| valve | pressure |\n| --- | --- |\n{rows}"
    with Collection(path, settings=Settings(chunk_tokens=60), embedder=HashEmbedder()) as c:
        report = c.add([Document("plant", table, "Plant")])
        chunks = sorted(c.chunks(), key=lambda chunk: chunk.start)
        assert [chunk.table for chunk in chunks] == [
            "",
            *["| valve | pressure |"] * (len(chunks) - 1),
        ]
        assert report.n_chunks == len(chunks) > 3
        assert len(_ids(c, "pressure", "bm25")) == len(chunks)
        assert c.verify().ok
        digest = c.digest()
        assert c.repair() == 0
        assert (c.verify().ok, c.digest()) == (True, digest)
    _change(path, "UPDATE chunks SET metadata = replace(metadata, 'valve', 'tank')")
    with Collection(path, embedder=HashEmbedder()) as c:
        assert any("differs from the embedded text" in fault for fault in c.verify().faults)
