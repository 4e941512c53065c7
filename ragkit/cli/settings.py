"""Settings from command line flags, the environment, `ragkit.toml`, or defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.errors import RagkitError

FILE = "ragkit.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting shared by several commands.

    Attributes:
        name: Key in the table `[ragkit]` of `ragkit.toml`.
        env: Environment variable.
        default: Default value.
        about: Description, one line.
    """

    name: str
    env: str
    default: str | None
    about: str


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("collection", "RAGKIT_COLLECTION", None, "default of --in"),
        Setting("retriever", "RAGKIT_RETRIEVER", "hybrid", "dense, bm25, hybrid, title or ngram"),
        Setting("reader", "RAGKIT_READER", "auto", "auto, spans, extractive or llm"),
        Setting("threshold", "RAGKIT_THRESHOLD", None, "likelihood below which to refuse, 0 to 1"),
        Setting("llm", "RAGKIT_LLM", None, "smollm2, openai:MODEL, URL#MODEL, hf:ORG/NAME, a path"),
        Setting("judge", "RAGKIT_JUDGE", None, "model that decides what the check is unsure of"),
        Setting("embedder", "RAGKIT_EMBEDDER", "minilm", "embedder of new collections"),
        Setting("home", "RAGKIT_HOME", None, "converted models and traces (environment only)"),
        Setting("offline", "RAGKIT_OFFLINE", None, "1 disables network access (environment only)"),
    )
}


def origin(name: str, flag: str | None = None) -> tuple[str | None, str]:
    """Return the value of a setting and its origin.

    Raises:
        RagkitError: `ragkit.toml` cannot be read or has an unknown key.
    """
    setting = SETTINGS[name]
    if flag is not None:
        return flag, "flag"
    if os.environ.get(setting.env):
        return os.environ[setting.env], f"environment ({setting.env})"
    configured = _file_values().get(name)
    if configured is not None:
        return str(configured), FILE
    return setting.default, "default"


def value(name: str, flag: str | None = None) -> str | None:
    """Return the value of a setting."""
    return origin(name, flag)[0]


def _file_values() -> dict[str, Any]:
    path = Path(FILE)
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("ragkit", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RagkitError(f"{FILE} cannot be read: {error}") from error
    unknown = sorted(set(table) - set(SETTINGS))
    if unknown:
        raise RagkitError(
            f"{FILE} has unknown keys {', '.join(unknown)}; known keys: {', '.join(SETTINGS)}"
        )
    return dict(table)
