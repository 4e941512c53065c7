"""A language model behind an OpenAI-compatible server."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

from ragkit import models
from ragkit.errors import EndpointError
from ragkit.llms import DEFAULTS, check_request
from ragkit.types import ChatOptions, Message, Reply, Usage

_OPENAI_URL = "https://api.openai.com/v1"
_REFUSED = (400, 415, 422, 501)  # how servers say that they do not know a field
_N_PARALLEL = 4  # requests of one `chat` at a time; servers on a laptop queue more than that
_REASONS: Mapping[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
}


class EndpointLLM:
    """Continues conversations on a server that speaks OpenAI's chat completions.

    A key goes only where it belongs: without `base_url` to OpenAI (or OPENAI_BASE_URL), taken from
    OPENAI_API_KEY; to any other URL only RAGKIT_API_KEY or the argument goes, and none of the
    headers that OpenAI's client would take from the environment. Redirects are not followed. A
    loopback server is reached without the environment's proxies.

    Args:
        model: The model's name on the server.
        base_url: Up to and including "/v1"; None for OpenAI.
        api_key: In place of the environment's.
        timeout_s: How long the server may stay silent. A request is tried three times (after time
            outs, lost connections, 429 and 5xx), with growing pauses or those the server asks for.
        context_window: The model's window in tokens, which servers do not tell.

    Raises:
        ValueError: The URL or a figure makes no sense.
        EndpointError: OpenAI's model without a key, or RAGKIT_OFFLINE and the server is not on this
            machine. Every method raises it for whatever goes wrong on the way.

    >>> EndpointLLM("llama3.2", base_url="http://localhost:11434/v1").name
    'http://localhost:11434/v1#llama3.2'
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        context_window: int = 8192,
    ) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; expected more than 0 seconds")
        if context_window < 1:
            raise ValueError(f"context_window is {context_window}; expected at least 1 token")
        self._is_openai = base_url is None
        url = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI_URL
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(
                f"the base URL {url.rpartition('@')[2]!r} cannot be used; expected "
                "http(s)://HOST[:PORT]/v1 without a user name (a key goes into RAGKIT_API_KEY)"
            )
        self.name = f"openai:{model}" if self._is_openai else f"{url}#{model}"
        self.context_window = context_window
        self._model, self._url, self._timeout_s = model, url, timeout_s
        self._on_this_machine = _is_loopback(parts.hostname)
        self._takes_schemas = True  # until the server refuses one
        self._key = ""
        self._check_online()
        self._key = self._find_key(api_key)
        self._client = self._connect()

    def _find_key(self, api_key: str | None) -> str:
        variable = "OPENAI_API_KEY" if self._is_openai else "RAGKIT_API_KEY"
        key = (api_key or os.environ.get(variable) or "").strip()
        if not key and self._is_openai:
            raise self._failure("no key", "set OPENAI_API_KEY or pass api_key")
        return key

    def _connect(self) -> Any:
        import openai

        # Explicit headers win over those the client reads from OPENAI_CUSTOM_HEADERS, OPENAI_ORG_ID
        # and OPENAI_PROJECT_ID; `Omit` takes them away.
        key = self._key or "none"  # servers on this machine want one, and ignore what is in it
        headers: dict[str, Any] = {"Authorization": f"Bearer {key}"}
        if not self._is_openai:
            custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
            names = [line.partition(":")[0].strip() for line in custom if ":" in line]
            for name in ["OpenAI-Organization", "OpenAI-Project", *names]:
                if name.lower() != "authorization":
                    headers[name] = openai.Omit()
        timeout = openai.Timeout(self._timeout_s, connect=min(self._timeout_s, 5.0))
        return openai.OpenAI(
            api_key=key,
            base_url=self._url,
            timeout=timeout,
            max_retries=2,
            default_headers=headers,
            http_client=openai.DefaultHttpxClient(
                timeout=timeout, follow_redirects=False, trust_env=not self._on_this_machine
            ),
        )

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """An upper bound for ordinary text, since the server's tokenizer is not known.

        Words of up to 9 letters count a token for each three letters, longer ones and capitals for
        each two, mixed case for two of three; each digit and other ASCII sign counts one, other
        characters their UTF-8 bytes, and a single space belongs to its word. A message adds 8 for
        its role and marks, the whole 32 for the template's own text.

        Against SmolLM2's tokenizer, whose small vocabulary makes more tokens than those of larger
        models, that is 1.0 to 1.7 times the true count on prose, code, JSON, tables, formulas,
        German, Finnish and Chinese; only strings of random letters can have more.
        """
        return 32 + sum(8 + _estimate(message.content) for message in conversation)

    def chat(
        self, conversations: Sequence[Sequence[Message]], options: ChatOptions = DEFAULTS
    ) -> list[Reply]:
        """One reply a conversation, in order; up to 4 requests at a time.

        Temperature 0 asks the server for its likeliest tokens; whether it then always gives the
        same text is up to the server. A schema is sent as `response_format`; to a server that
        refuses that it is not sent again, so the conversation should state the format too.

        Raises:
            ValueError: An option is out of range or a conversation is empty.
            EndpointError: A request failed; the first of them in order is reported.
        """
        for conversation in conversations:
            check_request(conversation, options)
        self._check_online()
        if len(conversations) == 1:  # in this thread, where Ctrl-C ends it at once
            return [self._ask(conversations[0], options)]
        pool = ThreadPoolExecutor(max_workers=_N_PARALLEL)
        try:
            return list(pool.map(lambda each: self._ask(each, options), conversations))
        finally:
            pool.shutdown(cancel_futures=True)

    def stream(
        self, conversation: Sequence[Message], options: ChatOptions = DEFAULTS
    ) -> Generator[str, None, Reply]:
        """The reply's text in pieces as they arrive, then the whole reply as the generator's value.

        Closing the generator closes the connection.

        Raises:
            ValueError: As `chat`, and before the first piece.
            EndpointError: The request failed, or the stream broke off before its end.
        """
        check_request(conversation, options)
        self._check_online()
        return self._stream(conversation, options)

    def _ask(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        request = self._request(conversation, options)
        try:
            raw = self._client.chat.completions.with_raw_response.create(**request)
            body = _plain(json.loads(raw.text))
            choice = body["choices"][0]
            message, reason = choice["message"], choice.get("finish_reason")
            text = message.get("content") or message.get("refusal") or ""
            usage = _usage(body.get("usage"))
        except Exception as error:  # whatever a server can cause is an EndpointError
            if _refuses_schema(request, error):
                reply = self._ask(conversation, replace(options, schema=None))
                self._takes_schemas = False  # the schema it was, and nothing else
                return reply
            raise self._explained(error) from error
        return Reply(str(text), self._reason(reason), usage)

    def _stream(
        self, conversation: Sequence[Message], options: ChatOptions
    ) -> Generator[str, None, Reply]:
        request = self._request(conversation, options)
        pieces: list[str] = []
        reason, usage = None, Usage()
        chunks = self._chunks(request)
        try:
            for chunk in chunks:
                usage = _usage(chunk["usage"]) if chunk.get("usage") else usage
                for choice in chunk.get("choices") or ():
                    delta = choice.get("delta") or {}
                    reason = choice.get("finish_reason") or reason
                    if piece := delta.get("content") or delta.get("refusal"):
                        pieces.append(str(piece))
                        yield pieces[-1]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._explained(error) from error
        finally:
            chunks.close()
        if reason is None:
            raise self._failure(
                f"the stream broke off after {len(pieces)} pieces, without a finish reason",
                "ask again, and see the server's log",
            )
        return Reply("".join(pieces), self._reason(reason), usage)

    def _chunks(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        try:
            with self._client.chat.completions.create(
                **request, stream=True, stream_options={"include_usage": True}
            ) as stream:
                for chunk in stream:
                    yield _plain(chunk.to_dict(warnings=False))
        except Exception as error:
            if not _refuses_schema(request, error):
                raise self._explained(error) from error
        else:
            return
        yield from self._chunks(_without_schema(request))
        self._takes_schemas = False

    def _request(self, conversation: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
        # OpenAI's newer models refuse `max_tokens`; other servers know only that.
        limit = "max_completion_tokens" if self._is_openai else "max_tokens"
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": each.role, "content": each.content} for each in conversation],
            "temperature": options.temperature,
            limit: options.max_tokens,
        }
        if options.temperature > 0:  # some servers refuse a field they do not know
            request["seed"] = options.seed
        if options.top_p < 1:
            request["top_p"] = options.top_p
        if options.stop:
            request["stop"] = list(options.stop)
        if options.schema is not None and self._takes_schemas:
            named = {"name": "reply", "schema": options.schema}
            request["response_format"] = {"type": "json_schema", "json_schema": named}
        return request

    def _check_online(self) -> None:
        if models.offline() and not self._on_this_machine:
            raise self._failure(
                "RAGKIT_OFFLINE is set and the server is not on this machine",
                "unset RAGKIT_OFFLINE, or take a local model",
            )

    def _failure(self, what: str, remedy: str) -> EndpointError:
        if self._key:
            what = what.replace(self._key, "[the key]")
        return EndpointError(f"the model {self._model!r} at {self._url}: {what}. Do: {remedy}.")

    def _reason(self, reason: object) -> Literal["stop", "length"]:
        known = _REASONS.get(str(reason))
        if known is not None:
            return known
        if reason == "content_filter":
            raise self._failure("its filter held the reply back", "change the question or passages")
        if reason in ("tool_calls", "function_call"):
            raise self._failure("it called a tool and none was offered", "take another model")
        raise self._failure(
            f"it ended with finish_reason {reason!r}; expected 'stop' or 'length'",
            "check that the server speaks OpenAI's chat completions",
        )

    def _explained(self, error: Exception) -> EndpointError:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return self._failure(
                f"no answer within {self._timeout_s:g} s",
                "raise timeout_s, or ask for less (max_tokens, shorter passages)",
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            return self._failure(
                f"the connection failed ({type(cause).__name__}: {cause})",
                "start the server, and check host and port",
            )
        if isinstance(error, openai.APIStatusError):
            said = f"status {error.status_code} ({_said(error)})"
            return self._failure(said, self._remedy(error.status_code))
        return self._failure(
            f"an answer that cannot be read ({type(error).__name__}: {str(error)[:300]})",
            "check that the base URL is that of an OpenAI-compatible API; most end in /v1",
        )

    def _remedy(self, status: int) -> str:
        variable = "OPENAI_API_KEY" if self._is_openai else "RAGKIT_API_KEY"
        remedies = {
            400: "change what the server complains of; a model's window may be exceeded",
            401: f"set {variable} (or api_key) to a key that this server accepts",
            403: f"check that the key in {variable} may use this model",
            404: "check the model's name, and that the base URL ends as the server wants (/v1)",
            413: "send fewer or shorter passages",
            429: "wait, or send fewer requests; the account's quota may be spent",
        }
        if 300 <= status < 400:
            return "give the address the server redirects to; redirects are not followed"
        default = "see the server's log" if status >= 500 else remedies[400]
        return remedies.get(status, default)


def _refuses_schema(request: Mapping[str, Any], error: Exception) -> bool:
    return "response_format" in request and getattr(error, "status_code", 0) in _REFUSED


def _without_schema(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "response_format"}


def _said(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body
    text = str(body or error.response.headers.get("location") or "no explanation")
    return " ".join(text.split())[:300]


def _plain(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a JSON object was expected, not {type(value).__name__}")
    return value


def _usage(value: Mapping[str, Any] | None) -> Usage:
    counts = value or {}
    return Usage(
        int(counts.get("prompt_tokens") or 0),
        int(counts.get("completion_tokens") or 0),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _estimate(text: str) -> int:
    n_tokens = 0
    for run in re.findall(r"[A-Za-z]+| {2,}|[^ ]", text):
        if run[0].isascii() and run[0].isalpha():
            n_tokens += _letters(run)
        else:
            n_tokens += 1 if run.isascii() else len(run.encode(errors="replace"))
    return n_tokens


def _letters(word: str) -> int:
    if word[1:].islower() and len(word) <= 9:
        return math.ceil(len(word) / 3)
    if word.islower() or word.isupper() or word.istitle():
        return math.ceil(len(word) / 2)
    return math.ceil(len(word) * 2 / 3)  # mixed case: formulas, identifiers, base64
