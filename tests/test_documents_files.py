"""File discovery, and the child process that parses."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiers import smoke

from ragkit.digests import file_digest
from ragkit.documents import SandboxLimits, SourceFile, find_files, load_file, sandbox
from ragkit.documents.files import MAX_FILE_BYTES
from ragkit.errors import DocumentError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes, /proc")


def _html(folder: Path, name: str = "a.html") -> SourceFile:
    (folder / name).write_text("<h1>Head</h1>body")
    return SourceFile(name, folder / name, folder)


def test_find_files_when_folder_then_sorted_relative_ids(tmp_path):
    for name in ("b.txt", "a/z.md", "a/y/x.csv", "a.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    files, losses = find_files([tmp_path])
    assert [file.id for file in files] == ["a/y/x.csv", "a/z.md", "a.txt", "b.txt"]
    assert {file.root for file in files} == {tmp_path}
    assert losses == []


def test_find_files_when_single_file_then_its_name(tmp_path):
    (tmp_path / ".hidden.txt").write_text("named, so wanted")
    files, losses = find_files([str(tmp_path / ".hidden.txt")])
    assert files == [SourceFile(".hidden.txt", tmp_path / ".hidden.txt", tmp_path)]
    assert losses == []


def test_find_files_when_path_is_missing_then_error(tmp_path):
    with pytest.raises(DocumentError, match="no such file or folder"):
        find_files([tmp_path / "none"])
    with pytest.raises(TypeError, match="a sequence of paths"):
        find_files(str(tmp_path))


def test_find_files_when_unfit_then_losses_say_why(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config.txt").write_text("x")
    (root / ".env").write_text("x")
    (root / "sub").mkdir()
    (root / "sub" / "ok.txt").write_text("x")
    outside.mkdir()
    (outside / "secret.txt").write_text("x")
    (root / "leaves.txt").symlink_to(outside / "secret.txt")
    (root / "leaves").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "stays.txt").symlink_to(root / "sub" / "ok.txt")
    (root / "dangling.txt").symlink_to(root / "nothing.txt")
    os.mkfifo(root / "pipe.txt")
    with (root / "huge.txt").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    files, losses = find_files([root])
    assert [file.id for file in files] == ["stays.txt", "sub/ok.txt"]
    reasons = {Path(loss.what).name: loss.why for loss in losses}
    assert {loss.stage for loss in losses} == {"documents"}
    assert {name: words in reasons[name] for name, words in _REASONS.items()} == dict.fromkeys(
        reasons, True
    )


_REASONS = {
    ".git": "hidden",
    ".env": "hidden",
    "leaves.txt": "leaves the folder",
    "leaves": "leaves the folder",
    "loop": "is read there",
    "dangling.txt": "No such file",
    "pipe.txt": "not a regular file",
    "huge.txt": "the limit is 100000000",
}


def test_find_files_when_two_have_the_same_id_then_folders_tell_them_apart(tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "up/two", "up/two/deep")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(folder.name)
    one, two, up, deep = folders
    files, losses = find_files([one, two, up, one / "a.txt", tmp_path / "one" / ".." / "two"])
    assert [(file.id, file.path) for file in files] == [
        ("a.txt", one / "a.txt"),
        ("two/a.txt", two / "a.txt"),
        ("up/two/a.txt", up / "a.txt"),
        ("deep/a.txt", deep / "a.txt"),
    ]
    assert losses == []


@LINUX
def test_find_files_when_a_name_is_decomposed_then_its_id_is_composed(tmp_path):
    (tmp_path / "re\u0301sume\u0301.txt").write_text("decomposed")
    (tmp_path / "u\u0308ber").mkdir()
    (tmp_path / "u\u0308ber" / "\u1112\u1161\u11ab.md").write_text("jamo")
    files, losses = find_files([tmp_path])
    assert [file.id for file in files] == ["r\xe9sum\xe9.txt", "\xfcber/\ud55c.md"]
    assert [load_file(file).documents[0].text for file in files] == ["decomposed", "jamo"]
    (tmp_path / "r\xe9sum\xe9.txt").write_text("another file")
    files, losses = find_files([tmp_path])
    assert sorted(file.id for file in files) == sorted(
        ["r\xe9sum\xe9.txt", f"{tmp_path.name}/r\xe9sum\xe9.txt", "\xfcber/\ud55c.md"]
    )
    assert losses == []


@LINUX
def test_find_files_when_names_are_strange_then_ids_are_printable(tmp_path):
    for name in (b"two\nlines.txt", b"no\xffutf8.txt", "..漢字 é.txt".encode()[2:], b"a..b.txt"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(b"x")
    files, losses = find_files([tmp_path])
    assert [file.id for file in files] == [
        "a..b.txt",
        "no\\xffutf8.txt",
        "two\\x0alines.txt",
        "漢字 é.txt",
    ]
    assert losses == []
    assert {load_file(file).documents[0].text for file in files} == {"x"}


def test_find_files_when_the_path_climbs_then_ids_stay_below_the_root(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("x")
    files, _ = find_files([tmp_path / "a" / ".."])
    assert [file.id for file in files] == ["b.txt"]


def test_load_file_when_it_is_a_pipe_or_gone_then_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "p.txt")
    for name, reason in (("p.txt", "regular file"), ("gone.txt", "cannot be read")):
        with pytest.raises(DocumentError, match=reason):
            load_file(SourceFile(name, tmp_path / name, tmp_path))


def test_file_digest_when_bytes_change_then_it_changes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"")
    assert file_digest(path) == "cae66941d9efbd404e4d88758ea67670"  # BLAKE2b-128 of nothing
    path.write_bytes(b"x")
    assert file_digest(str(path)) == load_file(SourceFile("a.txt", path, tmp_path)).digest


def _worker_ids() -> list[int]:
    return [worker._process.pid for worker in sandbox._pool(os.getpid())._idle]


def test_worker_when_files_follow_each_other_then_it_is_the_same(tmp_path):
    load_file(_html(tmp_path))
    before = _worker_ids()
    assert load_file(_html(tmp_path)).documents[0].text == "# Head\n\nbody"
    assert _worker_ids() == before


def test_worker_when_time_is_out_then_only_that_file_is_lost(tmp_path):
    file = _html(tmp_path)
    file.path.write_text("<p>word" * 500_000)
    with pytest.raises(DocumentError, match=r"^a\.html: timed out: not parsed within 0 s"):
        load_file(file, limits=SandboxLimits(seconds=0.2, seconds_per_mb=0))
    assert load_file(_html(tmp_path)).documents[0].title == "Head"


@pytest.mark.faults
@LINUX
def test_worker_when_memory_is_out_then_only_that_file_is_lost(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("<p>" + "word " * 4_000_000)
    file = SourceFile("a.html", path, tmp_path)
    with pytest.raises(DocumentError, match=r"^a\.html: (too big when unpacked|broken)"):
        load_file(file, limits=SandboxLimits(memory_bytes=300_000_000))
    with pytest.raises(DocumentError, match=r"^a\.html: too big when unpacked: .* characters"):
        load_file(file, limits=SandboxLimits(characters=1000))
    assert load_file(_html(tmp_path)).documents[0].title == "Head"


def test_worker_when_killed_between_files_then_replaced(tmp_path):
    file = _html(tmp_path)
    load_file(file)
    for pid in _worker_ids():
        os.kill(pid, 9)
    assert load_file(file).documents[0].title == "Head"


def test_worker_when_threads_ask_at_once_then_each_gets_its_answer(tmp_path):
    answers: dict[int, str] = {}

    def load(number: int) -> None:
        path = tmp_path / f"{number}.html"
        path.write_text(f"<p>text {number}</p>" * 200)
        answers[number] = load_file(SourceFile(path.name, path, tmp_path)).documents[0].text

    threads = [threading.Thread(target=load, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: "\n\n".join([f"text {n}"] * 200) for n in range(4)}


_SCRIPT = """
import os, sys
from pathlib import Path
from ragkit.documents import SourceFile, load_file, sandbox
path = Path(sys.argv[1])
load_file(SourceFile(path.name, path, path.parent))
print(sandbox._pool(os.getpid())._idle[0]._process.pid, flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
if sys.argv[2] == "parse":
    path.write_text("<p>word" * 5_000_000)
    load_file(SourceFile(path.name, path, path.parent))
"""


ENDS = [("exit", ""), ("wait", "interrupt"), ("parse", "interrupt"), ("wait", "kill")]


@LINUX
@pytest.mark.parametrize(("mode", "end"), smoke(ENDS, ("wait", "kill")))
def test_worker_when_its_parent_ends_then_it_ends_quietly(tmp_path, mode, end):
    file = _html(tmp_path)
    command = [sys.executable, "-c", _SCRIPT, str(file.path), mode]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A background job inherits SIGINT ignored; the process under test must handle it.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=heed, **pipes) as parent:
        pid = int(parent.stdout.readline())
        if end:
            parent.send_signal(2 if end == "interrupt" else 9)
        parent.wait(10)
        errors = parent.stderr.read().decode()
    assert (errors == "") or (end == "interrupt" and errors.strip().endswith("KeyboardInterrupt"))
    stopped = threading.Event()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or _is_zombie(pid):
            return
        stopped.wait(0.02)
    pytest.fail("the worker outlived its parent")


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


@LINUX
def test_worker_when_started_then_it_sees_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    worker = sandbox._Worker()
    try:
        reply, _ = worker.request(
            b'{"kind": "html", "name": "a", "encoding": "", "n_bytes": 0, "seconds": 9, '
            b'"memory_bytes": 2000000000, "unpacked_bytes": 9, "characters": 9, '
            b'"header_bytes": 9999}',
            b"",
            SandboxLimits(),
            20,
        )
        empty = {"text": "", "n_bytes": 0, "title": "", "losses": []}
        empty |= {"layout": (), "n_layout_bytes": 0}
        assert reply == {**empty, "metadata": {"format": "markdown"}}
        assert b"sk-secret" not in Path(f"/proc/{worker._process.pid}/environ").read_bytes()
    finally:
        worker.stop()
