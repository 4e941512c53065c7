"""Token indexes on disk: made once, kept, shared, thrown away, and trusted only once read."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from fault_helpers import in_child, on_every_step, temporary_folder
from tiers import smoke
from token_models import WordModel, corpus, index_of, live_rows, opened, told

from ragkit.collection.token_indexes import TokenIndexes
from ragkit.errors import CorruptCollection
from ragkit.indexes.ngram import NgramIndex, SegmentedNgramIndex
from ragkit.indexes.trie import Trie
from ragkit.retrievers.ngram import ngram_layout
from ragkit.retrievers.rows import RowFormat
from ragkit.testing import check_token_index
from ragkit.types import Document

HANG_S = 120
FORK = multiprocessing.get_context("forkserver")
QUERIES = ["w1 w2", "w3 w4 w0"]
FILES = [
    "first_ends.npy", "first_tokens.npy", "index.json", "places.npy", "starts.npy", "suffixes.npy",
    "tokens.npy",
]  # fmt: skip


@pytest.fixture
def path():
    with temporary_folder() as folder:
        with opened(folder / "c.rag") as collection:
            collection.add(corpus(8))
            collection.add([Document("late", "w1 w2 w3 w4", "w5 w6")])
        yield folder / "c.rag"


def searched(path, model=None, name="ngram"):
    """What a fresh collection finds."""
    with opened(path) as collection:
        retriever = collection.retriever(name, model=model or WordModel())
        return json.dumps([told(run) for run in retriever.retrieve(QUERIES, 50)])


def folders(path) -> list[Path]:
    return sorted(path.glob("tokens/*/*"))


def faults(path) -> tuple[str, ...]:
    with opened(path) as collection:
        return collection.verify().faults


def stamps(path) -> dict[str, tuple[int, int]]:
    """Which files lie there, and that they are the same."""
    found = {file: file.stat() for folder in folders(path) for file in folder.iterdir()}
    return {str(file): (stat.st_ino, stat.st_mtime_ns) for file, stat in found.items()}


def tokenised(path, model) -> int:
    """How often a fresh collection tokenises when it opens its index and asks nothing of it."""
    layout, before = ngram_layout(model, "passage"), model.n_encoded
    with opened(path) as collection:
        index_of(collection, layout)
    return model.n_encoded - before


# made, kept, shared


def test_token_index_is_made_by_the_first_search_and_kept(path):
    assert not (path / "tokens").exists()
    first = searched(path)
    kept = folders(path)
    with opened(path) as collection:
        names = {segment.folder.name for segment in collection.snapshot().segments}
    assert {folder.parent.name for folder in kept} == names
    assert len(kept) == len(names) == 2
    for folder in kept:
        assert sorted(file.name for file in folder.iterdir()) == sorted([*FILES, "manifest.json"])
    before = stamps(path)
    assert searched(path) == first
    assert stamps(path) == before
    assert faults(path) == ()


def test_token_index_when_it_is_there_is_not_tokenised_again(path):
    model = WordModel()
    n_first = tokenised(path, model)
    assert n_first > 9  # each passage and each title
    assert tokenised(path, model) <= 1  # the line break that may end a title
    with opened(path) as collection:
        collection.add([Document("new", "w9 w9", "w8")])
    assert 2 < tokenised(path, model) < n_first  # the new segment only


def _search_and_tell(path, queue):
    model = WordModel()
    n_encoded = tokenised(path, model)
    queue.put((n_encoded, searched(path, model)))


@pytest.mark.faults
def test_token_index_when_another_process_searches_is_shared(path):
    first = searched(path)
    queue = FORK.Queue()
    other = FORK.Process(target=_search_and_tell, args=(path, queue))
    other.start()
    n_encoded, found = queue.get(timeout=HANG_S)
    other.join(HANG_S)
    assert (found, other.exitcode) == (first, 0)
    assert n_encoded <= 1


@pytest.mark.faults
def test_processes_that_make_the_same_index_at_once_all_answer(path):
    with temporary_folder() as folder:
        shutil.copytree(path, folder / "c.rag")
        expected = searched(folder / "c.rag")
    queue = FORK.Queue()
    many = [FORK.Process(target=_search_and_tell, args=(path, queue)) for _ in range(3)]
    for each in many:
        each.start()
    found = [queue.get(timeout=HANG_S)[1] for _ in many]
    for each in many:
        each.join(HANG_S)
    assert found == [expected] * 3
    assert [each.exitcode for each in many] == [0] * 3
    assert len(folders(path)) == 2
    assert faults(path) == ()


@pytest.mark.parametrize("shared", [True, False], ids=["one collection", "one each"])
def test_threads_that_make_the_same_index_at_once_all_answer(path, shared):
    model, found, barrier = WordModel(), [], threading.Barrier(4)
    one = opened(path)

    def search():
        collection = one if shared else opened(path)
        retriever = collection.retriever("ngram", model=model, copies=True)
        barrier.wait(HANG_S)
        found.append(json.dumps([told(run) for run in retriever.retrieve(QUERIES, 50)]))
        if not shared:
            collection.close()

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    one.close()
    assert found == [searched(path)] * 4
    assert len(folders(path)) == 2
    assert faults(path) == ()


def test_index_of_another_tokenizer_end_or_vocabulary_is_its_own(path):
    """Models may share a tokenizer, and yet end texts otherwise or have padded vocabularies."""
    models = [
        WordModel(),
        WordModel(fingerprint="other/../.."),
        WordModel(end_token=0),
        WordModel(48),
    ]
    alone = []
    for model in models:
        with temporary_folder() as folder:
            shutil.copytree(path, folder / "c.rag", ignore=shutil.ignore_patterns("tokens"))
            alone.append(searched(folder / "c.rag", model))
    assert len(set(alone)) >= 2
    with opened(path) as collection:
        for _ in range(2):  # the second time from what is kept
            for model, expected in zip(models, alone, strict=True):
                retriever = collection.retriever("ngram", model=model, copies=True)
                hits = [told(run) for run in retriever.retrieve(QUERIES, 50)]
                assert json.dumps(hits) == expected
                index, _ = index_of(collection, retriever.layout)
                assert index.vocab_size == model.vocab_size
                assert {row[0] for row in live_rows(index)} == {model.end_token}
    assert len(folders(path)) == 2 * len(models)
    before = stamps(path)
    assert [searched(path, model) for model in models] == alone
    assert stamps(path) == before


def test_index_restricted_by_any_mapping_is_that_of_the_same_dict(path):
    model = WordModel()
    with opened(path) as collection:
        retriever = collection.retriever("ngram", model=model, copies=True)
        where = {"n": {">=": 1}}
        expected = retriever.retrieve(QUERIES, 50, where=where)
        assert retriever.retrieve(QUERIES, 50, where=types.MappingProxyType(where)) == expected
        assert retriever.retrieve(QUERIES, 50) != expected


# changes and garbage


def test_token_index_when_its_segment_goes_goes_with_the_garbage(path):
    searched(path)
    before = {folder.parent.name for folder in folders(path)}
    with opened(path) as collection:
        collection.compact()
        searched(path)
        collection.add([Document("x", "w1")])
        collection.delete("x")
        collection.gc()
        names = set(os.listdir(path / "segments"))
        live = {segment.folder.name for segment in collection.snapshot().segments}
    after = {folder.name for folder in (path / "tokens").iterdir()}
    assert live <= after <= names
    assert not before & after
    assert faults(path) == ()


def test_garbage_collection_leaves_what_is_not_ours(path):
    searched(path)
    other = path / "tokens" / "notes"
    other.mkdir()
    with temporary_folder() as elsewhere:
        (elsewhere / "writing-x").mkdir()
        (path / "tokens" / ("0" * 32)).symlink_to(elsewhere)
        with opened(path) as collection:
            collection.gc()
        assert (elsewhere / "writing-x").is_dir()
    assert other.is_dir()
    assert not os.path.lexists(path / "tokens" / ("0" * 32))


def _contents(folder) -> dict[str, bytes]:
    files = (item for item in folder.rglob("*") if item.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_repair_removes_a_link_and_nothing_behind_it(path):
    first = searched(path)
    segment = folders(path)[0].parent
    for name in ("f" * 32, segment.name):
        place = path / "tokens" / name
        with temporary_folder() as elsewhere:
            (elsewhere / "work").mkdir()
            (elsewhere / "work" / "thesis").write_text("mine")
            shutil.rmtree(place, ignore_errors=True)
            place.symlink_to(elsewhere)
            mine = _contents(elsewhere)
            assert searched(path) == first
            assert faults(path)
            with opened(path) as collection:
                collection.repair()
            assert _contents(elsewhere) == mine
        assert not os.path.lexists(place)
        assert faults(path) == ()


def test_tokens_that_are_a_link_lead_to_nothing_that_is_written_or_removed(path, caplog):
    with temporary_folder() as elsewhere:
        with opened(elsewhere / "other.rag") as other:
            other.add(corpus(3, seed=5))
        mine = _contents(elsewhere / "other.rag" / "segments")
        (path / "tokens").symlink_to(elsewhere / "other.rag" / "segments")
        assert searched(path)
        assert "is a symbolic link" in caplog.text
        with opened(path) as collection:
            collection.delete("d01")
            collection.repair()
        assert _contents(elsewhere / "other.rag" / "segments") == mine


def test_deleted_documents_are_found_no_more_by_what_is_kept(path):
    model = WordModel()
    with opened(path) as collection:
        retriever = collection.retriever("title", model=model, width=50)
        before = {hit.chunk.doc_id for hit in retriever.retrieve(["w1"], 50)[0]}
        collection.delete("d01")
        after = {hit.chunk.doc_id for hit in retriever.retrieve(["w1"], 50)[0]}
        assert before - after == {"d01"}
    assert len(json.loads(searched(path, model, "title"))[0]) > 0
    index = _view(path, model)
    assert index.n_tokens == sum(map(len, live_rows(index)))


def _view(path, model):
    with opened(path) as collection:
        return index_of(collection, ngram_layout(model, "passage"))[0]


def test_reader_of_an_earlier_generation_is_not_served_a_later_one(path):
    """It would miss what has died since, and not have what was put in its place."""
    model = WordModel()
    layout = ngram_layout(model, "passage")
    with opened(path) as early, opened(path) as late:
        snapshot, store = early.snapshot(), early._reader.store
        expected = len(snapshot)
        late.delete("d01")
        made, _ = index_of(late, layout)
        assert len(live_rows(made)) < expected
        kept, fresh = early._reader._token_indexes, TokenIndexes(path / "tokens")
        for indexes in (kept, fresh, late._reader._token_indexes):
            view = indexes.view(store, snapshot, layout, None)
            assert view is not None
            assert len(live_rows(view.index)) == expected
        again, _ = index_of(late, layout)
        assert live_rows(again) == live_rows(made)
    assert live_rows(_view(path, model)) == live_rows(made)
    assert faults(path) == ()


# damage


def _flip(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x41
    file.write_bytes(data)


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-5])


def _link(file):
    moved = file.with_name("elsewhere")
    file.rename(moved)
    file.symlink_to(moved)


def _pipe(file):
    file.unlink()
    os.mkfifo(file)


DAMAGES = [
    *((name, _flip) for name in [*FILES, "manifest.json"]),
    *((name, how) for name in ("places.npy", "manifest.json")
      for how in (_truncate, Path.unlink, _link, _pipe)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), smoke(DAMAGES, ("tokens.npy", _flip)))
def test_damage_is_verified_and_repaired_and_the_next_search_makes_it_anew(path, name, damage):
    first = searched(path)
    damaged = folders(path)[0]
    damage(damaged / name)
    found = faults(path)
    if (name, damage) == ("manifest.json", _link):  # it is what it was
        assert found == ()
        return
    assert found
    assert all(damaged.name in fault for fault in found)
    assert all("`repair` removes it, and the next search rebuilds it" in each for each in found)
    with opened(path) as collection:
        assert collection.repair() == 0
    assert not damaged.exists()
    assert faults(path) == ()
    assert searched(path) == first
    assert len(folders(path)) == 2  # of the one segment that `repair` made, and of an old one
    assert damaged not in folders(path)
    assert faults(path) == ()


MISSING = [
    *(("ngram", name, _truncate) for name in [*FILES, "manifest.json"]),
    *(("title", name, Path.unlink) for name in [*FILES, "manifest.json"]),
    ("ngram", "places.npy", _pipe),
    ("title", "manifest.json", _pipe),
]


@pytest.mark.parametrize(("kind", "name", "damage"), smoke(MISSING))
def test_files_that_are_missing_or_cut_are_made_anew_at_opening(path, kind, name, damage):
    first = searched(path, name=kind)
    for folder in folders(path):
        damage(folder / name)
    assert searched(path, name=kind) == first
    assert faults(path) == ()
    before = stamps(path)
    assert searched(path, name=kind) == first
    assert stamps(path) == before


def _rewritten(folder, change):
    """Change a file of an index, and make the digests fit."""
    from ragkit.digests import file_digest

    change(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: file_digest(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _set_places(column, value):
    def change(folder):
        places = np.load(folder / "places.npy")
        places[-1, column] = value
        np.save(folder / "places.npy", places)

    return change


def _about(**fields):
    def change(folder):
        about = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**about, **fields}))

    return change


HOSTILE = [
    _set_places(0, 10_000),
    _set_places(0, -1),
    _set_places(1, -1),
    lambda folder: np.save(folder / "places.npy", np.zeros((1, 2), dtype=np.int64)),
    lambda folder: np.save(folder / "places.npy", np.zeros((1, 2))),
    _about(vocab_size=41),
    _about(vocab_size=10**400),
    _about(tokenizer="another"),
    _about(format=2),
    _about(kind="trie"),
]


@pytest.mark.parametrize("change", smoke(HOSTILE))
def test_hostile_files_whose_digests_fit_are_refused_and_replaced(path, change, caplog):
    first = searched(path)
    for folder in folders(path):
        _rewritten(folder, change)
    assert searched(path) == first
    assert "rebuilding a token index" in caplog.text
    caplog.clear()
    assert searched(path) == first
    assert caplog.text == ""  # once


NONSENSE = [
    "", "null", "[]", '["index.json"]', "{}", '{"generation": 1, "files": {}}', "[" * 9000,
    '{"generation": "1", "files": {}}', '{"generation": 1, "files": ["ab"]}', '"\\ud800"',
    '{"generation": 1, "files": {"../../store.db": "0"}}', "\x00", " " * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("text", smoke(NONSENSE))
def test_nonsense_manifests_are_faults_and_made_anew(path, text):
    first = searched(path)
    bad = folders(path)[0]
    (bad / "manifest.json").write_text(text)
    found = faults(path)
    assert len(found) == 1
    assert bad.name in found[0]
    assert searched(path) == first
    assert faults(path) == ()


def test_manifest_of_a_generation_to_come_is_made_anew(path):
    first = searched(path)
    manifest = folders(path)[0] / "manifest.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**about, "generation": 10**30}))
    assert searched(path) == first
    assert json.loads(manifest.read_text()) == about


def test_suffixes_that_point_nowhere_end_in_an_error_that_says_what_to_do(path):
    searched(path)
    for folder in folders(path):
        suffixes = np.load(folder / "suffixes.npy")
        np.save(folder / "suffixes.npy", np.full_like(suffixes, 2**32 - 1))
    with pytest.raises(CorruptCollection, match="repair"):
        searched(path)
    assert faults(path)
    with opened(path) as collection:
        collection.repair()
    assert searched(path)


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_something_else_in_the_place_of_an_index_is_replaced(path, what):
    first = searched(path)
    place = folders(path)[0]
    shutil.rmtree(place)
    with temporary_folder() as elsewhere:
        (elsewhere / "kept").write_text("mine")
        if what == "file":
            place.write_text("no folder")
        elif what == "link":
            place.symlink_to(elsewhere)
        else:
            (place / "sub").mkdir(parents=True)
        assert searched(path) == first
        assert (elsewhere / "kept").read_text() == "mine"
    assert (place / "manifest.json").is_file()
    assert not place.is_symlink()
    assert faults(path) == ()


# disks


def _unprivileged():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


@pytest.mark.parametrize("kept", [False, True])
def test_read_only_collection_is_searched(path, kept):
    with temporary_folder() as folder:
        shutil.copytree(path, folder / "c.rag")
        expected = searched(folder / "c.rag")
    if kept:
        searched(path)
    path.parent.chmod(0o755)
    everything = [path, *path.rglob("*")]
    for item in everything:
        item.chmod(0o555 if item.is_dir() else 0o444)

    def work():
        _unprivileged()
        model = WordModel()
        return [searched(path, model), searched(path, model), tokenised(path, model)]

    before = stamps(path)
    status, said = in_child(work)
    for item in everything:
        item.chmod(0o755 if item.is_dir() else 0o644)
    assert status == 0, said
    assert said[:2] == [expected] * 2
    assert (said[2] <= 1) == kept
    assert stamps(path) == before
    assert bool(before) == kept


def test_kept_indexes_are_readable_for_whom_the_segments_are(path):
    searched(path)
    segment = next(iter((path / "segments").iterdir()))
    for folder in folders(path):
        assert folder.stat().st_mode == folder.parent.stat().st_mode == segment.stat().st_mode


def test_tokens_that_cannot_be_written_cost_only_time(path, caplog):
    (path / "tokens").write_text("no folder")
    first = searched(path)
    assert "cannot be cached" in caplog.text
    (path / "tokens").unlink()
    assert searched(path) == first


@pytest.mark.faults
def test_kill_at_any_step_of_writing_leaves_nothing_that_is_taken_for_whole(path):
    with temporary_folder() as folder:
        shutil.copytree(path, folder / "c.rag")
        expected = searched(folder / "c.rag")
    n_debris = n_killed = 0
    for step in range(1, 200, 3):
        shutil.rmtree(path / "tokens", ignore_errors=True)

        def work(step=step):
            left = [step]

            def act(_):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            on_every_step(act)
            return searched(path)

        status, said = in_child(work)
        if status == 0:
            assert said == expected
            break
        assert status == -signal.SIGKILL, said
        n_killed += 1
        n_debris += any(folder.name.startswith("writing-") for folder in folders(path))
        assert faults(path) == ()
        assert searched(path) == expected
        with opened(path) as collection:
            collection.gc()
        assert not list(path.glob("tokens/*/writing-*"))
        assert len(folders(path)) == 2
        assert faults(path) == ()
    assert n_killed > 5
    assert n_debris > 3
    assert status == 0


# the contract


@pytest.mark.parametrize("wrong", ["more", "type", "restricted"])
def test_check_token_index_with_wrong_token_counts_fails(wrong):
    class Wrong(NgramIndex):
        def token_counts(self):
            counts = super().token_counts()
            if wrong == "restricted":
                return NgramIndex(*self.parts()).token_counts()
            return counts + 1 if wrong == "more" else counts.astype(np.int32)

    check_token_index(NgramIndex.build)
    with pytest.raises(AssertionError):
        check_token_index(Wrong.build)


@pytest.mark.parametrize("anchored", [True, False])
def test_token_counts_of_a_trie_and_of_segments_are_checked_too(anchored):
    build = Trie.build if anchored else NgramIndex.build
    check_token_index(build, anchored=anchored)
    with pytest.raises(AssertionError):
        check_token_index(build, anchored=not anchored)
    parts = [NgramIndex.build(rows, 4) for rows in ([[1, 2, 1]], [[3, 1]])]
    assert SegmentedNgramIndex(parts).token_counts().tolist() == [0, 3, 1, 1]


def test_rows_hold_title_and_text_between_their_marks(path):
    model = WordModel()
    rows = live_rows(_view(path, model))
    assert RowFormat(model).row("w5 w6", "w1 w2  w3\nw4") in rows
    assert (1, 1, *model.encode("w5 w6"), 1, *model.encode("w1 w2 w3 w4")) in rows
