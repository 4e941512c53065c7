"""`ragkit agent` and `ragkit trace`, as a person and as a program would use them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragkit import Collection, verify_answer
from ragkit.agents.definition import AgentOptions, describe, load_agent
from ragkit.agents.recording import Approvals, record, replay
from ragkit.agents.traces import TraceStore
from ragkit.cli.main import app, run

ROOT = Path(__file__).parents[1]
GAP = "What is the band gap of GaAs?"
RULES = ("--llm", "rules")  # starts at once


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Traces of these tests go to their own folder; converted models stay where they are."""
    from ragkit import models

    converted = models.home() / "models"
    converted.mkdir(parents=True, exist_ok=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(converted)
    monkeypatch.setenv("RAGKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def call(*arguments, **options):
    return CliRunner().invoke(app, list(arguments), **options)


def action(name, **arguments):
    return json.dumps({"thought": "go on", "action": {"name": name, "arguments": arguments}})


def test_run_when_the_value_is_held_prints_it_with_unit_id_method_and_source():
    result = call("agent", "run", "materials", GAP, *RULES)
    assert result.exit_code == 0, result.output
    line = result.stdout.splitlines()[0]
    assert line.startswith("GaAs (mp-2534, F-43m): band gap 0.186 eV [DFT")
    assert "Materials Project" in line
    assert "search_summary" in result.stderr


def test_run_when_the_material_is_not_held_refuses_with_exit_code_4():
    result = call(
        "agent", "run", "materials", "What is the band gap of Fe7U3Xe2?", *RULES, "--quiet"
    )
    assert result.exit_code == 4
    assert result.stdout.startswith("No value found.")


def test_run_when_json_is_asked_for_prints_every_field_of_the_rows():
    result = call("agent", "run", "materials", GAP, *RULES, "--json", "--quiet")
    told = json.loads(result.stdout)
    row = told["rows"]["r1"]
    assert row["value"] == 0.18610000000000015
    assert (row["unit"], row["subject_id"], row["licence"]) == ("eV", "mp-2534", "CC BY 4.0")
    assert json.loads(row["query"])["tool"] == "search_summary"
    assert told["exit_reason"] == "answered"
    assert told["run"]


def test_run_when_a_limit_is_reached_tells_what_was_found_with_exit_code_3():
    result = call("agent", "run", "materials", GAP, *RULES, "--max-steps", "1", "--quiet")
    assert result.exit_code == 3
    assert result.stdout.startswith("Not finished (max_steps). Found so far:\nGaAs (mp-2534")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agent", "run", "nobody", GAP], "there is no agent 'nobody'"),
        (["agent", "run", "materials", " "], "the question is empty"),
        (["agent", "run", "materials", GAP, *RULES, "--permit", "compare"], "expected TOOL=allow"),
        (["agent", "run", "materials", GAP, *RULES, "--permit", "shell=allow"], "no tool shell"),
        (["agent", "run", "materials", GAP, *RULES, "--team"], "cannot run a team"),
        (["agent", "run", "materials", GAP, *RULES, "--in", "x.rag"], "uses no collection"),
        (["agent", "run", "materials", GAP, *RULES, "--backend", "live"], "MP_API_KEY"),
        (["trace", "show", "nothing"], "nothing"),
    ],
)
def test_command_when_something_is_wrong_says_what_and_ends_with_1_or_2(
    arguments, said, monkeypatch, capsys
):
    for variable in ("MP_API_KEY", "RAGKIT_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.argv", ["ragkit", *arguments])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())


def test_list_and_show_when_called_tell_the_agents_tools_limits_and_prompt():
    listed = json.loads(call("agent", "list", "--json").stdout)
    assert {"materials", "library"} <= {each["name"] for each in listed}
    shown = call("agent", "show", "materials", *RULES)
    assert "planner: rules" in shown.stdout
    assert "search_elasticity [allow]:" in shown.stdout
    told = json.loads(call("agent", "show", "materials", *RULES, "--json").stdout)
    assert told["limits"]["max_steps"] == 12
    assert all(each["parameters"]["additionalProperties"] is False for each in told["schemas"])


