"""Language models: on this machine (`local`) or an OpenAI-compatible server (`endpoint`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Literal

from ragkit import models
from ragkit.errors import ModelError
from ragkit.types import LLM, ChatOptions, Message, Reply

Dtype = Literal["bfloat16", "float16", "float32"]
DEFAULTS = ChatOptions()

_FORMS = (
    "a shipped model ('smollm2'), a folder or .gguf file, 'hf:ORG/NAME', 'openai:MODEL', "
    "or a server's URL and model ('http://localhost:11434/v1#llama3.2')"
)


def load_llm(
    name: str,
    *,
    device: str | None = None,
    dtype: Dtype | None = None,
    api_key: str | None = None,
    timeout_s: float | None = None,
    context_window: int | None = None,
) -> LLM:
    """The language model that one string names.

    Options left at None take the default of `LocalLLM` or `EndpointLLM`; one that belongs to the
    other kind is refused, since it would be ignored.

    Args:
        name: `smollm2`, a path, `hf:ORG/NAME`, `openai:MODEL`, or `URL#MODEL`.
        device: "cpu" or "cuda"; local models.
        dtype: The numbers a local model computes with.
        api_key: The key of a hosted model, in place of the environment's.
        timeout_s: How long a hosted model may stay silent.
        context_window: The window of a hosted model, which its server does not tell.

    Raises:
        ValueError: The name has none of these forms, or an option does not belong to its kind.
        ModelError: The model cannot be found or loaded.
        MissingExtra: The packages for local models are not installed.

    >>> load_llm("http://localhost:11434/v1#llama3.2").name
    'http://localhost:11434/v1#llama3.2'
    """
    base_url, model = _split(name)
    if model is None:
        hosted = {"api_key": api_key, "timeout_s": timeout_s, "context_window": context_window}
        _refuse(name, hosted, "hosted")
        return _local(name, device or "cpu", dtype)
    from ragkit.llms.endpoint import EndpointLLM

    _refuse(name, {"device": device, "dtype": dtype}, "local")
    return EndpointLLM(
        model,
        base_url=base_url,
        api_key=api_key,
        timeout_s=60.0 if timeout_s is None else timeout_s,
        context_window=8192 if context_window is None else context_window,
    )


def _split(name: str) -> tuple[str | None, str | None]:
    """The base URL (None: OpenAI's) and the model of a hosted name; no model: a local name."""
    if not name.strip():
        raise ValueError(f"the model's name is {name!r}; expected {_FORMS}")
    if name.startswith("openai:"):
        base_url, model = None, name.removeprefix("openai:")
    elif name.startswith(("http://", "https://")):
        base_url, _, model = name.partition("#")
    else:
        return None, None
    if not model:
        example = "openai:gpt-4.1-mini" if base_url is None else f"{name.rstrip('#')}#MODEL"
        raise ValueError(f"{name!r} names a server and no model; write for example {example!r}")
    return base_url, model


def _local(name: str, device: str, dtype: Dtype | None) -> LLM:
    from ragkit.llms.local import LocalLLM

    try:
        models.resolve(name)
    except ModelError as error:
        raise ModelError(f"{error} A language model is {_FORMS}.") from error
    return LocalLLM(name, device=device, dtype=dtype)


def _refuse(name: str, options: Mapping[str, object], kind: str) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{given[0]} is for {kind} models and {name!r} is none; leave it out")


def exhaust(generation: Generator[str, None, Reply]) -> Reply:
    """The reply that a stream ends with."""
    while True:
        try:
            next(generation)
        except StopIteration as end:
            reply: Reply = end.value
            return reply


def check_request(conversation: Sequence[Message], options: ChatOptions) -> None:
    """Refuse a conversation or options that no model can act on.

    Raises:
        ValueError: There is no message, or an option is out of its range.
    """
    if not conversation:
        raise ValueError("the conversation is empty; expected at least one message")
    if options.max_tokens < 1:
        raise ValueError(f"max_tokens is {options.max_tokens}; expected at least 1")
    if not options.temperature >= 0:
        raise ValueError(f"temperature is {options.temperature}; expected 0 (greedy) or more")
    if not 0 < options.top_p <= 1:
        raise ValueError(f"top_p is {options.top_p}; expected more than 0 and at most 1")
    if "" in options.stop:
        raise ValueError("a stop string is empty, which would stop at once; leave it out")
