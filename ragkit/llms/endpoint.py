"""Client of OpenAI-compatible chat completion servers."""

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

from ragkit import forks, models
from ragkit.errors import EndpointError
from ragkit.llms.chat import DEFAULTS, check_request
from ragkit.types import ChatOptions, Message, Reply, Usage

_OPENAI_URL = "https://api.openai.com/v1"
_UNSUPPORTED_STATUS = (400, 415, 422, 501)  # what servers return for an unknown field
_N_PARALLEL = 4  # concurrent requests of one `chat`; servers on a laptop queue more than that
_FINISH_REASONS: Mapping[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
}


class EndpointLLM:
    """A chat model on a server with OpenAI's chat completions API.

    API keys are sent only to their own server. Without `base_url`, OPENAI_API_KEY is sent to OpenAI
    (or OPENAI_BASE_URL). Any other URL receives only RAGKIT_API_KEY or the argument, and none of
    the headers that OpenAI's client would read from the environment. Redirects are not followed.
    Loopback servers are reached without the environment's proxies.

    Args:
        model: The model's name on the server.
        base_url: Base URL up to and including "/v1"; None for OpenAI.
        api_key: API key; overrides the environment variable.
        timeout_s: Read timeout in seconds. A request is tried three times (after timeouts, lost
            connections, 429 and 5xx), with exponential backoff or the delay the server asks for.
        context_window: Context window in tokens; servers do not report it.

    Raises:
        ValueError: The URL, the timeout or the context window is invalid.
        EndpointError: No key for OpenAI, or RAGKIT_OFFLINE is set and the server is remote. All
            methods raise it for failed requests.

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
                f"the base URL {url.rpartition('@')[2]!r} is invalid; expected "
                "http(s)://HOST[:PORT]/v1 without a user name (set a key in RAGKIT_API_KEY)"
            )
        self.name = f"openai:{model}" if self._is_openai else f"{url}#{model}"
        self.context_window = context_window
        self._model, self._url, self._timeout_s = model, url, timeout_s
        self._is_local = _is_loopback(parts.hostname)
        self._supports_schemas = True  # until the server rejects one
        self._key = ""
        self._check_online()
        self._key = self._find_key(api_key)
        self._client = self._connect()
        forks.renew_after_fork(self, EndpointLLM._renew)

    def _renew(self) -> None:
        """Make the connections anew in a forked process."""
        forks.abandon(self._client)
        self._client = self._connect()

    def _find_key(self, api_key: str | None) -> str:
        variable = "OPENAI_API_KEY" if self._is_openai else "RAGKIT_API_KEY"
        key = (api_key or os.environ.get(variable) or "").strip()
        if not key and self._is_openai:
            raise self._failure("no key", "set OPENAI_API_KEY or pass api_key")
        return key

    def _connect(self) -> Any:
        import openai

        # Explicit headers override those the client reads from OPENAI_CUSTOM_HEADERS, OPENAI_ORG_ID
        # and OPENAI_PROJECT_ID; `Omit` removes them.
        key = self._key or "none"  # local servers require a key, but accept any
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
                timeout=timeout, follow_redirects=False, trust_env=not self._is_local
            ),
        )

    def count_tokens(self, conversation: Sequence[Message]) -> int:
        """Estimate an upper bound, because the server's tokenizer is unknown.

        A lower-case or capitalised word of up to 9 letters counts one token per three letters, a
        longer or upper-case word one per two letters, a mixed-case word two per three letters.
        Digits and other ASCII characters count one each, other characters their UTF-8 bytes, and a
        single space nothing. Each message adds 8 tokens for its role and control tokens, and the
        conversation 32 for the template.

        Compared with SmolLM2's tokenizer, whose small vocabulary gives more tokens than those of
        larger models, the estimate is 1.0 to 1.7 times the true count on prose, code, JSON, tables,
        formulas, German, Finnish and Chinese; only strings of random letters can have more tokens.
        """
        return 32 + sum(8 + _estimate(message.content) for message in conversation)

    def chat(
        self, conversations: Sequence[Sequence[Message]], options: ChatOptions = DEFAULTS
    ) -> list[Reply]:
        """Request one reply per conversation, in order, with up to 4 concurrent requests.

        Temperature 0 requests greedy decoding; whether the text is then reproducible depends on the
        server. A schema is sent as `response_format`. If the server rejects that field, the request
        is repeated without it and later requests omit it, so the conversation should state the
        format too.

        Raises:
            ValueError: An option is out of range or a conversation is empty.
            EndpointError: A request failed; the error of the first one in order is raised.
        """
        for conversation in conversations:
            check_request(conversation, options)
        self._check_online()
        if len(conversations) == 1:  # in this thread, where Ctrl-C ends it at once
            return [self._ask(conversations[0], options)]
        pool = ThreadPoolExecutor(max_workers=_N_PARALLEL)
        try:
            return list(pool.map(lambda messages: self._ask(messages, options), conversations))
        finally:
            pool.shutdown(cancel_futures=True)

    def stream(
        self, conversation: Sequence[Message], options: ChatOptions = DEFAULTS
    ) -> Generator[str, None, Reply]:
        """Yield the text in pieces as they arrive; the generator's value is the full reply.

        Closing the generator closes the connection.

        Raises:
            ValueError: See `chat`; raised by the call, before the first piece.
            EndpointError: The request failed, or the stream ended early.
        """
        check_request(conversation, options)
        self._check_online()
        return self._stream(conversation, options)

    def _ask(self, conversation: Sequence[Message], options: ChatOptions) -> Reply:
        request = self._request(conversation, options)
        try:
            raw = self._client.chat.completions.with_raw_response.create(**request)
            body = _as_object(json.loads(raw.text))
            choice = body["choices"][0]
            message, reason = choice["message"], choice.get("finish_reason")
            text = message.get("content") or message.get("refusal") or ""
            usage = _usage(body.get("usage"))
        except Exception as error:  # a server can cause any error while its reply is parsed
            if _rejects_schema(request, error):
                reply = self._ask(conversation, replace(options, schema=None))
                self._supports_schemas = False  # only now is it clear that the schema was the cause
                return reply
            raise self._to_endpoint_error(error) from error
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
            raise self._to_endpoint_error(error) from error
        finally:
            chunks.close()
        if reason is None:
            raise self._failure(
                f"the stream broke off after {len(pieces)} pieces, without a finish reason",
                "try again, and check the server's log",
            )
        return Reply("".join(pieces), self._reason(reason), usage)

    def _chunks(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        try:
            with self._client.chat.completions.create(
                **request, stream=True, stream_options={"include_usage": True}
            ) as stream:
                for chunk in stream:
                    yield _as_object(chunk.to_dict(warnings=False))
        except Exception as error:
            if not _rejects_schema(request, error):
                raise self._to_endpoint_error(error) from error
        else:
            return
        yield from self._chunks(_without_schema(request))
        self._supports_schemas = False

    def _request(self, conversation: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
        # OpenAI's newer models reject `max_tokens`; other servers support only that.
        limit = "max_completion_tokens" if self._is_openai else "max_tokens"
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            "temperature": options.temperature,
            limit: options.max_tokens,
        }
        if options.temperature > 0:  # some servers reject unknown fields
            request["seed"] = options.seed
        if options.top_p < 1:
            request["top_p"] = options.top_p
        if options.stop:
            request["stop"] = list(options.stop)
        if options.schema is not None and self._supports_schemas:
            json_schema = {"name": "reply", "schema": options.schema}
            request["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        return request

    def _check_online(self) -> None:
        if models.offline() and not self._is_local:
            raise self._failure(
                "RAGKIT_OFFLINE is set and the server is not on this machine",
                "unset RAGKIT_OFFLINE, or use a local model",
            )

    def _failure(self, problem: str, remedy: str) -> EndpointError:
        if self._key:
            problem = problem.replace(self._key, "[the key]")
        return EndpointError(f"the model {self._model!r} at {self._url}: {problem}. Do: {remedy}.")

    def _reason(self, reason: object) -> Literal["stop", "length"]:
        finish_reason = _FINISH_REASONS.get(str(reason))
        if finish_reason is not None:
            return finish_reason
        if reason == "content_filter":
            raise self._failure(
                "its content filter blocked the reply", "change the question or the passages"
            )
        if reason in ("tool_calls", "function_call"):
            raise self._failure("it called a tool, but none was offered", "use another model")
        raise self._failure(
            f"the reply ended with finish_reason {reason!r}; expected 'stop' or 'length'",
            "check that the server implements OpenAI's chat completions",
        )

    def _to_endpoint_error(self, error: Exception) -> EndpointError:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return self._failure(
                f"no answer within {self._timeout_s:g} s",
                "raise timeout_s, lower max_tokens, or send shorter passages",
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            return self._failure(
                f"the connection failed ({type(cause).__name__}: {cause})",
                "start the server, and check host and port",
            )
        if isinstance(error, openai.APIStatusError):
            problem = f"status {error.status_code} ({_server_message(error)})"
            return self._failure(problem, self._remedy(error.status_code))
        return self._failure(
            f"the answer cannot be read ({type(error).__name__}: {str(error)[:300]})",
            "check that the base URL is that of an OpenAI-compatible API; most end in /v1",
        )

    def _remedy(self, status: int) -> str:
        variable = "OPENAI_API_KEY" if self._is_openai else "RAGKIT_API_KEY"
        remedies = {
            400: "fix what the server's message names; the context window may be exceeded",
            401: f"set {variable} (or api_key) to a key that this server accepts",
            403: f"check that the key in {variable} may use this model",
            404: "check the model's name, and that the base URL has the server's suffix (/v1)",
            413: "send fewer or shorter passages",
            429: "wait, or send fewer requests; the account's quota may be spent",
        }
        if 300 <= status < 400:
            return "use the address that the server redirects to; redirects are not followed"
        default = "check the server's log" if status >= 500 else remedies[400]
        return remedies.get(status, default)


def _rejects_schema(request: Mapping[str, Any], error: Exception) -> bool:
    return "response_format" in request and getattr(error, "status_code", 0) in _UNSUPPORTED_STATUS


def _without_schema(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "response_format"}


def _server_message(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body
    text = str(body or error.response.headers.get("location") or "no explanation")
    return " ".join(text.split())[:300]


def _as_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, not {type(value).__name__}")
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
    for piece in re.findall(r"[A-Za-z]+| {2,}|[^ ]", text):
        if piece[0].isascii() and piece[0].isalpha():
            n_tokens += _estimate_word(piece)
        else:
            n_tokens += 1 if piece.isascii() else len(piece.encode(errors="replace"))
    return n_tokens


def _estimate_word(word: str) -> int:
    if word[1:].islower() and len(word) <= 9:
        return math.ceil(len(word) / 3)
    if word.islower() or word.isupper() or word.istitle():
        return math.ceil(len(word) / 2)
    return math.ceil(len(word) * 2 / 3)  # mixed case: formulas, identifiers, base64