def test_chat_when_questions_come_line_by_line_answers_each():
    result = call(
        "agent", "chat", "materials", *RULES, "--quiet", input=f"{GAP}\nWhat is this?\n\n"
    )
    assert result.exit_code == 0, result.output
    assert "0.186 eV" in result.stdout
    assert "No answer" in result.stdout


def test_trace_when_a_run_is_replayed_gives_the_same_bytes():
    first = json.loads(call("agent", "run", "materials", GAP, *RULES, "--json", "--quiet").stdout)[
        "run"
    ]
    listed = json.loads(call("trace", "list", "--json").stdout)
    assert [each["id"] for each in listed] == [first]
    shown = call("trace", "show", first)
    assert "search_summary" in shown.stdout
    assert GAP in shown.stdout
    replayed = call("trace", "replay", first)
    assert replayed.exit_code == 0, replayed.output
    assert "is identical to" in replayed.stdout


def test_prune_when_called_keeps_the_latest_and_says_how_many_went():
    ids = []
    for _ in range(3):
        result = call("agent", "run", "materials", GAP, *RULES, "--json", "--quiet")
        ids.append(json.loads(result.stdout)["run"])
    assert call("trace", "prune").exit_code == 2
    assert call("trace", "prune", "--keep", "1").stdout == "deleted 2 runs\n"
    assert [each["id"] for each in json.loads(call("trace", "list", "--json").stdout)] == ids[2:]
    told = json.loads(call("trace", "prune", "--keep", "0", "--json").stdout)
    assert told == {"removed": 1}


def recorded(store, approve, how, name="materials"):
    """A run that may ask, stored."""
    agent = load_agent(name, AgentOptions(**how, approve=approve))
    steps = record(agent, GAP, store, name=str(name), how=how)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return store.show(end.value[0])


ASKED = {"llm": "rules", "permissions": {"search_summary": "ask"}}


@pytest.mark.parametrize(("decision", "reason"), [(True, "answered"), (False, "refused")])
def test_replay_when_a_person_decided_gives_the_same_bytes(decision, reason):
    with TraceStore() as store:
        stored = recorded(store, lambda *_: decision, ASKED)
        assert stored.exit_reason == reason
        taken = stored.answer["approvals"]
        assert {each["tool"] for each in taken} == {"search_summary"}
        assert {each["approved"] for each in taken} == {decision}
        assert taken[0]["arguments"]["formula"] == "GaAs"
        run_id, difference = replay(stored, store)
        assert difference is None
        assert store.show(run_id).answer["approvals"] == taken
    assert call("trace", "replay", stored.id).exit_code == 0


def test_replay_when_the_call_is_another_one_does_not_approve_it(server):
    calls = [
        action("search_summary", formula="GaAs", fields="band_gap"),
        action("answer", rows=["r1"]),
        action("search_summary", formula="Si", fields="band_gap"),
        action("refuse", reason="not_held"),
    ]
    _, url = server(*calls)
    with TraceStore() as store:
        stored = recorded(store, lambda *_: True, {**ASKED, "llm": url})
        run_id, difference = replay(stored, store)
        assert difference.startswith("step 2, arguments.formula: 'GaAs' and 'Si'")
        assert [each["approved"] for each in store.show(run_id).answer["approvals"]] == [False]


def test_replay_when_an_assistant_asked_gives_the_same_bytes(server):
    _, url = server(
        action("summary_expert", input="The band gap of GaAs?"),
        action("search_summary", formula="GaAs", fields="band_gap"),
        action("answer", rows=["r1"]),
        action("answer", rows=["r1"]),
    )
    with TraceStore() as store:
        approve = Approvals(lambda *_: True)
        stored = recorded(store, approve, {**ASKED, "llm": url, "team": True})
        assert stored.exit_reason == "answered"
        assert [each["tool"] for each in stored.answer["approvals"]] == ["search_summary"]
        assert replay(stored, store)[1] is None


