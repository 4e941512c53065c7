import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ragkit.collection.writer import acquire_write_lock

ROOT = Path(__file__).parents[1]


def heed_interrupts():
    """A background job inherits SIGINT ignored; the command under test must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GAAS = "Gallium arsenide has a direct band gap. It is used in laser diodes."
LIF = "Lithium fluoride is a wide-gap insulator. Its measured band gap is 11.7 eV."


@pytest.fixture
def notes(ragkit, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "gaas.md").write_text(f"---\nyear: 2020\n---\n# GaAs\n\n{GAAS}\n")
    (folder / "lif.md").write_text(f"---\nyear: 2024\n---\n# LiF\n\n{LIF}\n")
    code, out, _ = ragkit("index", "add", "docs", "--to", "notes.rag")
    assert code == 0, out
    return folder


def test_index_add_when_run_twice_does_nothing_the_second_time(ragkit, notes):
    code, out, _ = ragkit("index", "add", "docs", "--to", "notes.rag", "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["added"], report["unchanged"], report["n_embedded"]) == (0, 2, 0)


def test_index_add_when_a_file_fails_goes_on_with_exit_code_3(ragkit, notes):
    (notes / "empty.txt").write_text("")
    (notes / "data.xyz").write_bytes(b"\0\1")
    (notes / "more.txt").write_text("Silicon carbide is hard.")
    code, out, err = ragkit("index", "add", "docs", "--to", "notes.rag")
    assert code == 3
    assert "1 added, 2 unchanged, 2 failed" in out
    assert "empty.txt" in err
    assert "unsupported type .xyz" in err.replace("\n", " ")
    jobs = json.loads(ragkit("index", "info", "--in", "notes.rag", "--json")[1])["jobs"]
    assert {loss["what"] for loss in jobs[0]["losses"]} == {"data.xyz", "empty.txt"}
    code, out, _ = ragkit("index", "list", "--in", "notes.rag", "--json")
    states = {row["id"]: row["state"] for row in json.loads(out)}
    assert states == {
        "data.xyz": "failed", "empty.txt": "failed",
        "gaas.md": "indexed", "lif.md": "indexed", "more.txt": "indexed",
    }  # fmt: skip


def test_index_add_when_an_encoding_is_given_then_files_and_stdin_are_read_in_it(ragkit, tmp_path):
    Path("a.txt").write_bytes(b"caf\xe9 \xb5")
    options = ("--to", "legacy.rag", "--name", "stdin", "--encoding", "iso-8859-2")
    code, _, err = ragkit("index", "add", "a.txt", "-", *options, stdin=b"ol\xf3w \xb1")
    assert (code, err) == (0, "")
    assert ragkit("index", "show", "a.txt", "--in", "legacy.rag").out == "café ľ\n"
    assert ragkit("index", "show", "stdin", "--in", "legacy.rag").out == "olów ą\n"
    code, _, err = ragkit("index", "add", "a.txt", "--to", "new.rag", "--encoding", "none")
    assert code == 2
    assert "encoding is 'none'; expected the name of a character encoding" in err.replace("\n", " ")
    assert not Path("new.rag").exists()


def test_index_add_when_stdin_is_given_reads_it(ragkit, notes):
    code, _, _ = ragkit("index", "add", "-", "--to", "notes.rag", "--name", "memo", stdin="A memo.")
    assert code == 0
    code, out, _ = ragkit("index", "show", "memo", "--in", "notes.rag")
    assert (code, out) == (0, "A memo.\n")


def test_index_add_when_the_path_is_missing_says_so(ragkit):
    code, _, err = ragkit("index", "add", "nowhere", "--to", "notes.rag")
    assert code == 1
    assert "nowhere" in err


def test_index_add_when_the_folder_is_empty_says_so(ragkit, tmp_path):
    (tmp_path / "void").mkdir()
    code, _, err = ragkit("index", "add", "void", "--to", "notes.rag")
    assert code == 1
    assert "there is no file to read in 'void'" in err


def test_index_add_when_settings_differ_from_the_collection_refuses(ragkit, notes):
    code, _, err = ragkit("index", "add", "docs", "--to", "notes.rag", "--chunk-tokens", "50")
    assert code == 1
    assert "cannot be changed after creation" in err.replace("\n", " ")


def test_index_delete_when_ids_are_unknown_lists_them(ragkit, notes):
    code, out, err = ragkit("index", "delete", "gaas.md", "no.md", "--in", "notes.rag")
    assert code == 3
    assert "1 documents deleted" in out
    assert "'no.md'" in err
    assert ragkit("index", "delete", "no.md", "--in", "notes.rag")[0] == 1


def test_index_sync_when_most_would_go_wants_a_yes(ragkit, notes):
    (notes / "gaas.md").unlink()
    (notes / "lif.md").unlink()
    (notes / "new.md").write_text("Magnetite is magnetic.")
    code, _, err = ragkit("index", "sync", "docs", "--to", "notes.rag")
    assert code == 1
    assert "--yes" in err
    code, out, _ = ragkit("index", "sync", "docs", "--to", "notes.rag", "--yes")
    assert code == 0
    assert "2 deleted" in out


def test_index_commands_when_all_is_well_exit_0(ragkit, notes):
    assert "2 indexed" in ragkit("index", "info", "--in", "notes.rag")[1]
    info = json.loads(ragkit("index", "info", "--in", "notes.rag", "--json")[1])
    assert info["documents"]["indexed"] == 2
    for command in ("verify", "repair", "compact", "gc"):
        code, out, err = ragkit("index", command, "--in", "notes.rag")
        assert code == 0, (command, out, err)


def test_index_verify_when_a_bit_is_flipped_exits_1_and_repair_mends_it(ragkit, notes, tmp_path):
    vectors = next((tmp_path / "notes.rag" / "segments").glob("*/vectors.npy"))
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    code, out, _ = ragkit("index", "verify", "--in", "notes.rag")
    assert code == 1
    assert "vectors.npy does not match its digest" in out
    assert ragkit("index", "repair", "--in", "notes.rag")[0] == 0
    assert ragkit("index", "verify", "--in", "notes.rag")[0] == 0


def test_index_build_when_given_a_recipe_builds_it(ragkit):
    code, out, _ = ragkit("index", "recipes")
    assert code == 0
    assert out.startswith("demo")
    code, _, err = ragkit("index", "build", "nothing")
    assert code == 1
    assert "demo" in err


def test_search_when_asked_for_json_follows_the_dataclasses(ragkit, notes):
    code, out, _ = ragkit("search", "band gap of LiF", "--in", "notes.rag", "-k", "1", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found) == ["query", "hits", "losses"]
    assert list(found["hits"][0]) == ["chunk", "score", "parts", "copies"]
    chunk = found["hits"][0]["chunk"]
    assert chunk["doc_id"] == "lif.md"
    assert {"id", "doc_id", "text", "start", "end", "metadata", "layout"} == set(chunk)


@pytest.mark.parametrize("retriever", ["dense", "bm25", "hybrid"])
def test_search_when_filtered_finds_only_what_passes(ragkit, notes, retriever):
    arguments = ("search", "band gap", "--in", "notes.rag", "--retriever", retriever, "--json")
    code, out, _ = ragkit(*arguments, "--where", "year>=2024")
    assert code == 0
    assert [hit["chunk"]["doc_id"] for hit in json.loads(out)["hits"]] == ["lif.md"]
    both = ragkit(*arguments, "--where", "year>=2000", "--where", '{"title": {"in": ["GaAs"]}}')
    assert [hit["chunk"]["doc_id"] for hit in json.loads(both[1])["hits"]] == ["gaas.md"]


def test_search_when_nothing_matches_prints_an_empty_list_and_exits_0(ragkit, notes):
    code, out, _ = ragkit("search", "qqq", "--in", "notes.rag", "--retriever", "bm25", "--json")
    assert code == 0
    assert json.loads(out)["hits"] == []


def test_search_when_explained_shows_parts_and_terms(ragkit, notes):
    _, out, _ = ragkit("search", "band gap", "--in", "notes.rag", "--explain")
    assert "dense/cosine: rank" in out
    assert "term gap:" in out


WRONG = [
    (["search", "", "--in", "notes.rag"], 2, "the query is empty"),
    (["search", "x", "--in", "notes.rag", "-k", "0"], 2, "greater than or equal to 1"),
    (["search", "x", "--in", "absent.rag"], 1, "there is no collection at 'absent.rag'"),
    (["search", "x", "--in", "notes.rag", "--where", "year~1"], 2, "year>=2020"),
    (["search", "x", "--in", "notes.rag", "--where", '{"a":{"~":1}}'], 2, "unknown operator"),
    (["search", "x", "--in", "notes.rag", "--retriever", "magic"], 2, "magic"),
    (["search", "x", "--in", "notes.rag", "--where", "year>="], 2, "year>=2020"),
    (["search", "x\ud800", "--in", "notes.rag"], 2, "cannot be encoded as UTF-8"),
    (["search", "x"], 1, "no collection was specified"),
    (["ask", "x", "--in", "notes.rag", "--llm", "no-such-model"], 1, "no-such-model"),
    (["verify", "absent.json"], 1, "absent.json"),
    (["models", "install", "gpt9"], 1, "known models: minilm"),
    (["frobnicate"], 2, "frobnicate"),
]  # fmt: skip


def test_commands_when_used_wrongly_say_what_to_do(ragkit, notes):
    for arguments, code, says in WRONG:
        found, _, err = ragkit(*arguments)
        assert (found, says in " ".join(err.split())) == (code, True), (arguments, err)


def test_ask_when_answered_cites_and_verify_accepts(ragkit, notes, tmp_path):
    question = "What is the measured band gap of lithium fluoride?"
    code, out, _ = ragkit("ask", question, "--in", "notes.rag")
    assert code == 0
    assert "Its measured band gap is 11.7 eV. [" in out
    assert "] lif.md:" in out
    code, out, _ = ragkit("ask", question, "--in", "notes.rag", "--json")
    (tmp_path / "answer.json").write_text(out)
    assert ragkit("verify", "answer.json")[0] == 0
    (notes / "lif.md").write_text("Lithium fluoride is salty.")
    ragkit("index", "add", "docs", "--to", "notes.rag")
    code, out, _ = ragkit("verify", "answer.json", "--json")
    assert code == 1
    assert {check["state"] for check in json.loads(out)["citations"]} == {"stale"}


def test_ask_when_no_passage_answers_exits_4(ragkit, notes, tmp_path):
    code, out, _ = ragkit("ask", "Who won the cup in 1966?", "--in", "notes.rag", "--json")
    assert code == 4
    assert json.loads(out)["refusal"]["reason"] == "no_evidence"
    (tmp_path / "answer.json").write_text(out)
    assert ragkit("verify", "answer.json")[0] == 4


def test_ask_when_given_files_needs_no_collection(ragkit, notes, tmp_path):
    question = "What is the measured band gap of lithium fluoride?"
    code, out, _ = ragkit("ask", question, "--docs", "docs", "--json")
    assert code == 0
    (tmp_path / "answer.json").write_text(out)
    assert json.loads(out)["source"]["collection"] is None
    assert ragkit("verify", "answer.json", "--docs", "docs")[0] == 0
    assert ragkit("verify", "answer.json")[0] == 1


def test_ask_when_the_endpoint_is_down_says_so(ragkit, notes):
    llm = "http://127.0.0.1:9/v1#model"
    code, _, err = ragkit("ask", "band gap?", "--in", "notes.rag", "--llm", llm)
    assert code == 1
    assert "127.0.0.1:9" in err


def test_chat_when_lines_come_from_stdin_answers_each(ragkit, notes):
    lines = "What is the measured band gap of lithium fluoride?\nWho won the cup in 1966?\n\n"
    code, out, _ = ragkit("chat", "--in", "notes.rag", stdin=lines)
    assert code == 0
    assert "11.7 eV" in out
    assert "No answer" in out


def test_settings_when_in_file_and_environment_have_an_order(ragkit, notes, tmp_path, monkeypatch):
    (tmp_path / "ragkit.toml").write_text(
        '[ragkit]\ncollection = "notes.rag"\nretriever = "bm25"\n'
    )
    found = json.loads(ragkit("search", "band gap", "--json")[1])
    assert found["hits"][0]["parts"][-1]["stage"] == "bm25"
    monkeypatch.setenv("RAGKIT_RETRIEVER", "dense")
    found = json.loads(ragkit("search", "band gap", "--json")[1])
    assert found["hits"][0]["parts"][-1]["stage"] == "dense"
    rows = json.loads(ragkit("doctor", "--json")[1])["settings"]
    assert rows["retriever"] == {"value": "dense", "origin": "environment (RAGKIT_RETRIEVER)"}
    assert rows["collection"] == {"value": "notes.rag", "origin": "ragkit.toml"}
    (tmp_path / "ragkit.toml").write_text("[ragkit]\nretreiver = 1\n")
    code, _, err = ragkit("search", "band gap")
    assert code == 1
    assert "retreiver" in err


def test_models_list_when_asked_says_what_is_installed(ragkit):
    code, out, _ = ragkit("models", "list", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} == {"minilm", "smollm2"}


def test_search_when_models_are_converted_never_imports_torch(ragkit, notes, tmp_path):
    program = (
        "import sys; from ragkit.cli.main import run\n"
        "sys.argv = ['ragkit', 'search', 'band gap', '--in', 'notes.rag', '--json']\n"
        "try: run()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'faiss', 'onnx', 'openai', 'pypdfium2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_index_add_when_another_process_writes_waits_as_long_as_it_is_told(ragkit, notes):
    (notes / "more.txt").write_text("Silicon carbide is hard.")
    held, done = threading.Event(), threading.Event()

    def hold():
        lock = acquire_write_lock(Path("notes.rag"))
        held.set()
        done.wait(60)
        lock.release()

    writer = threading.Thread(target=hold)
    writer.start()
    assert held.wait(60)
    code, _, err = ragkit("index", "add", "docs", "--to", "notes.rag", "--wait", "0.01")
    assert (code, "--wait SECONDS" in " ".join(err.split())) == (1, True)
    done.set()
    code, out, _ = ragkit("index", "add", "docs", "--to", "notes.rag", "--wait", "60", "--json")
    writer.join()
    assert (code, json.loads(out)["added"]) == (0, 1)


@pytest.mark.faults
def test_index_add_when_interrupted_says_how_to_go_on(tmp_path):
    lines = [
        json.dumps({"_id": str(i), "text": f"Entry {i} on oxide {i * 7}."}) for i in range(4000)
    ]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    command = [
        sys.executable,
        "-m",
        "ragkit.cli.main",
        "index",
        "add",
        "many.jsonl",
        "--to",
        "m.rag",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    database = tmp_path / "m.rag" / "ledger"
    for _ in range(600):
        if database.exists() and any(database.iterdir()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Resume with: ragkit index add many.jsonl --to m.rag" in " ".join(err.split())
    found = subprocess.run(
        [sys.executable, "-m", "ragkit", "index", "verify", "--in", "m.rag"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.faults
def test_index_repair_when_collection_json_is_lost_writes_it_again(ragkit, notes):
    description = Path("notes.rag/collection.json")
    text = description.read_text()
    description.unlink()
    assert ragkit("search", "gallium", "--in", "notes.rag")[0] == 0
    assert ragkit("index", "repair", "--in", "notes.rag")[0] == 0
    assert description.read_text() == text
    description.unlink()
    assert ragkit("index", "add", "docs", "--to", "notes.rag")[0] == 0
    assert description.read_text() == text


@pytest.mark.faults
@pytest.mark.parametrize("part", ["key", "role"])
def test_index_repair_when_the_ledgers_keys_are_damaged_mends_them(ragkit, notes, part):
    store = Path("notes.rag/store.db")
    with contextlib.closing(sqlite3.connect(store)) as connection:
        [key] = connection.execute("SELECT key FROM ledger LIMIT 1").fetchone()
        if part == "role":
            connection.execute("UPDATE ledger SET role = 'pastage' WHERE key = ?", [key])
            connection.commit()
    if part == "key":
        data = store.read_bytes()
        place = data.rindex(b"passage" + key) + len("passage")
        store.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
    assert ragkit("index", "verify", "--in", "notes.rag")[0] == 1
    code, out, err = ragkit("index", "repair", "--in", "notes.rag")
    assert code == 0, out + err
    assert "rebuilt; 1 texts were embedded again" in out
    assert ragkit("index", "verify", "--in", "notes.rag")[0] == 0


def test_search_when_an_add_was_interrupted_says_that_more_is_to_come(ragkit, notes):
    with contextlib.closing(sqlite3.connect("notes.rag/store.db")) as connection:
        connection.execute("UPDATE documents SET state = 'parsed', born = NULL")
        connection.commit()
    code, out, err = ragkit("search", "zirconium", "--in", "notes.rag", "--retriever", "bm25")
    assert (code, out) == (0, "no hits\n")
    assert "was interrupted" in err
