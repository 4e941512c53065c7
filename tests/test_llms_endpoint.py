"""The endpoint model against a real server on the loopback address that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ragkit.errors import EndpointError
from ragkit.llms import load_llm
from ragkit.llms.endpoint import EndpointLLM
from ragkit.types import ChatOptions, Message, Reply, Usage

HELLO = [Message("user", "hello")]
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

Behave = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request; the server's `behave` answers it."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.body = json.loads(self.rfile.read(length))
        self.server.seen.append((self.path, dict(self.headers), self.body))
        try:
            self.server.behave(self)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: str, **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        headers = {"content_type": "application/json", **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_events(self, *chunks: dict[str, Any], done: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
        if done:
            self.wfile.write(b"data: [DONE]\n\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.behave: Behave = lambda exchange: exchange.send(200, completion("hi"))
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.hung_up = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def completion(text: str | None, reason: str = "stop", **message: object) -> str:
    choice = {"index": 0, "finish_reason": reason, "message": {"content": text, **message}}
    return json.dumps({"id": "1", "choices": [choice], "usage": USAGE})


def chunk(text: str | None = None, reason: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RAGKIT_API_KEY", "RAGKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def model_at(server: Server, **options: Any) -> EndpointLLM:
    return EndpointLLM("tiny", base_url=server.url, **options)


def test_chat_when_the_server_answers_then_gives_text_reason_and_usage(server):
    assert model_at(server).chat([HELLO]) == [Reply("hi", "stop", Usage(5, 2))]
    path, _, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
        "max_tokens": 256,
    }


def test_chat_when_sampling_then_sends_every_option(server):
    options = ChatOptions(max_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop=("\n",))
    model_at(server).chat([HELLO], options)
    sent = {key: server.seen[0][2][key] for key in ("max_tokens", "top_p", "seed", "stop")}
    assert sent == {"max_tokens": 9, "top_p": 0.9, "seed": 3, "stop": ["\n"]}


def test_chat_when_many_conversations_then_keeps_their_order(server):
    gate = threading.Barrier(2, timeout=10)

    def echo(exchange: Exchange) -> None:
        text = exchange.body["messages"][0]["content"]
        if text in "01":  # the first two arrive together: requests do run side by side
            gate.wait()
        exchange.send(200, completion(text))

    server.behave = echo
    conversations = [[Message("user", str(n))] for n in range(7)]
    replies = model_at(server).chat(conversations)
    assert [reply.text for reply in replies] == list("0123456")


def test_chat_when_cut_at_max_tokens_then_the_reason_is_length(server):
    server.behave = lambda exchange: exchange.send(200, completion("hi", "length"))
    assert model_at(server).chat([HELLO])[0].finish_reason == "length"


def test_chat_when_there_are_no_conversations_then_asks_nothing(server):
    assert model_at(server).chat([]) == []
    assert server.seen == []


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
WITH_SCHEMA = ChatOptions(schema=SCHEMA)


def formats_sent(server: Server) -> list[Any]:
    return [body.get("response_format") for _, _, body in server.seen]


def test_chat_when_there_is_a_schema_then_it_is_sent_as_the_response_format(server):
    model_at(server).chat([HELLO], WITH_SCHEMA)
    named = {"name": "reply", "schema": SCHEMA}
    assert formats_sent(server) == [{"type": "json_schema", "json_schema": named}]


@pytest.mark.parametrize("status", [400, 415, 422, 501])
def test_chat_when_the_server_refuses_schemas_then_is_asked_without_and_never_again_with(
    server, status
):
    def behave(exchange: Exchange) -> None:
        if "response_format" in exchange.body:
            exchange.send(
                status,
                json.dumps({"error": {"message": "unknown field"}}),
                x_should_retry="false",
            )
        else:
            exchange.send(200, completion("hi"))

    server.behave = behave
    model = model_at(server)
    assert model.chat([HELLO], WITH_SCHEMA) == [Reply("hi", "stop", Usage(5, 2))]
    assert [each is None for each in formats_sent(server)] == [False, True]
    model.chat([HELLO, HELLO], WITH_SCHEMA)
    assert [each is None for each in formats_sent(server)[2:]] == [True, True]


def test_chat_when_the_server_refuses_for_another_reason_then_is_asked_twice_and_keeps_schemas(
    server,
):
    error = json.dumps({"error": {"message": "too long"}})
    model = model_at(server)
    server.behave = lambda exchange: exchange.send(400, error)
    with pytest.raises(EndpointError, match="too long"):
        model.chat([HELLO], WITH_SCHEMA)
    assert [each is None for each in formats_sent(server)] == [False, True]
    server.behave = lambda exchange: exchange.send(200, completion("hi"))
    model.chat([HELLO], WITH_SCHEMA)
    assert formats_sent(server)[2] is not None


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_chat_when_it_fails_otherwise_then_the_schema_is_not_blamed(server, status):
    server.behave = lambda exchange: exchange.send(status, "{}", x_should_retry="false")
    with pytest.raises(EndpointError, match=str(status)):
        model_at(server).chat([HELLO], WITH_SCHEMA)
    assert len(server.seen) == 1


def test_stream_when_the_server_refuses_schemas_then_is_asked_without(server):
    def behave(exchange: Exchange) -> None:
        if "response_format" in exchange.body:
            exchange.send(400, json.dumps({"error": {"message": "unknown field"}}))
        else:
            exchange.send_events(chunk("hi"), chunk(reason="stop"))

    server.behave = behave
    model = model_at(server)
    assert list(model.stream(HELLO, WITH_SCHEMA)) == ["hi"]
    assert list(model.stream(HELLO, WITH_SCHEMA)) == ["hi"]
    assert [each is None for each in formats_sent(server)] == [False, True, True]


def test_stream_when_the_server_answers_then_the_pieces_join_to_the_reply(server):
    server.behave = lambda exchange: exchange.send_events(
        chunk("Grü"), chunk("ße"), chunk(reason="stop"), {"choices": [], "usage": USAGE}
    )
    stream = model_at(server).stream(HELLO)
    pieces = [next(stream), next(stream)]
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert pieces == ["Grü", "ße"]
    assert end.value.value == Reply("Grüße", "stop", Usage(5, 2))
    assert server.seen[0][2]["stream_options"] == {"include_usage": True}


def test_stream_when_closed_early_then_the_connection_is_closed(server):
    def endless(exchange: Exchange) -> None:
        exchange.send_events(*[chunk("more ")] * 100_000)

    server.behave = endless
    stream = model_at(server).stream(HELLO)
    assert next(stream) == "more "
    stream.close()
    assert server.hung_up.wait(10)


def headers_sent(server: Server) -> dict[str, str]:
    return {name.lower(): value for name, value in server.seen[-1][1].items()}


def test_key_when_the_url_is_not_openais_then_nothing_of_openai_is_sent(server, monkeypatch):
    secrets = {
        "OPENAI_API_KEY": "sk-secret",
        "OPENAI_ADMIN_KEY": "admin-secret",
        "OPENAI_ORG_ID": "org-secret",
        "OPENAI_PROJECT_ID": "project-secret",
        "OPENAI_CUSTOM_HEADERS": "X-Team: team-secret\nAuthorization: Bearer header-secret",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    model = model_at(server)
    model.chat([HELLO])
    server.behave = lambda exchange: exchange.send_events(chunk("a"), chunk(reason="stop"))
    list(model.stream(HELLO))
    for _, headers, body in server.seen:
        assert "secret" not in json.dumps([headers, body])
        assert headers["authorization" if "authorization" in headers else "Authorization"] == (
            "Bearer none"
        )


def test_key_when_given_and_in_the_environment_then_the_argument_wins(server, monkeypatch):
    monkeypatch.setenv("RAGKIT_API_KEY", "from-environment")
    model_at(server).chat([HELLO])
    assert headers_sent(server)["authorization"] == "Bearer from-environment"
    model_at(server, api_key="given").chat([HELLO])
    assert headers_sent(server)["authorization"] == "Bearer given"


def test_key_when_the_name_is_openais_then_its_variables_are_honoured(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("RAGKIT_API_KEY", "other")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    model = load_llm("openai:gpt-4.1-mini")
    assert model.name == "openai:gpt-4.1-mini"
    assert model.chat([HELLO])[0].text == "hi"
    assert headers_sent(server)["authorization"] == "Bearer sk-mine"
    assert server.seen[0][2]["max_completion_tokens"] == 256
    assert "max_tokens" not in server.seen[0][2]


def test_key_when_openai_has_none_then_says_which_variable(server, monkeypatch):
    monkeypatch.setenv("RAGKIT_API_KEY", "other")
    with pytest.raises(EndpointError, match=r"no key.*OPENAI_API_KEY"):
        load_llm("openai:gpt-4.1-mini")


def test_key_when_the_server_repeats_it_then_the_message_hides_it(server):
    error = json.dumps({"error": {"message": "bad key abc123"}})
    server.behave = lambda exchange: exchange.send(401, error)
    with pytest.raises(EndpointError) as raised:
        model_at(server, api_key="abc123").chat([HELLO])
    assert "abc123" not in str(raised.value)
    assert "RAGKIT_API_KEY" in str(raised.value)


def failure(server: Server, behave: Behave, *, streamed: bool = False, **options: Any) -> str:
    server.behave = behave
    model = model_at(server, **options)
    with pytest.raises(EndpointError) as raised:
        list(model.stream(HELLO)) if streamed else model.chat([HELLO])
    message = str(raised.value)
    assert "'tiny'" in message
    assert server.url in message
    return message


BAD_STATUS = [
    (301, {"location": "http://example.org/"}, ["301", "http://example.org/", "redirects"]),
    (400, {}, ["400", "too long"]),
    (401, {}, ["401", "RAGKIT_API_KEY"]),
    (404, {}, ["404", "the model's name"]),
    (429, {"x_should_retry": "false"}, ["429", "wait"]),
    (500, {"x_should_retry": "false"}, ["500", "log"]),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "headers", "expected"), BAD_STATUS)
def test_request_when_the_status_is_bad_then_says_what_to_do(
    server, status, headers, expected, streamed
):
    body = "" if status == 301 else json.dumps({"error": {"message": "too long"}})
    message = failure(
        server, lambda exchange: exchange.send(status, body, **headers), streamed=streamed
    )
    assert [word for word in expected if word not in message] == []
    assert len(server.seen) == 1


def test_request_when_the_server_is_busy_once_then_is_tried_again(server):
    def busy_once(exchange: Exchange) -> None:
        if len(server.seen) == 1:
            exchange.send(503, "{}", retry_after_ms="1")
        else:
            exchange.send(200, completion("hi"))

    server.behave = busy_once
    assert model_at(server).chat([HELLO])[0].text == "hi"
    assert len(server.seen) == 2


BAD_BODIES = {
    "html": ("<html><body>Welcome</body></html>", {"content_type": "text/html"}),
    "cut off": ('{"choices": [', {}),
    "list": ("[]", {}),
    "no choices": ('{"choices": []}', {}),
    "null choices": ('{"choices": null}', {}),
    "wrong kinds": ('{"choices": [{"message": "hi", "finish_reason": "stop"}]}', {}),
    "empty": ("", {}),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", BAD_BODIES)
def test_request_when_the_body_is_unusable_then_raises(server, kind, streamed):
    body, headers = BAD_BODIES[kind]
    message = failure(
        server, lambda exchange: exchange.send(200, body, **headers), streamed=streamed
    )
    assert ("finish reason" if streamed else "/v1") in message


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("reason", "expected"),
    [("content_filter", "filter"), ("tool_calls", "tool"), ("melted", "'melted'")],
)
def test_reply_when_it_ended_oddly_then_says_how(server, reason, expected, streamed):
    def behave(exchange: Exchange) -> None:
        if streamed:
            exchange.send_events(chunk("par"), chunk(reason=reason))
        else:
            exchange.send(200, completion("par", reason))

    assert expected in failure(server, behave, streamed=streamed)


@pytest.mark.parametrize(
    "odd", [{"choices": 5}, {"choices": [{"delta": "x"}]}, {"error": {"message": "overheated"}}]
)
def test_stream_when_a_chunk_is_odd_then_raises(server, odd):
    failure(server, lambda exchange: exchange.send_events(chunk("a"), odd), streamed=True)


def test_stream_when_cut_in_the_middle_then_raises_after_the_pieces(server):
    server.behave = lambda exchange: exchange.send_events(chunk("half a "), done=False)
    stream = model_at(server).stream(HELLO)
    assert next(stream) == "half a "
    with pytest.raises(EndpointError, match="broke off after 1 pieces"):
        next(stream)


def test_stream_when_the_length_is_not_reached_then_names_the_connection(server):
    def behave(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.send_header("Content-Type", "text/event-stream")
        exchange.send_header("Content-Length", "100000")
        exchange.end_headers()
        exchange.wfile.write(f"data: {json.dumps(chunk('a'))}\n\n".encode())

    assert "connection failed" in failure(server, behave, streamed=True)


@pytest.mark.parametrize("streamed", [False, True])
def test_request_when_the_server_is_silent_then_names_the_time_out(server, streamed):
    def behave(exchange: Exchange) -> None:
        if streamed:  # a connection that was accepted is not retried
            exchange.send_events(chunk("a"), done=False)
        server.released.wait(10)

    message = failure(server, behave, streamed=streamed, timeout_s=0.1)
    assert "no answer within 0.1 s" in message
    assert "timeout_s" in message


def test_request_when_nobody_listens_then_names_host_and_remedy(server):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(EndpointError, match=r"connection failed.*start the server") as raised:
        EndpointLLM("tiny", base_url=url).chat([HELLO])
    assert url in str(raised.value)


def test_offline_when_the_host_is_another_machine_then_raises_before_connecting(
    server, monkeypatch
):
    elsewhere = EndpointLLM("m", base_url="http://llm.example.org/v1")
    monkeypatch.setenv("RAGKIT_OFFLINE", "1")
    with pytest.raises(EndpointError, match="RAGKIT_OFFLINE"):
        elsewhere.chat([HELLO])
    with pytest.raises(EndpointError, match="RAGKIT_OFFLINE"):
        elsewhere.stream(HELLO)
    with pytest.raises(EndpointError, match="RAGKIT_OFFLINE"):
        load_llm("http://llm.example.org/v1#m")
    assert model_at(server).chat([HELLO])[0].text == "hi"


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://", "localhost:80", "http://me:pw@host/"])
def test_model_when_the_url_is_unusable_then_raises_without_its_password(server, url):
    with pytest.raises(ValueError, match=r"expected http") as raised:
        EndpointLLM("m", base_url=url)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        ChatOptions(max_tokens=0),
        ChatOptions(temperature=-1.0),
        ChatOptions(temperature=float("nan")),
        ChatOptions(top_p=0.0),
        ChatOptions(stop=("",)),
    ],
)
def test_chat_when_an_option_is_out_of_range_then_raises(server, options):
    with pytest.raises(ValueError, match=r"expected|empty"):
        model_at(server).chat([HELLO], options)
    with pytest.raises(ValueError, match="conversation is empty"):
        model_at(server).stream([])
    assert server.seen == []


def test_count_tokens_when_text_is_ordinary_then_is_no_less_than_the_words_and_bounded(server):
    text = "The band gap of BaTiO3 is 3.2 eV. Die Gitterkonstante wächst; 钙钛矿."
    n_tokens = model_at(server).count_tokens([Message("user", text)])
    # 32 + 8, then: The 1, band 2, gap 1, of 1, BaTiO 4, 3 1, is 1, "3.2" 3, eV 2, "." 1, Die 1,
    # Gitterkonstante 8, w 1, ä 2, chst 2, ";" 1, nine bytes, "." 1
    assert n_tokens == 40 + 42


def test_load_llm_when_the_name_is_a_url_then_takes_the_options(server):
    model = load_llm(f"{server.url}#tiny", context_window=512, timeout_s=3, api_key="k")
    assert isinstance(model, EndpointLLM)
    assert (model.name, model.context_window) == (f"{server.url}#tiny", 512)
    assert model.chat([HELLO])[0].text == "hi"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("", {}, "expected a shipped model"),
        ("openai:", {}, "'openai:gpt-4.1-mini'"),
        ("http://localhost:1/v1", {}, "'http://localhost:1/v1#MODEL'"),
        ("http://localhost:1/v1#m", {"device": "cuda"}, "device applies to local models only"),
        ("smollm2", {"timeout_s": 3.0}, "timeout_s applies to hosted models only"),
    ],
)
def test_load_llm_when_name_and_options_do_not_fit_then_says_what_would(name, options, expected):
    with pytest.raises(ValueError, match=expected):
        load_llm(name, **options)