def test_run_when_the_agent_is_a_relative_path_stores_it_in_full(tmp_path, monkeypatch):
    for kind in ("toml", "md"):
        text = (ROOT / "agents" / f"materials.{kind}").read_text("utf-8")
        (tmp_path / f"mine.{kind}").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    result = call("agent", "run", "mine.toml", GAP, *RULES, "--json", "--quiet")
    run_id = json.loads(result.stdout)["run"]
    monkeypatch.chdir(ROOT)
    with TraceStore() as store:
        assert store.show(run_id).record.agent == str(tmp_path / "mine.toml")
    assert call("trace", "replay", run_id).exit_code == 0


def test_settings_when_recorded_name_the_back_end_and_its_version():
    agent = load_agent("materials", AgentOptions(llm="rules"))
    version = agent.related.backend.version
    assert version
    assert describe(agent)["backend"] == {"name": "snapshot", "version": version}


def test_run_when_traces_are_not_wanted_writes_none(home):
    assert call("agent", "run", "materials", GAP, *RULES, "--no-trace", "--quiet").exit_code == 0
    assert not (home / "traces.db").exists()


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that gives out replies one after the other, again and again."""

    daemon_threads = True

    def __init__(self, replies):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.asked = list(replies), []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.asked.append(json.loads(self.rfile.read(length)))
        text = self.server.replies[(len(self.server.asked) - 1) % len(self.server.replies)]
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        body = json.dumps({"id": "1", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    servers = []

    def start(*replies):
        server = Server(replies)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}/v1#some-model"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


def test_run_when_a_server_plans_answers_the_same(server):
    replies = [
        action("search_summary", formula="GaAs", fields="band_gap", limit=20),
        action("answer", rows=["r1"]),
    ]
    served, url = server(*replies)
    hosted = json.loads(call("agent", "run", "materials", GAP, "--llm", url, "--json").stdout)
    by_rules = json.loads(call("agent", "run", "materials", GAP, *RULES, "--json").stdout)
    assert hosted["text"] == by_rules["text"]
    assert hosted["rows"] == by_rules["rows"]
    assert hosted["usage"] == {"prompt_tokens": 20, "completion_tokens": 10}
    request = served.asked[0]
    assert request["response_format"]["type"] == "json_schema"
    shown = json.loads(call("agent", "show", "materials", "--llm", url, "--json").stdout)
    assert request["messages"][0] == {"role": "system", "content": shown["prompts"][0]["system"]}
    replayed = call("trace", "replay", hosted["run"])
    assert replayed.exit_code == 0, replayed.output


def test_run_when_the_data_cannot_be_reached_ends_with_exit_code_1(server):
    _, url = server(action("refuse", reason="unavailable"))
    result = call("agent", "run", "materials", GAP, "--llm", url, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "No answer: the data could not be reached.\n")


def test_run_when_the_library_answers_gives_citations_that_verify(tmp_path, server):
    replies = [
        action("find_passages", query="lithium fluoride"),
        action("read_library", question="What is the measured band gap of lithium fluoride?"),
        action("answer", rows=["r1"]),
    ]
    _, url = server(*replies)
    path = tmp_path / "notes.rag"
    with Collection(path) as notes:
        notes.add([ROOT / "notebooks" / "data" / "lithium-fluoride.md"])
    question = "How wide is the gap of lithium fluoride?"
    result = call("agent", "run", "library", question, "--in", str(path), "--llm", url, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert "11.7 eV" in told["text"]
    with Collection(path) as notes:
        checks = verify_answer(told, notes)
    assert [check.state for check in checks] == ["valid"] * len(checks)
    assert checks
    replayed = call("trace", "replay", told["run"])
    assert replayed.exit_code == 0, replayed.output


def test_run_when_traces_cannot_be_kept_answers_all_the_same(home):
    (home / "traces.db").write_bytes(b"no database at all, and longer than a header" * 40)
    result = call("agent", "run", "materials", GAP, *RULES, "--quiet")
    assert result.exit_code == 0
    assert "0.186 eV" in result.stdout
    assert "the trace is not stored" in " ".join(result.stderr.split())
