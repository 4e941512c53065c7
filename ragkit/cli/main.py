"""`ragkit`: the main command and its error handling."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from ragkit import __version__
from ragkit.cli import (
    agent,
    answer,
    ask,
    doctor,
    evaluate,
    index,
    models,
    search,
    trace,
    train,
    tune,
)
from ragkit.cli.common import err
from ragkit.errors import FilterError, RagkitError

app = typer.Typer(
    name="ragkit",
    help="Retrieval-augmented question answering with verifiable citations.",
    no_args_is_help=True,
    rich_markup_mode=None,  # it would interpret [default: …] as markup
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 success, 1 error, 2 usage, 3 some inputs failed, 4 no evidence, "
    "130 interrupted.",
)
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(agent.app, name="agent")
app.add_typer(trace.app, name="trace")
app.add_typer(train.app, name="train")
app.command()(search.search)
app.command()(ask.ask)
app.command()(ask.chat)
app.command()(answer.verify)
app.command(name="eval")(evaluate.evaluate)
app.command()(evaluate.compare)
app.command()(tune.tune)
app.command()(doctor.doctor)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log to stderr.")] = False,
) -> None:
    """Retrieval-augmented question answering with verifiable citations."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ragkit")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("ragkit.models").setLevel(logging.INFO)  # the first conversion is slow
    if version:
        print(__version__)
        raise typer.Exit


def run() -> None:
    """Run the command line and exit with one of its exit codes."""
    try:
        app()
    except FilterError as error:
        _print_error(str(error))
        sys.exit(2)
    except RagkitError as error:
        _print_error(str(error))
        sys.exit(1)
    except (ValueError, TypeError) as error:
        # Arguments validated by the library.
        if logging.getLogger("ragkit").isEnabledFor(logging.DEBUG):
            raise
        _print_error(str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _print_error(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        sys.exit(1)


def _print_error(message: str) -> None:
    err.print("[red]error[/red] ", end="")
    err.print(message, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run()
