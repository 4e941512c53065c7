"""Where a setting's value comes from: flag, environment, `ragkit.toml`, default."""

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
    """A setting that flags share.

    Attributes:
        name: Its key in `ragkit.toml` (table `[ragkit]`).
        env: Its environment variable.
        default: Its value if nothing else is said.
        about: One line.
    """

    name: str
    env: str
    default: str | None
    about: str


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("collection", "RAGKIT_COLLECTION", None, "the collection that --in names"),
        Setting("retriever", "RAGKIT_RETRIEVER", "hybrid", "dense, bm25, hybrid, title or ngram"),
        Setting("reader", "RAGKIT_READER", "auto", "auto, extractive or llm"),
        Setting("llm", "RAGKIT_LLM", None, "smollm2, openai:MODEL, URL#MODEL, hf:ORG/NAME, a path"),
        Setting("embedder", "RAGKIT_EMBEDDER", "minilm", "the embedder of new collections"),
        Setting("home", "RAGKIT_HOME", None, "converted models and traces (environment only)"),
        Setting("offline", "RAGKIT_OFFLINE", None, "1 forbids the network (environment only)"),
    )
}


def origin(name: str, flag: str | None = None) -> tuple[str | None, str]:
    """A setting's value and where it comes from.

    Raises:
        RagkitError: `ragkit.toml` cannot be read or has an unknown key.
    """
    setting = SETTINGS[name]
    if flag is not None:
        return flag, "flag"
    if os.environ.get(setting.env):
        return os.environ[setting.env], f"environment ({setting.env})"
    written = _file_values().get(name)
    if written is not None:
        return str(written), FILE
    return setting.default, "default"


def value(name: str, flag: str | None = None) -> str | None:
    """A setting's value."""
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
            f"{FILE} has unknown keys {', '.join(unknown)}; known are {', '.join(SETTINGS)}"
        )
    return dict(table)
