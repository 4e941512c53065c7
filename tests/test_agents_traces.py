"""Traces of agent runs: kept through kills, several writers and anything a model may say."""

import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragkit.agents.canonical import canonical_json, difference, secret_in
from ragkit.agents.ledger import Quantity
from ragkit.agents.steps import Action, Final, Thought
from ragkit.agents.traces import RunRecord, RunSummary, StoredStep, TraceStore, compare, digest
from ragkit.errors import RagkitError

STARTED = "2026-11-21T10:15:30+00:00"
SETTINGS = {
    "planner": "rules",
    "limits": {"max_steps": 8, "max_tokens": 4096, "step_tokens": 256},
    "how": {"llm": None, "backend": "snapshot", "permissions": {}},
    "ragkit": "0.1.0",
}
RECORD = RunRecord("materials", "Band gap of GaAs?", SETTINGS, STARTED)


@pytest.fixture
def store(tmp_path):
    with TraceStore(tmp_path / "traces.db") as opened:
        yield opened


def add_run(store, texts=("one", "two"), record=RECORD, finished=True):
    run_id = store.begin(record)
    for index, text in enumerate(texts):
        store.add_step(run_id, index, "thought", {"text": text, "kind": "thought"})
    if finished:
        store.finish(run_id, "answered", {"text": "1.4 eV"}, {"prompt_tokens": 3}, 0.5)
    return run_id


def test_a_run_comes_back_as_it_was_stored(store):
    run_id = add_run(store)
    run = store.show(run_id)
    assert run.id == run_id
    assert run.record == RECORD
    assert run.steps == (
        StoredStep(0, "thought", {"kind": "thought", "text": "one"}),
        StoredStep(1, "thought", {"kind": "thought", "text": "two"}),
    )
    assert (run.exit_reason, run.answer, run.usage, run.seconds) == (
        "answered", {"text": "1.4 eV"}, {"prompt_tokens": 3}, 0.5,
    )  # fmt: skip
    assert store.list() == [
        RunSummary(run_id, "materials", RECORD.question, STARTED, "answered", 2, 0.5)
    ]


def test_ids_say_when_a_run_began_in_utc_and_differ(store):
    local = replace(RECORD, started="2026-11-21T19:15:30+09:00")
    ids = [add_run(store, (), local) for _ in range(300)]
    assert {each[:16] for each in ids} == {"20261121-101530-"}
    assert len(set(ids)) == 300
    assert sum(len(each) == 20 for each in ids) > 290
    for wrong in ("yesterday", "2026-11-21T10:15:30", ""):
        with pytest.raises(ValueError, match="expected ISO 8601 with an offset"):
            store.begin(replace(RECORD, started=wrong))


def test_the_latest_runs_come_first(store):
    ids = [add_run(store, record=replace(RECORD, agent=name)) for name in ("a", "b", "a", "a")]
    assert [each.id for each in store.list()] == ids[::-1]
    assert [each.id for each in store.list(2)] == [ids[3], ids[2]]
    assert [each.id for each in store.list(agent="b")] == [ids[1]]
    assert store.list(agent="c") == []
    with pytest.raises(ValueError, match="limit is 0"):
        store.list(0)


def test_a_run_is_found_by_id_prefix_or_last(store):
    with pytest.raises(RagkitError, match="there are no runs yet"):
        store.show("last")
    early = add_run(store, record=replace(RECORD, started="2026-01-01T00:00:00+00:00"))
    late = [add_run(store), add_run(store)]
    assert store.show("last").id == late[1]
    assert store.show("202601").id == early
    assert store.show(late[0]).id == late[0]
    with pytest.raises(RagkitError, match=f"matches 2 runs: {late[0]}, {late[1]}. Give a longer"):
        store.show("20261121")
    with pytest.raises(RagkitError, match="matches 3 runs"):
        store.show("2")
    for wrong in ("2027", "", "%", "_", "2026%", "LAST", "\ud800", "x' OR 1=1"):
        with pytest.raises(RagkitError, match="there is no run"):
            store.show(wrong)


def test_a_run_without_an_end_is_interrupted(store):
    run_id = add_run(store, finished=False)
    assert store.list()[0].exit_reason == "interrupted"
    run = store.show(run_id)
    assert (run.exit_reason, run.answer, run.usage, run.seconds) == (
        "interrupted",
        None,
        None,
        None,
    )
    assert len(run.steps) == 2


