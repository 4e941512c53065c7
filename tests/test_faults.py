"""A collection survives death at every durable step, full and read-only disks, and the clock."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
from fault_helpers import (
    BATCH,
    DIED,
    CountingEmbedder,
    check_no_debris,
    check_whole,
    digest,
    documents,
    in_child,
    opened,
    run_and_die,
    small_batches,
    states,
    temporary_folder,
)
from tiers import smoke

from ragkit.collection.writer import acquire_write_lock
from ragkit.errors import CollectionError, Locked
from ragkit.types import Document


@pytest.fixture
def folder():
    with temporary_folder() as made:
        yield made


@pytest.fixture(autouse=True)
def batches():
    with small_batches():
        yield


def _segments(collection):
    """Eleven documents in several segments, two of them dead."""
    collection.add(documents(0, 9))
    collection.add(documents(9, 11))
    collection.add(documents(11, 13))
    collection.delete(["d01", "d09"])


def _files(path):
    path.mkdir()
    for document in documents(0, 8):
        (path / f"{document.id}.txt").write_text(document.text)


def _change_files(path):
    (path / "d00.txt").unlink()
    (path / "d01.txt").write_text("gap band of another version")
    (path / "d20.txt").write_text("gap band that is new")


def _prepare(name, base):
    """Make the collection that a command starts from."""
    if name == "create":
        return
    with opened(base / "c.rag") as collection:
        if name == "sync":
            _files(base / "docs")
            collection.add(base / "docs")
            _change_files(base / "docs")
            return
        _segments(collection)
        if name == "gc":
            collection.compact()
            with collection._writing() as writer:  # a generation further, and nobody tidies up
                writer.context.store.delete_documents(["d02"])
            shutil.copytree(next(base.glob("c.rag/segments/*")), base / "c.rag/segments/writing-1")
    if name == "repair":
        [file, *_] = sorted(base.glob("c.rag/segments/*/vectors.npy"))
        _flip(file, -3)
        os.truncate(next(base.glob("c.rag/ledger/*")), 5 * 64)


def _flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


def _offered():
    """New, changed and unchanged documents, two with the same text."""
    return [*documents(0, 4, version=2), *documents(4, 8), *documents(20, 26), *_twins()]


def _twins():
    return [Document(name, "gap band of twins") for name in ("t1", "t2")]


COMMANDS = {
    "create": lambda c, base: c.add(_offered()),
    "add": lambda c, base: c.add(_offered()),
    "delete": lambda c, base: c.delete([f"d{i:02}" for i in range(2, 8)]),
    "sync": lambda c, base: c.sync(base / "docs"),
    "compact": lambda c, base: c.compact(),
    "gc": lambda c, base: c.gc(),
    "repair": lambda c, base: c.repair(),
}


class _Scenario:
    """A command, what it leads to, and the places where it can be stopped."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.base, self.work = folder / "base", folder / "work"
        self.base.mkdir()
        _prepare(name, self.base)
        self.embedder = CountingEmbedder()
        self.fresh()
        # Readers of a damaged collection are promised nothing until it is repaired.
        look = (lambda: "") if name == "repair" else (lambda: digest(self.path))
        self.allowed, self.steps = states(self.command, look)
        self.digest, self.n_texts = digest(self.path), self.embedder.total

    @property
    def path(self):
        return self.work / "c.rag"

    def fresh(self):
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.base, self.work)
        self.embedder.forget()

    def command(self):
        with opened(self.path, self.embedder) as collection:
            COMMANDS[self.name](collection, self.work)

    def check_and_go_on(self):
        """After a death: whole as it is, and the same command ends as if nothing had happened."""
        if self.name != "repair":
            check_whole(self.path)
            assert digest(self.path) in self.allowed
        self.command()
        check_no_debris(self.path)
        check_whole(self.path)
        assert digest(self.path) == self.digest
        assert self.embedder.total <= self.n_texts + BATCH


def test_add_when_it_dies_beside_the_commit_of_a_segment_goes_on(folder):
    scenario = _Scenario("add", folder)
    renames = [n for n, name in enumerate(scenario.steps, start=1) if name == "os.rename"]
    assert len(renames) > 1
    # Before a segment has its name; before the commit that takes it in, and after it.
    for n in (rename + later for rename in renames for later in (0, 2, 3)):
        scenario.fresh()
        assert run_and_die(scenario.command, n)
        scenario.check_and_go_on()


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_command_when_it_dies_at_every_durable_step_goes_on(folder, name):
    scenario = _Scenario(name, folder)
    n, apart = 1, 2 if name == "create" else 1  # which adds like "add"
    while True:
        scenario.fresh()
        if not run_and_die(scenario.command, n):
            break
        scenario.check_and_go_on()
        n += apart
    assert n > 8


