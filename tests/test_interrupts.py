"""Ctrl-C at any moment of every command: exit code 130, no traceback, a whole collection."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ragkit import Collection
from ragkit.cli import main

ROOT = Path(__file__).parents[1]
ARTICLES = ROOT / "notebooks" / "data"
# Python's own start is not ours to guard: the command says when that is over.
COMMAND = """
import os, sys
from ragkit import cli
os.write(int(sys.argv.pop(1)), b".")
cli.run()
"""
A_MOMENT = 0.05  # until `run` has taken over

COMMANDS = {
    "search": ["band gap", "--in", "notes.rag"],
    "ask": ["What is the band gap of silicon?", "--in", "notes.rag"],
    "chat": ["--in", "notes.rag"],
    "verify": ["answer.json"],
    "doctor": [],
    "eval": ["--data", "beir", "--retrievers", "bm25,dense"],
    "compare": ["a.run", "b.run", "--qrels", "some.qrels"],
    "tune": ["--data", "beir"],
    "agent run": ["materials", "What is the band gap of GaAs?"],
    "agent chat": ["materials"],
    "agent list": [],
    "agent show": ["materials"],
    "train agent": ["materials", "--to", "training", "--questions", "20", "--tokens", "1e5"],
    "train generative": ["--in", "notes.rag", "--tokens", "1e5", "--to", "training"],
    "trace list": [],
    "trace show": [],
    "trace replay": [],
    "trace prune": ["--keep", "20"],
    "models list": [],
    "models install": ["minilm"],
    "index add": [str(ARTICLES), "--to", "new.rag"],
    "index build": [str(ROOT / "indexes" / "demo"), "--to", "built.rag"],
    "index sync": [str(ARTICLES), "--to", "notes.rag", "--yes"],
    "index delete": ["notes.csv#doc-1", "--in", "notes.rag"],
    "index list": ["--in", "notes.rag"],
    "index show": ["notes.csv#doc-2", "--in", "notes.rag"],
    "index info": ["--in", "notes.rag"],
    "index verify": ["--in", "notes.rag"],
    "index repair": ["--in", "notes.rag"],
    "index upgrade": ["notes.rag"],
    "index trust": ["--in", "notes.rag"],
    "index compact": ["--in", "notes.rag"],
    "index gc": ["--in", "notes.rag"],
    "index recipes": [],
}
# What else they end with: no evidence, no such document any more, no download, another run.
ENDS = {"ask": 4, "index delete": 1, "models install": 1, "trace replay": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupts")
    lines = [f"doc-{i},Oxide {i} has a band gap of {i % 7}.5 eV." for i in range(30)]
    (folder / "notes.csv").write_text("\n".join(["id,text", *lines]))
    run(folder, ["index", "add", "notes.csv", "--to", "notes.rag"])
    run(folder, ["agent", "run", "materials", "What is the band gap of GaAs?"])
    asked = run(folder, ["ask", "What is the band gap of oxide 3?", "--in", "notes.rag", "--json"])
    (folder / "answer.json").write_text(asked.stdout)
    beir = folder / "beir"
    (beir / "qrels").mkdir(parents=True)
    rows = [{"_id": f"{i}", "title": "", "text": f"Oxide {i} melts."} for i in range(30)]
    for name in ("corpus", "queries"):
        (beir / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = "".join(f"{i}\t{i}\t1\n" for i in range(30))
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    (folder / "some.qrels").write_text("".join(f"{i} 0 {i} 1\n" for i in range(30)))
    for name in "ab":
        run_file = "".join(f"{i} Q0 {i} 1 1.0 {name}\n" for i in range(30))
        (folder / f"{name}.run").write_text(run_file)
    return folder


def run(folder, arguments):
    with chdir(folder):
        done = CliRunner().invoke(main.app, arguments)
    assert done.exit_code in (0, 4), done.output
    return done


def interrupt(folder, name, delay):
    """Run a command, press Ctrl-C after so many seconds; its exit code and stderr."""
    ready, told = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(told), *name.split(), *COMMANDS[name]],
        cwd=folder,
        pass_fds=[told],
        env={**os.environ, "RAGKIT_OFFLINE": "1"},
        stdin=subprocess.PIPE,  # chat waits for it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job inherits SIGINT ignored; the command under test must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(told)
    with os.fdopen(ready, "rb") as stream:
        assert stream.read(1) == b"."
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)  # a hang is a fault too
    return process.returncode, err


def check(folder, name, delay):
    code, err = interrupt(folder, name, delay)
    # The signal itself ends Python after the command's work is done, which shells show as 130 too.
    finished = (0, ENDS.get(name), -signal.SIGINT)
    assert code in (130, *finished), f"{name} after {delay:.2f} s: {code}\n{err}"
    assert "Traceback" not in err, f"{name} after {delay:.2f} s\n{err}"
    if code == 130:
        assert err.endswith("interrupted\n"), err


def test_every_command_is_interrupted_here():
    def names(group, above=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from names(command, (*above, name))
            else:
                yield " ".join((*above, name))

    assert set(names(typer.main.get_command(main.app))) == set(COMMANDS)


def test_command_when_interrupted_ends_at_once_and_quietly(folder):
    check(folder, "search", A_MOMENT + random.random() * 0.6)


@pytest.mark.faults
@pytest.mark.parametrize(("n", "name"), list(enumerate(COMMANDS)))
def test_command_when_interrupted_at_many_moments_ends_quietly(folder, n, name):
    for step in range(n % 2, 6, 2):
        check(folder, name, A_MOMENT + step * 0.14)


@pytest.mark.faults
def test_collection_when_every_command_was_interrupted_is_whole(folder):
    for name in ("index sync", "index delete", "index compact", "index repair", "index gc"):
        check(folder, name, 0.6)
    with Collection(folder / "notes.rag") as collection:
        assert collection.verify().faults == ()
        assert collection.retriever("bm25").retrieve(["oxide band gap"])[0]


@pytest.mark.faults
def test_interrupt_that_a_library_logs_is_told_once(tmp_path):
    # SQLAlchemy logs what is raised while it closes a connection, with its traceback.
    code = """
import logging, os, signal, sys
from ragkit import cli
from ragkit.cli import main
def run():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        logging.getLogger("sqlalchemy.pool").error("Exception closing", exc_info=True)
        raise
main.run = run
cli.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.faults
def test_error_that_a_library_logs_is_told(tmp_path):
    code = """
import logging
from ragkit import cli
from ragkit.cli import main
main.run = lambda: logging.getLogger("sqlalchemy.pool").error("the pool leaks")
cli.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "the pool leaks" in done.stderr