def test_steps_out_of_turn_are_refused(store):
    run_id = add_run(store, finished=False)
    with pytest.raises(RagkitError, match="already has a step 1"):
        store.add_step(run_id, 1, "thought", {})
    with pytest.raises(RagkitError, match="there is no run 'x'; begin a run"):
        store.add_step("x", 0, "thought", {})
    with pytest.raises(RagkitError, match="there is no run 'x'"):
        store.finish("x", "answered", {}, {}, 0)
    store.finish(run_id, "answered", {}, {}, 0)
    with pytest.raises(RagkitError, match="is finished"):
        store.finish(run_id, "answered", {}, {}, 0)
    with pytest.raises(RagkitError, match="is finished"):
        store.add_step(run_id, 2, "thought", {})
    with pytest.raises(TypeError, match=r"cannot be stored as JSON.*type object"):
        store.add_step(add_run(store, finished=False), 5, "thought", {"x": object()})
    with pytest.raises(ValueError, match="cannot be stored"):
        store.add_step(store.begin(RECORD), 0, "\ud800", {})


def test_deleting_and_pruning_take_the_steps_along(store):
    ids = [add_run(store) for _ in range(6)]
    store.delete(ids[2])
    with pytest.raises(RagkitError, match=r"no run .* to delete"):
        store.delete(ids[2])
    with pytest.raises(RagkitError, match="no run '2026' to delete"):
        store.delete("2026")
    assert store.prune(keep=2) == 3
    assert [each.id for each in store.list()] == [ids[5], ids[4]]
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("SELECT count(*) FROM steps").fetchone() == (4,)
    assert store.prune(keep=9) == 0
    assert store.prune(keep=0) == 2
    assert store.list() == []
    with pytest.raises(ValueError, match="keep is -1"):
        store.prune(keep=-1)
    assert add_run(store)


NASTY = [
    "Bandlücke von GaAs: 1,42 eV\u2028\u202e\ufeff",
    "nul\0, bell\a, \x1b[31m",
    "lone \ud800 high, lone \udfff low, \udcff from a file name",
    "low before high \udc00\ud800",
    "\U0001f600\U0010ffff",
    "'; DROP TABLE runs; --",
    "\\ud800 as six characters",
]


@pytest.mark.parametrize("text", NASTY)
def test_any_text_comes_back_whole(store, text):
    record = replace(RECORD, agent=text, question=text, settings={"prompt": text, text: 1})
    run_id = add_run(store, (text,), record)
    run = store.show(run_id)
    assert run.steps[0].body["text"] == text
    assert run.record == record
    assert store.list(agent=text)[0].question == text
    assert compare(run, run) is None
    assert len(digest(run)) == 32


@pytest.mark.faults
def test_a_step_of_5_mb_comes_back_whole(store):
    text = "ä\ud800x" * 1_700_000
    assert len(text) > 5_000_000
    run_id = add_run(store, (text,))
    assert store.show(run_id).steps[0].body["text"] == text


def test_what_steps_are_made_of_can_be_stored(store):
    final = Final("1.4 eV", rows={"r1": Quantity(1.4, "eV", derived_from=("r2",))}, also=())
    action = Action("search", MappingProxyType({"limit": np.int64(3), "path": Path("a/b")}))
    run_id = store.begin(RECORD)
    store.add_step(run_id, 0, "action", {"tool": action.tool, "arguments": action.arguments})
    store.add_step(run_id, 1, "final", asdict(final))
    store.add_step(run_id, 2, "thought", {"inner": (Thought("x"),), "v": [math.inf, np.float32(1)]})
    bodies = [each.body for each in store.show(run_id).steps]
    assert bodies[0]["arguments"] == {"limit": 3, "path": "a/b"}
    assert bodies[1]["rows"]["r1"]["derived_from"] == ["r2"]
    assert bodies[2] == {"inner": [{"text": "x", "kind": "thought"}], "v": [math.inf, 1.0]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
@example("\ud800")
@example({"\udfff": ["\udc00\ud800"]})
@example([math.nan, -0.0, 1e400])
def test_canonical_json_is_utf8_and_comes_back(value):
    text = canonical_json(value)
    text.encode()
    assert canonical_json(json.loads(text)) == text


@given(JSON, JSON)
def test_a_difference_is_found_exactly_where_the_texts_differ(one, two):
    one, two = json.loads(canonical_json(one)), json.loads(canonical_json(two))
    found = difference(one, two, "x")
    assert (found is None) == (canonical_json(one) == canonical_json(two))
    assert found is None or found.startswith("x")
    assert difference(one, one, "x") is None


def test_a_surrogate_pair_comes_back_as_its_character():
    assert json.loads(canonical_json("\ud83d\ude00")) == "\U0001f600"


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "sk-1"},
        {"llm": {"apiKey": "sk-1"}},
        {"headers": [{"X-API-KEY": "k"}]},
        {"Authorization": "Bearer x"},
        {"how": {"hf_token": "hf_1"}},
        {"db_password": "p"},
        {"MP_API_KEY": "k"},
        {"clientSecret": 7},
        {"credentials": {"user": "x"}},
    ],
)
def test_settings_named_like_secrets_are_refused(store, settings):
    with pytest.raises(ValueError, match="looks like a secret"):
        store.begin(replace(RECORD, settings=settings))
    assert store.list() == []
    assert store.path.read_bytes().count(b"sk-1") == 0


