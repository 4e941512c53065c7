"""Flipped bits, truncated and missing files, and malicious collections."""

import json
import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from fault_helpers import (
    RETRIEVERS,
    documents,
    in_child,
    opened,
    small_batches,
    temporary_folder,
)
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke

from ragkit.collection.collection import Collection, Settings
from ragkit.digests import digest as digest_of
from ragkit.digests import file_digest
from ragkit.errors import CollectionError, CorruptCollection, FormatMismatch, RagkitError
from ragkit.testing import HashEmbedder
from ragkit.types import Document

QUERIES = ["gap band", "title w3", "version"]
ARRAYS = ("chunks", "vectors", "terms", "term_ends", "posting_ends", "rows", "counts", "lengths")


@pytest.fixture(scope="module")
def base():
    """Create a collection with several segments, dead rows and files."""
    with temporary_folder() as folder:
        docs = folder / "docs"
        docs.mkdir()
        for i in range(3):
            (docs / f"file{i}.txt").write_text(f"gap of file {i}. Band {i}.")
        with small_batches(), opened(folder / "c.rag") as c:
            c.add(documents(0, 9))
            c.add(docs)
            c.add(documents(12, 16))
            c.delete("d13")
        yield folder / "c.rag"


@pytest.fixture
def path(base, tmp_path_factory):
    with temporary_folder() as folder:
        yield Path(shutil.copytree(base, folder / "c.rag"))


def _answers(collection):
    """Return all content that a caller can read."""
    listed = [
        (row["id"], row["title"], row["chunks"])
        for row in collection.documents()
        if row["state"] == "indexed"
    ]
    found = [collection.document(row[0]) for row in listed]
    hits = [
        [(hit.score, hit.chunk) for hit in run]
        for name in RETRIEVERS
        for where in (None, {"n": {"<": 7}})
        for run in collection.retriever(name).retrieve(QUERIES, 50, where=where)
    ]
    return collection.digest(), listed, found, hits


def _known(base):
    with opened(base) as collection:
        assert collection.verify().faults == ()
        return _answers(collection)


def _flip(file, at, bit=2):
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def _examine(path, known):
    """Check a damaged collection in a child that may crash: (results are correct, faults)."""

    def work():
        try:
            with opened(path) as collection:
                right = repr(_answers(collection)) == repr(known)
                again = False
        except CollectionError as error:
            right, again = str(error), True
        try:
            with opened(path) as collection:
                faults = list(collection.verify().faults)
        except CollectionError as error:
            faults = [str(error)]
        assert not again or faults, f"search fails ({right}), and verify finds nothing"
        return right, faults

    status, result = in_child(work)
    assert status == 0, result
    return result


def _repaired(path, known):
    try:
        opened(path).close()
    except CorruptCollection:
        (path / "collection.json").unlink()  # as the message advises
    with small_batches(), opened(path) as collection:
        collection.repair()
        assert collection.verify().faults == ()
        return repr(_answers(collection)) == repr(known)


def _files_but_the_store(path):
    """Return one file of every kind; of the segments, the first."""
    first = sorted((path / "segments").iterdir())[0]
    return sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("lock", "index.faiss.mac")
        and not file.name.startswith("store.db")
        and (file.parent == first or "segments" not in file.parts)
    )  # fmt: skip


