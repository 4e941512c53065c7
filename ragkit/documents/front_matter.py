"""Read the front matter of a Markdown file: YAML between "---" lines, or TOML between "+++"."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ragkit.documents.scalars import parse_scalar

_LONGEST = 100_000  # characters
_DEEPEST = 50  # values inside each other
_MAX_NODES = 50_000  # values of a field, which aliases may multiply
_END = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE)
_TOML_END = re.compile(r"^\+\+\+[ \t]*(?:\n|\Z)", re.MULTILINE)
_KEY = re.compile(r"""("[^"\n]*+"|'[^'\n]*+'|[^\s"'#\[\]{},&*!|>%@`?-][^\n#]*?)[ \t]*:(?=\s|$)""")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(slots=True)
class FrontMatter:
    """Fields of a file, and what could not be read.

    Attributes:
        fields: Values by name; a field of a nested map is "name.field".
        body: The text after the front matter.
        n_unread: Number of lines that are not in the fields.
        why: Why the first of them is not.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    body: str = ""
    n_unread: int = 0
    why: str = ""

    def add(self, name: str, value: Any) -> None:
        """Add a field, or the fields of a map."""
        pending = [(name, value)]
        while pending:
            name, value = pending.pop()
            if isinstance(value, dict) and value:
                pending += reversed([(f"{name}.{key}", item) for key, item in value.items()])
            elif name in self.fields:
                self.skip(1, f"the field {name!r} occurs twice")
            else:
                self.fields[name] = value

    def skip(self, n_lines: int, why: str) -> None:
        """Count lines that are not read."""
        self.n_unread += n_lines
        self.why = self.why or why


def split_front_matter(text: str) -> FrontMatter:
    """Read the front matter of a text, if it begins with one.

    Plain values have types only if they write back as the same text: numbers, true and false. So
    3.10, 012, dates, "yes" and quoted values are texts.

    >>> found = split_front_matter("---\\nversion: 3.10\\nby: {name: Ann}\\n---\\n# Head")
    >>> found.fields, found.body
    ({'version': '3.10', 'by.name': 'Ann'}, '# Head')
    """
    marks = {"---": _END, "+++": _TOML_END}
    opening = text.partition("\n")[0].rstrip()
    end = marks[opening].search(text, text.find("\n") + 1) if opening in marks else None
    if end is None or "\n" not in text:
        return FrontMatter(body=text)
    block = text[text.find("\n") + 1 : end.start()]
    found = FrontMatter(body=text[end.end() :].lstrip("\n"))
    lines = [line for line in block.split("\n") if line.strip() and line.lstrip()[0] != "#"]
    if not lines or not (opening == "+++" or _KEY.match(lines[0])):
        return FrontMatter(body=text)
    if len(block) > _LONGEST:
        found.skip(len(lines), f"it has more than {_LONGEST} characters")
    elif opening == "+++":
        _read_toml(block, len(lines), found)
    else:
        for name, entry in _entries(block):
            _read_entry(name, entry, found)
    return found


def _read_toml(block: str, n_lines: int, found: FrontMatter) -> None:
    try:
        names = (line.partition("=")[0] for line in block.split("\n"))
        if _is_deep(block) or any(name.count(".") > _DEEPEST for name in names):
            raise ValueError(f"more than {_DEEPEST} values inside each other")
        values = tomllib.loads(block, parse_float=parse_scalar)
    except (RecursionError, ValueError) as error:
        found.skip(n_lines, f"it is not TOML: {error}")
        return
    for name, value in values.items():
        found.add(name, value)


def _entries(block: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each top-level field and its lines; lines before the first have none."""
    name, lines = "", list[str]()
    for line in block.split("\n"):
        if match := _KEY.match(line):
            if lines:
                yield name, "\n".join(lines)
            name, lines = match[1], []
        lines.append(line)
    yield name, "\n".join(lines)


def _read_entry(name: str, entry: str, found: FrontMatter) -> None:
    """Read one field; if it is not YAML, its text is the rest of its line."""
    import yaml

    n_lines = sum(1 for line in entry.split("\n") if line.strip() and line.lstrip()[0] != "#")
    try:
        if _is_deep(entry):
            raise ValueError(f"more than {_DEEPEST} values inside each other")
        node = yaml.compose(entry, yaml.SafeLoader)
        value = _Values().convert(node)
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        rest = entry.partition(":")[2].strip()
        if name and rest and n_lines == 1:
            found.add(name.strip("\"'"), rest)
        else:
            found.skip(n_lines, f"it is not YAML: {' '.join(str(error).split())[:200]}")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            found.add(key, item)
    elif n_lines:
        found.skip(n_lines, "it is not a field")


def _is_deep(text: str) -> bool:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            return True
    return False


class _Values:
    """Converter of the nodes of one YAML document."""

    def __init__(self) -> None:
        self._n_nodes = 0

    def convert(self, node: Any, depth: int = 0) -> Any:
        """Return the value of a node.

        Raises:
            ValueError: It is too large or too deep, or a name in it is not a text.
        """
        self._n_nodes += 1
        if self._n_nodes > _MAX_NODES or depth > _DEEPEST:
            raise ValueError("too many values, or values too deep inside each other")
        if node is None:
            return None
        if node.id == "scalar":
            if node.style is not None:
                return node.value
            return None if node.value in _NULLS else parse_scalar(node.value)
        if node.id == "sequence":
            return [self.convert(item, depth + 1) for item in node.value]
        values: dict[str, Any] = {}
        for key, item in node.value:
            if key.id != "scalar" or key.value in values:
                raise ValueError("a name is not a text, or occurs twice")
            values[key.value] = self.convert(item, depth + 1)
        return values