def test_settings_that_only_sound_like_secrets_are_kept():
    assert secret_in(SETTINGS) == ""
    assert secret_in({"max_tokens": 5, "n_tokens": 5, "api_key": None, "tokenizer": "x"}) == ""
    assert secret_in({"a": [{}, {"b": {"token": "x"}}]}) == "a.b.token"


def test_a_replay_that_does_the_same_has_the_same_digest(store):
    first = store.show(add_run(store))
    later = replace(
        RECORD, started="2027-01-01T00:00:00+00:00", settings={**SETTINGS, "ragkit": "0.2.0"}
    )
    run_id = store.begin(later)
    for index, text in enumerate(("one", "two")):
        store.add_step(
            run_id, index, "thought", {"text": text, "kind": "thought", "seconds": index}
        )
    store.finish(run_id, "answered", {}, {}, 99.0)
    second = store.show(run_id)
    assert digest(first) == digest(second)
    assert compare(first, second) is None


def test_the_first_difference_is_described(store):
    def run(*bodies, **record):
        run_id = store.begin(replace(RECORD, **record))
        for index, body in enumerate(bodies):
            store.add_step(run_id, index, "action", body)
        return store.show(run_id)

    def difference_of(one, two):
        assert digest(one) != digest(two)
        return compare(one, two)

    plain = run({"tool": "search", "arguments": {"limit": 1, "seconds": 1}})
    assert difference_of(
        plain, run({"tool": "search", "arguments": {"limit": 2, "seconds": 1}})
    ) == ("step 1, arguments.limit: 1 and 2")
    assert difference_of(
        plain, run({"tool": "search", "arguments": {"limit": 1, "seconds": 2}})
    ) == ("step 1, arguments.seconds: 1 and 2")
    assert difference_of(
        plain, run({"tool": "search", "arguments": {"limit": 1.0, "seconds": 1}})
    ) == ("step 1, arguments.limit: 1 and 1.0")
    assert difference_of(plain, run({"tool": "search", "arguments": {"seconds": 1}})) == (
        "step 1, arguments.limit: only the first run has it: 1"
    )
    assert difference_of(plain, run()) == "step 1: one run has 1 steps, the other 0"
    assert difference_of(run({}, question="a"), run({}, question="b")) == "question: 'a' and 'b'"
    seeds = (run({}, settings={"how": {"seed": seed}}) for seed in (0, 1))
    assert difference_of(*seeds) == "settings.how.seed: 0 and 1"
    long = "x" * 500
    found = difference_of(
        run({"rows": ["r1", long + "a" + long]}), run({"rows": ["r1", long + "b"]})
    )
    assert found.startswith(f"step 1, rows[1]: …'{'x' * 20}ax")
    assert found.endswith(f"…'{'x' * 20}b'")
    assert len(found) < 200
    assert "0.1 and 0.2" in difference_of(run({"v": [math.nan, 0.1]}), run({"v": [math.nan, 0.2]}))
    assert difference_of(run({"v": []}), run({"v": [1]})) == "step 1, v: 0 and 1 items"


def test_the_default_place_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "a" / "b"))
    with TraceStore() as store:
        add_run(store)
        assert store.path == tmp_path / "a" / "b" / "traces.db"
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    with TraceStore() as store:
        assert len(store.list()) == 1


def test_a_garbage_file_is_refused_with_a_remedy_and_kept(tmp_path):
    path = tmp_path / "traces.db"
    path.write_bytes(b"not a database " * 500)
    with pytest.raises(
        RagkitError, match=r"are damaged: file is not a database\. Move the file away"
    ):
        TraceStore(path)
    assert path.read_bytes() == b"not a database " * 500


