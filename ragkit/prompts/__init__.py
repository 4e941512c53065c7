"""Prompts in the open: Markdown files with a version, filled in strictly."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from importlib import resources

from ragkit.digests import text_digest


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file: its first line holds the version, the rest is the text."""

    name: str
    version: str
    text: str

    @property
    def digest(self) -> str:
        """Digest of the text."""
        return text_digest(self.text)

    def fill(self, **values: str) -> str:
        """The text with `$name` replaced; a name without a value raises KeyError."""
        return string.Template(self.text).substitute(values)


def load_prompt(name: str) -> Prompt:
    """The prompt of that name from `ragkit/prompts/`.

    >>> load_prompt("answer").version
    '1'
    """
    raw = resources.files(__package__).joinpath(f"{name}.md").read_text("utf-8")
    first, _, text = raw.partition("\n")
    version = re.fullmatch(r"<!-- version (\S+) -->", first)
    if version is None:
        raise ValueError(f"{name}.md begins with {first!r}; expected <!-- version N -->")
    return Prompt(name, version[1], text.strip())