def _places(size):
    return sorted({0, 9, 60, 127, size // 2, size - 1} & set(range(size)))


@pytest.mark.parametrize("everywhere", smoke([False, True]))
def test_verify_when_a_bit_flipped_in_any_file_tells_and_repair_brings_it_back(base, everywhere):
    known = _known(base)
    for name in _files_but_the_store(base):
        size = (base / name).stat().st_size
        for n, at in enumerate(_places(size) if everywhere else [size // 2]):
            with temporary_folder() as folder:
                path = Path(shutil.copytree(base, folder / "c.rag"))
                _flip(path / name, at, bit=(at + n) % 8)
                right, faults = _examine(path, known)
                assert faults, (name, at, right)
                if n % 3 == 0 and (everywhere or name.endswith("vectors.npy")):
                    assert _repaired(path, known), (name, at)


def _check_flips_of_the_store(base, known, name, n_flips, seed):
    """A flipped bit is detected, or it has no visible effect."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    n_told = 0
    size = (base / name).stat().st_size
    for _ in range(n_flips):
        with temporary_folder() as folder:
            path = Path(shutil.copytree(base, folder / "c.rag"))
            at, bit = dice.randrange(size), dice.randrange(8)
            _flip(path / name, at, bit)
            right, faults = _examine(path, known)
            assert faults or right is True, (name, at, bit)
            n_told += bool(faults)
    return n_told


def test_verify_when_a_bit_flipped_in_the_store_tells_or_nothing_changed(base):
    assert _check_flips_of_the_store(base, _known(base), "store.db", 6, seed=4) > 0


@pytest.mark.faults
def test_verify_when_bits_flip_all_over_the_store_tells_or_nothing_changed(base):
    seed = random.SystemRandom().randrange(10**6)
    assert _check_flips_of_the_store(base, _known(base), "store.db", 200, seed=seed) > 3


CHANGES = [
    "UPDATE documents SET metadata = replace(metadata, '3', '4') WHERE id = 'd03'",
    "UPDATE documents SET source = 'elsewhere' WHERE id = 'd03'",
    "UPDATE documents SET title = 'title 9' WHERE id = 'd03'",
    "UPDATE documents SET id = 'd99' WHERE id = 'd03'",
    "UPDATE documents SET file = 'x' WHERE id = 'file1.txt'",
    "UPDATE documents SET died = 0 WHERE id = 'd03'",
    "UPDATE documents SET died = NULL WHERE id = 'd13'",
    "UPDATE documents SET born = NULL WHERE id = 'd03'",
    "UPDATE documents SET state = 'indexes' WHERE id = 'd03'",
    "UPDATE chunks SET metadata = '{}' WHERE id LIKE 'd03:%'",
    "UPDATE chunks SET id = 'd03:9-99' WHERE id LIKE 'd03:%'",
    "UPDATE chunks SET document = document + 1 WHERE id LIKE 'd03:%'",
    "UPDATE chunks SET start = start + 1 WHERE id LIKE 'd03:%'",
    "UPDATE chunks SET key = x'00' WHERE id LIKE 'd03:%'",
    "UPDATE files SET root = '/elsewhere' WHERE id = 'file1.txt'",
    "UPDATE files SET id = 'file9.txt' WHERE id = 'file1.txt'",
    "UPDATE ledger SET row = row + 1 WHERE row = 3",
    "UPDATE ledger SET key = zeroblob(16) WHERE row = 3",
    "UPDATE ledger SET role = 'passages' WHERE row = 3",
    "UPDATE ledger SET checksum = checksum + 1 WHERE row = 3",
    "UPDATE segments SET died = 1 WHERE n_rows = 3",
    "UPDATE meta SET value = '1' WHERE key = 'generation'",
    "UPDATE meta SET value = '1' WHERE key = 'next_document'",
    "UPDATE meta SET value = '1' WHERE key = 'next_chunk'",
    "UPDATE meta SET value = '3' WHERE key LIKE 'ledger:%'",
    "UPDATE meta SET value = replace(value, '200', '201') WHERE key = 'description'",
    "DELETE FROM seals WHERE document = 2",
    "DELETE FROM documents WHERE id = 'd03'",
    "DELETE FROM chunks WHERE id LIKE 'd03:%'",
]


@pytest.mark.parametrize("change", smoke(CHANGES, CHANGES[0], CHANGES[12], CHANGES[-1]))
def test_verify_when_a_value_changed_in_the_store_tells(path, base, change):
    _sql(path, change)
    _, faults = _examine(path, _known(base))
    assert faults


def _sql(path, *statements):
    connection = sqlite3.connect(path / "store.db", isolation_level=None)
    for statement in statements:
        assert connection.execute(statement).rowcount != 0, statement
    connection.close()


def test_repair_when_metadata_changed_lets_the_source_be_added_again(path, base):
    known = _known(base)
    _sql(path, "UPDATE documents SET metadata = '{\"n\": 8}' WHERE id = 'd03'")
    with opened(path) as collection:
        assert any("'d03'" in fault for fault in collection.verify().faults)
        collection.repair()
        assert any("'d03'" in fault for fault in collection.verify().faults)
        assert collection.add(documents(3, 4)).changed == 1
        assert collection.verify().faults == ()
        assert collection.digest() == known[0]


def test_verify_when_the_ledgers_size_in_the_store_is_wrong_tells_and_repair_mends_it(path, base):
    _sql(path, "UPDATE meta SET value = '3' WHERE key LIKE 'ledger:%'")
    with opened(path) as collection:
        collection.repair()
        assert collection.verify().faults == ()


@pytest.fixture(scope="module")
def logged():
    """Create a collection whose writer was killed, so that its last generations are in the log."""
    with temporary_folder() as folder:
        path = folder / "c.rag"
        with opened(path) as collection:
            collection.add(documents(0, 4))

        def work():
            collection = opened(path)
            with collection._writing():
                with pytest.raises(CollectionError, match="another process"):
                    collection.gc()
                os._exit(0)

        def add():
            from ragkit.store.store import Store

            Store.close = lambda store: os._exit(0)
            opened(path).add(documents(4, 8))

        assert in_child(work)[0] == 0
        assert in_child(add)[0] == 0
        assert (path / "store.db-wal").stat().st_size > 0
        yield path


@pytest.mark.faults
def test_verify_when_the_log_is_damaged_tells(logged):
    known = _known(logged)
    assert len(known[1]) == 8
    size = (logged / "store.db-wal").stat().st_size
    page = 4096 + 24
    places = [0, 5, 17, 25, *(32 + page * n + at for n in range(size // page) for at in (9, 2000))]
    for at in places[:12]:
        with temporary_folder() as folder:
            path = Path(shutil.copytree(logged, folder / "c.rag"))
            _flip(path / "store.db-wal", at)
            right, faults = _examine(path, known)
            assert any("store.db-wal" in fault for fault in faults), (at, right, faults)


def test_log_when_left_by_a_killed_writer_is_no_fault_and_is_taken_in(logged):
    with temporary_folder() as folder:
        path = Path(shutil.copytree(logged, folder / "c.rag"))
        with opened(path) as collection:
            assert collection.verify().faults == ()
            assert collection.add(documents(0, 8)).unchanged == 8
        log = path / "store.db-wal"
        assert not log.exists() or log.stat().st_size == 0


@pytest.mark.faults
@pytest.mark.parametrize("cut", ["to nothing", "in half", "by a byte", "longer", "deleted"])
def test_files_when_cut_or_gone_are_told_and_repaired(base, cut):
    known = _known(base)
    for name in _files_but_the_store(base):
        with temporary_folder() as folder:
            path = Path(shutil.copytree(base, folder / "c.rag"))
            file = path / name
            size = file.stat().st_size
            if cut == "deleted":
                file.unlink()
            else:
                length = {"to nothing": 0, "in half": size // 2, "by a byte": size - 1}
                os.truncate(file, length.get(cut, size + 4096))
            _, faults = _examine(path, known)
            if (cut, file.parent.name) == ("longer", "ledger"):
                assert faults == []  # vectors without keys, as left by a killed writer
            else:
                assert faults, (name, cut)
                assert _repaired(path, known), (name, cut)


@pytest.mark.parametrize("cut", smoke([0, 100, 4096, 5000, -1], 5000))
def test_store_when_cut_is_told(path, base, cut):
    size = (path / "store.db").stat().st_size
    os.truncate(path / "store.db", cut if cut >= 0 else size - 1)
    right, faults = _examine(path, _known(base))
    assert faults
    assert right is not True or cut == -1


def test_store_when_deleted_is_not_taken_for_an_empty_collection(path):
    (path / "store.db").unlink()
    for call in (lambda c: c.digest(), lambda c: c.add(documents(0, 1)), lambda c: c.repair()):
        with opened(path) as collection, pytest.raises(CorruptCollection, match=r"lost its store"):
            call(collection)
    (path / "store.db-wal").write_bytes(b"only a log")
    with opened(path) as collection, pytest.raises(CorruptCollection, match=r"lost its store"):
        collection.digest()


def test_segment_folder_when_deleted_or_littered_is_rebuilt(path, base):
    known = _known(base)
    first, second, *_ = sorted((path / "segments").iterdir())
    shutil.rmtree(first)
    (second / "notes.txt").write_text("mine")
    _, faults = _examine(path, known)
    assert any(first.name in fault for fault in faults)
    assert any("'notes.txt' does not belong to it" in fault for fault in faults)
    assert _repaired(path, known)


def test_unknown_files_when_beside_the_own_change_nothing_and_stay(path, base):
    (path / "notes.txt").write_text("mine")
    (path / "segments" / "notes.txt").write_text("mine")
    (path / "segments" / "mine").mkdir()
    right, faults = _examine(path, _known(base))
    assert (right, faults) == (True, [])
    with opened(path) as collection:
        collection.compact()
        collection.gc()
    assert (path / "segments" / "mine").is_dir()
    assert (path / "segments" / "notes.txt").read_text() == "mine"


def test_faiss_file_when_damaged_is_not_opened_and_is_told_and_repaired(tmp_path):
    path = tmp_path / "c.rag"
    with Collection(path, embedder=HashEmbedder(16), settings=Settings(index="Flat")) as c:
        c.add(documents(0, 9))
        known = _answers(c)
    [file] = path.glob("segments/*/index.faiss")
    good = file.read_bytes()
    for at in (0, 4, 40, len(good) // 2, len(good) - 1, None):
        if at is None:
            file.write_bytes(good[: len(good) // 2])
        else:
            _flip(file, at)
        with opened(path) as c:
            assert repr(_answers(c)) == repr(known)
            assert any("index.faiss does not match" in fault for fault in c.verify().faults)
            c.repair()
            assert c.verify().faults == ()
        assert file.read_bytes() == good


def _description(path, change):
    file = path / "collection.json"
    file.write_text(change(file.read_text()))


DESCRIPTIONS = {
    "nested": lambda text: "[" * 100_000,
    "huge number": lambda text: text.replace('"k1": 1.5', '"k1": 1e400'),
    "many digits": lambda text: text.replace('"k1": 1.5', '"k1": ' + "9" * 10_000),
    "huge integer": lambda text: text.replace('"overlap": 0', '"overlap": ' + "9" * 4_000),
    "NaN": lambda text: text.replace('"b": 0.5', '"b": NaN'),
    "huge dim": lambda text: text.replace('"dim": 16', '"dim": 1000000000000'),
    "negative dim": lambda text: text.replace('"dim": 16', '"dim": -16'),
    "true dim": lambda text: text.replace('"dim": 16', '"dim": true'),
    "list": lambda text: f"[{text}]",
    "number": lambda text: "3",
    "empty": lambda text: "",
    "long": lambda text: text + " " * (1 << 21),
    "no UTF-8": lambda text: text.replace("english", "engl\udcffsh"),
    "language": lambda text: text.replace("english", "klingon"),
    "language type": lambda text: text.replace('"english"', "7"),
    "tokens": lambda text: text.replace('"chunk_tokens": 200', '"chunk_tokens": 0'),
    "factory": lambda text: text.replace('"exact"', '"HNSW999999"'),
    "factory dims": lambda text: text.replace('"exact"', '"Pad1000000,Flat"'),
    "factory text": lambda text: text.replace('"exact"', '"Flat; rm"'),
    "embedder type": lambda text: text.replace('"name": "hash-16"', '"name": 16'),
    "path": lambda text: text.replace('"fingerprint": "', '"fingerprint": "../../'),
    "long path": lambda text: text.replace('"fingerprint": "', '"fingerprint": "' + "a" * 5_000),
    "format": lambda text: text.replace('"format": 2', '"format": [' + "9" * 4_000 + "]"),
    "k1": lambda text: text.replace('"k1": 1.5', '"k1": 1.4'),
    "key": lambda text: text.replace('"k1"', '"k7"'),
    "digest": lambda text: text.replace('"digest"', '"digesu"'),
}


def test_description_when_damaged_says_how_to_get_it_back(path):
    (path / "collection.json").write_text("{")
    with pytest.raises(CorruptCollection, match="delete this file, and `ragkit index repair`"):
        opened(path)


@pytest.mark.parametrize("change", DESCRIPTIONS)
def test_description_when_hostile_is_refused_in_words(path, change):
    file = path / "collection.json"
    before = file.read_text()
    after = DESCRIPTIONS[change](before)
    assert after != before
    file.write_bytes(after.encode("utf-8", "surrogateescape"))
    with pytest.raises((CorruptCollection, FormatMismatch)) as caught:
        Collection(path)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_description_when_it_is_no_file_is_refused_at_once(path, kind):
    file = path / "collection.json"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    status, message = in_child(lambda: opened(path).digest(), hang_s=10)
    assert status == 2, message
    assert "collection.json" in message


def _resign(path, change):
    """Change the first segment and rename it to match its new manifest, as an attacker would."""
    folder = sorted((path / "segments").iterdir())[0]
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest)
    text = json.dumps(manifest)
    (folder / "manifest.json").write_text(text)
    name = digest_of(text.encode())
    folder.rename(folder.with_name(name))
    _sql(path, f"UPDATE segments SET digest = '{name}' WHERE digest = '{folder.name}'")


def _array(name, make):
    """Change one array and update its digest in the manifest."""

    def change(folder, manifest):
        file = folder / f"{name}.npy"
        data = make(np.load(file))
        if isinstance(data, bytes):
            file.write_bytes(data)
        else:
            np.save(file, data)
        manifest["files"][file.name] = file_digest(file)

    return change


def _header(descr, shape):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


def _fields(**fields):
    return lambda folder, manifest: manifest.update(fields)


def _listed(name):
    def change(folder, manifest):
        manifest["files"][name] = "0" * 32

    return change


def _put(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


HOSTILE_SEGMENTS = {
    "listed path": _listed("../../../etc/passwd"),
    "listed parent": _listed(".."),
    "files type": _fields(files=["chunks.npy"]),
    "files missing": _fields(files={}),
    "dim": _fields(dim=10**30),
    "dim type": _fields(dim="16"),
    "format": _fields(format="1" * 3_000),
    "huge rows": _array("vectors", lambda a: _header("<f4", "(1000000000000, 16)")),
    "overflowing rows": _array("vectors", lambda a: _header("<f4", "(4611686018427387904, 16)")),
    "negative rows": _array("vectors", lambda a: _header("<f4", "(-1, 16)")),
    "object rows": _array("chunks", lambda a: _header("|O", "(4,)")),
    "structured rows": _array("chunks", lambda a: _header([("a", "<i8")], "(4,)")),
    "deep header": _array("chunks", lambda a: _header("<i8", "(" * 60)),
    "no chunk": _array("chunks", lambda a: _put(a, 0, 10**15)),
    "negative chunk": _array("chunks", lambda a: _put(a, 0, -5)),
    "other dim": _array("vectors", lambda a: np.tile(a, 2)),
    "NaN": _array("vectors", lambda a: a * np.float32(np.nan)),
    "infinity": _array("vectors", lambda a: a + np.float32(np.inf)),
    "row beyond": _array("rows", lambda a: a + np.int32(1_000_000)),
    "row negative": _array("rows", lambda a: -a - np.int32(1)),
    "count zero": _array("counts", lambda a: a * np.int32(0)),
    "count negative": _array("counts", lambda a: -a),
    "ends beyond": _array("posting_ends", lambda a: a + 10**12),
    "ends falling": _array("posting_ends", lambda a: _put(a, 0, 10**6)),
    "term ends beyond": _array("term_ends", lambda a: a + 10**12),
    "term ends negative": _array("term_ends", lambda a: _put(a, 0, -1)),
    "length negative": _array("lengths", lambda a: -a),
    "fewer terms": _array("term_ends", lambda a: a[:-1]),
    "fewer counts": _array("counts", lambda a: a[:-1]),
    "float rows": _array("rows", lambda a: a.astype(np.float64)),
}


@pytest.mark.parametrize(
    "change", smoke(HOSTILE_SEGMENTS, "listed path", "huge rows", "row beyond")
)
def test_segment_when_hostile_is_refused_and_rebuilt(path, base, change):
    _resign(path, HOSTILE_SEGMENTS[change])

    def work():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # prevents huge allocations
        refused = []
        for call in (_answers, lambda c: c.compact()):
            try:
                with opened(path) as collection:
                    call(collection)
            except CollectionError as error:
                refused.append(str(error))
        return refused

    status, refused = in_child(work)
    assert status == 0, refused
    assert refused, "hostile arrays were used"
    assert _repaired(path, _known(base))


HOSTILE_STORES = {
    "another database": ["CREATE TABLE customers (name TEXT)"],
    "view": [
        "ALTER TABLE documents RENAME TO other",
        "CREATE VIEW documents AS WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) "
        "SELECT x AS seq FROM t",
    ],
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON jobs BEGIN DELETE FROM documents; END"],
    "index": ["CREATE INDEX i ON chunks (length(hex(text)))"],
    "column": ["ALTER TABLE documents ADD COLUMN extra TEXT DEFAULT 'x'"],
    "missing table": ["DROP TABLE chunks"],
    "missing column": ["DROP INDEX documents_died", "ALTER TABLE documents DROP COLUMN died"],
    "generation": ["UPDATE meta SET value = '9999999999999999999999' WHERE key = 'generation'"],
    "generation text": ["UPDATE meta SET value = 'one' WHERE key = 'generation'"],
    "generation blob": ["UPDATE meta SET value = x'ff' WHERE key = 'generation'"],
    "segment name": ["UPDATE segments SET digest = '../../etc' WHERE born = 1"],
    "segment blob": ["UPDATE segments SET digest = x'00' WHERE born = 1"],
    "text blob": ["UPDATE documents SET text = x'ff00' WHERE id = 'd03'"],
    "text no UTF-8": ["UPDATE documents SET text = CAST(x'ff00' AS TEXT) WHERE id = 'd03'"],
    "chunk blob": ["UPDATE chunks SET text = x'ff' WHERE id LIKE 'd03:%'"],
    "id number": ["UPDATE chunks SET start = 'x' WHERE id LIKE 'd03:%'"],
    "metadata": ["UPDATE chunks SET metadata = '[' WHERE id LIKE 'd03:%'"],
    "metadata list": ["UPDATE chunks SET metadata = '[3]' WHERE id LIKE 'd03:%'"],
    "metadata nested": [
        "UPDATE documents SET metadata = printf('%.*c', 200000, '[') WHERE id = 'd03'"
    ],
}


@pytest.mark.parametrize("change", smoke(HOSTILE_STORES, "view", "segment name", "text no UTF-8"))
def test_store_when_hostile_is_refused_in_words(path, change):
    connection = sqlite3.connect(path / "store.db", isolation_level=None)
    if change == "missing table":
        connection.execute("DELETE FROM chunks")
    for statement in HOSTILE_STORES[change]:
        connection.execute(statement)
    connection.close()

    def work():
        refused = []
        for call in (_answers, lambda c: c.verify().faults or None, lambda c: c.compact()):
            try:
                with opened(path) as collection:
                    result = call(collection)
                    refused += [str(fault) for fault in result] if isinstance(result, tuple) else []
            except CollectionError as error:
                refused.append(str(error))
        return refused

    status, refused = in_child(work, hang_s=20)
    assert status == 0, refused
    assert refused
    assert not any("Traceback" in line for line in refused)


def test_store_when_it_is_another_programs_gets_no_tables(path):
    (path / "store.db").unlink()
    with sqlite3.connect(path / "store.db") as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    before = (path / "store.db").read_bytes()
    with opened(path) as collection, pytest.raises(CorruptCollection, match="'customers'"):
        collection.add(documents(0, 1))
    connection = sqlite3.connect(path / "store.db")
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("customers",)]
    connection.close()
    assert len(before) == (path / "store.db").stat().st_size


SQL = "'; DROP TABLE documents; --"


def test_texts_when_they_look_like_sql_are_texts(tmp_path):
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document(SQL, f"gap {SQL}", SQL, SQL, metadata={SQL: SQL, "n": 1})])
        for where in ({SQL: SQL}, {"doc_id": SQL}, {"title": SQL}, {"source": SQL}):
            for name in RETRIEVERS:
                [hits] = collection.retriever(name).retrieve(["gap"], where=where)
                assert [hit.chunk.doc_id for hit in hits] == [SQL]
        assert collection.retriever("dense").retrieve(["gap"], where={"n": SQL}) == [[]]
        assert collection.delete(SQL) == [SQL]
        assert collection.verify().faults == ()


@pytest.mark.parametrize("victim", ["segments", "ledger file", "collection.json.writing"])
def test_links_when_a_collection_brings_them_lead_to_no_harm(path, tmp_path, victim):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "photos").mkdir()
    (outside / "photos" / "a.jpg").write_text("keep")
    (outside / "file").write_text("keep this text, which is mine")
    if victim == "segments":
        shutil.copytree(path / "segments", outside, dirs_exist_ok=True)
        shutil.rmtree(path / "segments")
        (path / "segments").symlink_to(outside)
    elif victim == "ledger file":
        [file] = (path / "ledger").iterdir()
        file.unlink()
        file.symlink_to(outside / "file")
    else:
        (path / "collection.json").unlink()
        (path / victim).symlink_to(outside / "file")
    refused = []
    for call in (lambda c: c.repair(), lambda c: c.add(documents(30, 33)), lambda c: c.gc()):
        try:
            with opened(path) as collection:
                call(collection)
        except CollectionError as error:
            refused.append(str(error))
    assert bool(refused) is (victim == "ledger file"), refused
    assert (outside / "photos" / "a.jpg").read_text() == "keep"
    assert (outside / "file").read_text() == "keep this text, which is mine"


@pytest.mark.parametrize(
    "name", smoke(["collection.json", "manifest.json", *(f"{a}.npy" for a in ARRAYS)])
)
def test_small_files_when_mutated_raise_nothing_but_our_errors(base, name):
    with temporary_folder() as folder:
        path = Path(shutil.copytree(base, folder / "c.rag"))
        file = sorted(path.rglob(name))[0]
        good = file.read_bytes()
        head = len(good) if name.endswith(".json") else min(len(good), 200)

        @examples(
            40, few=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(
            st.lists(
                st.tuples(st.integers(0, head - 1), st.binary(max_size=8), st.integers(0, 9)),
                min_size=1, max_size=3,
            )
        )  # fmt: skip
        def check(changes):
            data = good
            for at, put, cut in changes:
                data = data[:at] + put + data[at + cut :]
            file.write_bytes(data)
            faults = ()
            try:
                with opened(path) as collection:
                    faults = collection.verify().faults
                    _answers(collection)
            except RagkitError as error:
                faults = (str(error),)
            assert faults or data == good

        check()