def test_a_file_damaged_inside_is_told(tmp_path):
    path = tmp_path / "traces.db"
    with TraceStore(path) as store:
        add_run(store, [f"{n} " + "x" * 3000 for n in range(20)])
    data = bytearray(path.read_bytes())
    for page in range(4096 * 3, len(data), 4096):
        data[page : page + 16] = b"\xff" * 16
    path.write_bytes(data)
    with TraceStore(path) as store, pytest.raises(RagkitError, match="damaged"):
        store.show("last")


@pytest.mark.parametrize("body", ["{broken", "[1]", "[" * 100_000, "17"])
def test_a_body_that_is_no_mapping_is_damage(store, body):
    run_id = add_run(store)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE steps SET body = ?", [body])
    with pytest.raises(RagkitError, match="damaged"):
        store.show(run_id)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 2", "format 2 of a newer ragkit.*Update ragkit"),
        ("PRAGMA application_id = 5", "did not create"),
        ("CREATE TABLE more (x)", "did not create"),
        ("CREATE TRIGGER t AFTER INSERT ON steps BEGIN DELETE FROM runs; END", "did not create"),
        ("DROP TABLE steps", "did not create"),
    ],
)
def test_a_foreign_or_newer_file_is_refused_and_kept(tmp_path, statement, message):
    path = tmp_path / "traces.db"
    TraceStore(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    before = path.read_bytes()
    with pytest.raises(RagkitError, match=message):
        TraceStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_not_touched(tmp_path):
    path = tmp_path / "traces.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    before = path.read_bytes()
    with pytest.raises(RagkitError, match="another program"):
        TraceStore(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["traces.db"]


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "traces.db").touch()
    with TraceStore(tmp_path / "traces.db") as store:
        assert add_run(store)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RagkitError, match=r"traces cannot be written to .*Set RAGKIT_HOME"):
        TraceStore(tmp_path / "file" / "traces.db")
    with pytest.raises(RagkitError, match="not a regular file"):
        TraceStore(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_file_is_told(tmp_path):
    TraceStore(tmp_path / "traces.db").close()
    (tmp_path / "traces.db").chmod(0o400)
    with pytest.raises(RagkitError, match="no write permission"):
        TraceStore(tmp_path / "traces.db")


WRITER = """
import sys
from pathlib import Path
from ragkit.agents.traces import RunRecord, TraceStore
path, name, n_runs, n_steps, finish = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
sys.stdin.readline()
with TraceStore(path) as store:
    for n in range(n_runs):
        record = RunRecord(name, f"question {n}", {"seed": n}, "2026-11-21T10:15:30+00:00")
        run_id = store.begin(record)
        for index in range(n_steps):
            store.add_step(run_id, index, "thought", {"text": f"{name} {n} {index}"})
        if finish:
            store.finish(run_id, "answered", {"text": name}, {}, 1.0)
    print(run_id, flush=True)
    sys.stdin.readline()
"""


def start_writer(path, *values):
    command = [sys.executable, "-c", WRITER, str(path), *map(str, values)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.faults
def test_four_processes_write_at_once(tmp_path):
    path = tmp_path / "traces.db"
    writers = [start_writer(path, f"agent{n}", 20, 3, 1) for n in range(4)]
    for writer in writers:  # they all make the file, too
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate("\n", timeout=120)
        assert writer.returncode == 0
    with TraceStore(path) as store:
        runs = store.list(1000)
        assert len({each.id for each in runs}) == 80
        assert {each.n_steps for each in runs} == {3}
        for n in range(4):
            mine = store.list(100, f"agent{n}")
            assert [each.question for each in mine] == [f"question {i}" for i in range(19, -1, -1)]
        for each in runs[:20]:
            run = store.show(each.id)
            number = run.record.question.split()[1]
            assert [step.body["text"] for step in run.steps] == [
                f"{run.record.agent} {number} {i}" for i in range(3)
            ]


def test_a_killed_run_keeps_its_steps_and_is_listed_as_interrupted(tmp_path):
    path = tmp_path / "traces.db"
    writer = start_writer(path, "materials", 1, 3, 0)
    with writer:
        writer.stdin.write("\n")
        writer.stdin.flush()
        run_id = writer.stdout.readline().strip()
        os.kill(writer.pid, signal.SIGKILL)
        writer.stdin.close()
    assert writer.returncode == -signal.SIGKILL
    with TraceStore(path) as store:
        assert [(each.id, each.exit_reason, each.n_steps) for each in store.list()] == [
            (run_id, "interrupted", 3)
        ]
        assert [each.body["text"] for each in store.show(run_id).steps] == [
            f"materials 0 {i}" for i in range(3)
        ]
        assert store.show(add_run(store)).exit_reason == "answered"