LIMITS = [0, 300, 700, 1_000, 2_000, 4_096, 9_000, 20_000, 33_000, 60_000, 70_000, 80_000, 90_000,
          110_000, 150_000, 200_000]  # fmt: skip


FULL_DISKS = [
    ("add", LIMITS[::5]),
    *((name, LIMITS) for name in ("create", "add", "sync", "compact")),
]


@pytest.mark.faults
@pytest.mark.parametrize(("name", "limits"), FULL_DISKS, ids=lambda part: str(part)[:12])
def test_command_when_the_disk_is_full_says_so_and_goes_on_when_there_is_space(
    folder, name, limits
):
    scenario = _Scenario(name, folder)
    said_something = 0
    for limit in limits:
        scenario.fresh()

        def work(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            scenario.command()

        status, said = in_child(work)
        assert status in (0, 2), said
        if status == 2:
            said_something += 1
            assert said.startswith("CollectionError: ")
            assert "Data committed before is intact" in said, said
            assert "free space" in said or "check the permissions" in said, said
        scenario.check_and_go_on()
    assert said_something > len(limits) / 4


@pytest.mark.faults
@pytest.mark.parametrize("name", ["create", "add", "compact"])
def test_command_when_it_dies_within_a_write_goes_on(folder, name):
    scenario = _Scenario(name, folder)
    n_torn = 0
    for limit in LIMITS:
        scenario.fresh()

        def work(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the write is cut, and the process dies
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            scenario.command()

        status, said = in_child(work)
        assert status in (0, -signal.SIGXFSZ), said
        n_torn += status != 0
        scenario.check_and_go_on()
    assert n_torn > 4


def test_add_when_the_file_system_is_full_says_so_and_goes_on_when_there_is_space(folder):
    place = folder / "small"
    place.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("no file system can be mounted here; RLIMIT_FSIZE stands in for it")
    try:
        with opened(place / "c.rag") as collection:
            collection.add(documents(0, 4))
            before = collection.digest()
            filler = place / "filler"
            with filler.open("wb", buffering=0) as stream:
                while _fits(stream, bytes(1024)):
                    pass
            with pytest.raises(CollectionError, match="free space"):
                collection.add(documents(4, 90))
            filler.unlink()
            assert collection.digest() == before
            assert collection.verify().faults == ()
            collection.add(documents(4, 30))
            assert collection.verify().faults == ()
            with opened(folder / "fresh.rag") as fresh:
                fresh.add(documents(0, 30))
                assert fresh.digest() == collection.digest()
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _fits(stream, data):
    try:
        return stream.write(data) == len(data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def _unprivileged():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def _set_modes(path, folders, files):
    for item in [path, *path.rglob("*")]:
        item.chmod(folders if item.is_dir() else files)


def test_collection_when_read_only_is_searched_and_refuses_to_be_written(folder):
    path = folder / "c.rag"
    with opened(path) as collection:
        _segments(collection)
        known = collection.digest()
        hits = collection.retriever("hybrid").retrieve(["gap w3"])
    folder.chmod(0o755)
    _set_modes(path, 0o555, 0o444)

    def work():
        _unprivileged()
        with opened(path) as collection:
            assert collection.digest() == known
            assert collection.retriever("hybrid").retrieve(["gap w3"]) == hits
            assert collection.verify().faults == ()
            said = []
            for call in (
                lambda c: c.add(documents(0, 1)),
                lambda c: c.delete("d00"),
                lambda c: c.compact(),
                lambda c: c.repair(),
            ):
                with pytest.raises(CollectionError) as caught:
                    call(collection)
                said.append(str(caught.value))
        return said

    status, said = in_child(work)
    _set_modes(path, 0o755, 0o644)
    assert status == 0, said
    assert all("cannot be written; check its permissions" in line for line in said)
    with opened(path) as collection:
        assert collection.digest() == known


@pytest.mark.parametrize("name", smoke(["ledger", "store.db", "lock", "segments"]))
def test_part_when_read_only_is_named_and_nothing_is_lost(folder, name):
    path = folder / "c.rag"
    with opened(path) as collection:
        collection.add(documents(0, 4))
        known = collection.digest()
    folder.chmod(0o755)
    _set_modes(path, 0o777, 0o666)
    _set_modes(path / name, 0o555, 0o444)

    def work():
        _unprivileged()
        with opened(path) as collection:
            assert collection.digest() == known
            collection.add(documents(4, 9))

    status, said = in_child(work)
    assert status == 2, said
    assert said.startswith("CollectionError: ")
    assert name in said
    assert "permission" in said.lower(), said
    with opened(path) as collection:
        assert collection.verify().faults == ()
        assert collection.digest() == known


def test_log_when_left_in_a_read_only_folder_is_read_or_said(folder):
    path = folder / "c.rag"
    with opened(path) as collection:
        collection.add(documents(0, 4))

    def add():
        from ragkit.store.store import Store

        Store.close = lambda store: os._exit(DIED)
        opened(path).add(documents(4, 8))

    assert in_child(add)[0] == DIED
    (path / "store.db-shm").unlink()
    folder.chmod(0o755)
    _set_modes(path, 0o555, 0o444)

    def work():
        _unprivileged()
        with opened(path) as collection:
            return len(collection.documents())

    status, said = in_child(work)
    _set_modes(path, 0o755, 0o644)
    assert (status, said) == (0, 8) or (status == 2 and "check the permissions" in said), said
    with opened(path) as collection:
        assert collection.add(documents(0, 8)).unchanged == 8


def test_folder_when_it_cannot_be_made_says_so(folder):
    (folder / "file").write_text("x")
    with opened(folder / "file" / "c.rag") as collection, pytest.raises(CollectionError) as caught:
        collection.add(documents(0, 1))
    assert "cannot be written: Not a directory" in str(caught.value)


def test_lock_when_left_by_the_dead_is_taken(folder):
    path = folder / "c.rag"

    def work():
        collection = opened(path)
        collection.add(documents(0, 2))
        lock = acquire_write_lock(path)
        assert lock.is_locked
        os._exit(DIED)

    assert in_child(work)[0] == DIED
    (path / "lock").write_text("999999 on another machine")
    with opened(path) as collection:
        assert collection.add(documents(2, 4)).added == 2


def test_lock_when_held_by_the_living_names_the_collection(folder):
    path = folder / "c.rag"
    with opened(path) as first, opened(path) as second:
        first.add(documents(0, 2))
        lock = acquire_write_lock(path)
        try:
            with pytest.raises(Locked, match=r"another process is writing to .*c\.rag.*try again"):
                second.add(documents(2, 4))
            assert len(second.retriever("bm25", copies=True).retrieve(["gap"])[0]) == 2
        finally:
            lock.release()
        assert second.add(documents(2, 4)).added == 2


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_lock_when_it_is_no_file_is_named(folder, kind):
    path = folder / "c.rag"
    with opened(path) as collection:
        collection.add(documents(0, 2))
        (path / "lock").unlink(missing_ok=True)
        if kind == "folder":
            (path / "lock").mkdir()
        else:
            (folder / "mine").write_text("keep")
            (path / "lock").symlink_to(folder / "mine")
        with pytest.raises(CollectionError, match=r"c\.rag/lock' cannot be written"):
            collection.add(documents(2, 4))
        if kind == "link":
            assert (folder / "mine").read_text() == "keep"


def test_clock_when_it_runs_backwards_changes_nothing(folder, monkeypatch):
    with opened(folder / "fresh.rag") as fresh:
        _segments(fresh)
        known = fresh.digest()
    now = [2e9]

    def backwards():
        now[0] -= 86_400.0
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    with opened(folder / "c.rag") as collection:
        _segments(collection)
        collection.compact()
        collection.gc()
        assert collection.digest() == known
        assert collection.verify().faults == ()
        jobs = collection.info()["jobs"]
        assert [job["id"] for job in jobs] == sorted((job["id"] for job in jobs), reverse=True)
        assert all(job["finished"] < job["started"] for job in jobs)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with opened(folder / "c.rag") as collection:
        assert collection.add(documents(2, 9)).unchanged == 7


def test_debris_when_a_killed_writer_left_it_is_cleared(folder):
    path = folder / "c.rag"
    with opened(path) as collection:
        collection.add(documents(0, 9))
        known = collection.digest()
    [ledger] = (path / "ledger").iterdir()
    with ledger.open("ab") as stream:
        stream.write(b"\xff" * 100)  # torn: one vector and a half
    (path / "collection.json.writing").write_text("{")
    first = sorted((path / "segments").iterdir())[0]
    shutil.copytree(first, path / "segments" / "writing-12345")
    shutil.copytree(first, path / "segments" / ("ab" * 16))  # renamed, and never committed
    with opened(path) as collection:
        assert collection.verify().faults == ()
        assert collection.digest() == known
    with opened(path) as collection:
        collection.add(documents(9, 12))
    (path / "collection.json.writing").unlink()  # only the next new collection writes over it
    check_no_debris(path)
    check_whole(path)
    with opened(folder / "fresh.rag") as fresh, opened(path) as collection:
        fresh.add(documents(0, 12))
        assert fresh.digest() == collection.digest()
