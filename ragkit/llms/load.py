"""Load a language model by name, importing only the packages that its kind needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit import models
from ragkit.errors import ModelError
from ragkit.types import LLM

if TYPE_CHECKING:
    from ragkit.llms.llama import LlamaLLM
    from ragkit.llms.local import Dtype, LocalLLM

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
    """Load the language model with this name.

    Options left at None use the default of `LocalLLM` or `EndpointLLM`. An option of the other
    kind raises an error instead of being ignored.

    Args:
        name: `smollm2`, a path, `hf:ORG/NAME`, `openai:MODEL`, or `URL#MODEL`.
        device: "cpu" or "cuda"; local models only.
        dtype: Floating-point type of the computation; local models only.
        api_key: API key of a hosted model; overrides the environment variable.
        timeout_s: Read timeout of a hosted model, in seconds.
        context_window: Context window of a hosted model in tokens; servers do not report it.

    Raises:
        ValueError: The name has none of these forms, or an option is for the other kind of model.
        ModelError: The model cannot be found or loaded.
        MissingExtra: The packages for local models are not installed.

    >>> load_llm("http://localhost:11434/v1#llama3.2").name
    'http://localhost:11434/v1#llama3.2'
    """
    base_url, model = _split_hosted(name)
    if model is None:
        hosted = {"api_key": api_key, "timeout_s": timeout_s, "context_window": context_window}
        _reject_options(name, hosted, "hosted")
        return _load_local(name, device or "cpu", dtype)
    from ragkit.llms.endpoint import EndpointLLM

    _reject_options(name, {"device": device, "dtype": dtype}, "local")
    return EndpointLLM(
        model,
        base_url=base_url,
        api_key=api_key,
        timeout_s=60.0 if timeout_s is None else timeout_s,
        context_window=8192 if context_window is None else context_window,
    )


def load_fast_llm(model: str, adapter: Path | None = None) -> LlamaLLM | LocalLLM:
    """Load a local model for short prompts on the CPU: in NumPy if supported, else in torch.

    `LlamaLLM` loads in a second and `LocalLLM` in six.

    Raises:
        ModelError: The model or the adapter cannot be found or read.
        MissingExtra: The packages for local models are not installed.
    """
    from ragkit.llms.llama import LlamaLLM, supports

    if supports(model):
        return LlamaLLM(model, adapter=adapter)
    from ragkit.llms.local import LocalLLM

    return LocalLLM(model, adapter=adapter)


def _split_hosted(name: str) -> tuple[str | None, str | None]:
    """Split a hosted name into base URL (None for OpenAI's) and model (None for a local name)."""
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
        raise ValueError(f"{name!r} names a server but no model; write for example {example!r}")
    return base_url, model


def _load_local(name: str, device: str, dtype: Dtype | None) -> LLM:
    from ragkit.llms.local import LocalLLM

    try:
        models.resolve(name)
    except ModelError as error:
        raise ModelError(f"{error} A language model is {_FORMS}.") from error
    return LocalLLM(name, device=device, dtype=dtype)


def _reject_options(name: str, options: Mapping[str, object], kind: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise ValueError(
                f"{option} applies to {kind} models only, not to {name!r}; leave it out"
            )
