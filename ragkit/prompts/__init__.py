"""Versioned prompt templates, stored as Markdown files."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from importlib import resources

from ragkit.digests import text_digest


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt template.

    Attributes:
        name: File name without suffix.
        version: Version from the first line of the file.
        text: Text after the first line.
    """

    name: str
    version: str
    text: str

    @property
    def digest(self) -> str:
        """Digest of the text."""
        return text_digest(self.text)

    def fill(self, **values: str) -> str:
        """Substitute each `$name` in the text.

        Raises:
            KeyError: A name has no value.
        """
        return string.Template(self.text).substitute(values)


def load_prompt(name: str) -> Prompt:
    """Load a prompt template from `ragkit/prompts/`.

    >>> load_prompt("answer").version
    '2'

    Raises:
        ValueError: The first line of the file has no version.
    """
    raw = resources.files(__package__).joinpath(f"{name}.md").read_text("utf-8")
    first_line, _, text = raw.partition("\n")
    version = re.fullmatch(r"<!-- version (\S+) -->", first_line)
    if version is None:
        raise ValueError(f"{name}.md starts with {first_line!r}; expected <!-- version N -->")
    return Prompt(name, version[1], text.strip())
