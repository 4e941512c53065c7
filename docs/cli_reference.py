"""Writes docs/cli.md from the command line's own help.

python docs/cli_reference.py            writes the file
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ragkit.cli.main import app

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# Command line

Written by `python docs/cli_reference.py`; a test compares it with the commands.

Results go to stdout, progress and losses to stderr. `-` reads stdin. `--json` prints JSON that
follows the dataclasses of `ragkit.types`. Settings: flag, then environment, then the `[ragkit]`
table of `ragkit.toml`, then default; `ragkit doctor` prints each with its origin.

| exit code | meaning |
|---|---|
| 0 | fine; an empty search is fine too |
| 1 | an error; `verify`: a citation or a file has changed |
| 2 | wrong usage |
| 3 | some files failed or have an unsupported type; all others are done |
| 4 | no evidence: `ask` refused, or `verify` got a refusal |
| 130 | Ctrl-C; the collection is intact, and the message says how to resume |
"""


def render() -> str:
    """The whole page."""
    command: Any = typer.main.get_command(app)
    return HEAD + "".join(_section(f"ragkit {name}", sub) for name, sub in _leaves(command, ""))


def _leaves(group: Any, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in sorted(group.commands.items()):
        full = f"{prefix}{name}"
        if hasattr(command, "commands"):
            found += _leaves(command, f"{full} ")
        else:
            found.append((full, command))
    return found


def _section(title: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([title, *(_usage(p) for p in arguments)])
    lines = [f"\n## {title}\n", command.help.strip(), f"\n    {usage} [OPTIONS]\n"]
    rows = [(p.name.upper(), p.help) for p in arguments]
    rows += [(", ".join(f"`{opt}`" for opt in p.opts), p.help or "") for p in options]
    if rows:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| {name} | {text} |".replace("\n", " ") for name, text in rows]
    return "\n".join(lines) + "\n"


def _usage(parameter: Any) -> str:
    name = parameter.name.upper()
    return f"{name}…" if parameter.nargs == -1 else name


if __name__ == "__main__":
    TARGET.write_text(render())
