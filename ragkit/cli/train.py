"""`ragkit train`: recipes that train models."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragkit.cli.common import (
    InOption,
    JsonOption,
    QuietOption,
    err,
    note,
    open_collection,
    out,
    print_json,
    print_losses,
    resumable,
)
from ragkit.errors import CollectionError
from ragkit.losses import collect

if TYPE_CHECKING:
    from ragkit.finetune import TrainProgress

_EVALUATIONS = 10  # of a run, at most
app = typer.Typer(no_args_is_help=True, help="Train models on your own documents.")


@app.callback()
def main() -> None:
    """Train models on your own documents."""


@app.command()
def generative(
    in_: InOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help='Queries: JSON Lines with "query" and "doc_id"; without, made-up ones.'),
    ] = None,
    model: Annotated[str, typer.Option(help="smollm2, a folder, or hf:ORG/NAME.")] = "smollm2",
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and adapter [default: the collection's own]."),
    ] = None,
    tokens: Annotated[float, typer.Option(min=1, help="The budget, in tokens read.")] = 2e6,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Of the adapter (LoRA).")] = 16,
    learning_rate: Annotated[float, typer.Option(help="AdamW's.")] = 1e-3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Teach a model to write what a collection holds, for the retrievers title and ngram.

    Interrupted or killed, the same command goes on. With the default folder, searches in the
    collection use the adapter from then on.
    """
    from ragkit.finetune import LoraOptions, TrainOptions
    from ragkit.finetune.generative import GenerativeOptions, train_generative
    from ragkit.finetune.generative.corpus import collection_targets, read_pairs
    from ragkit.llms.beams import CausalBeams, Seq2SeqBeams, load_beam_model

    collection = open_collection(in_)
    folder = to or _own_folder(collection.path)
    if not math.isfinite(tokens):
        raise typer.BadParameter(f"--tokens is {tokens}; expected a number of tokens")
    queries = read_pairs(pairs) if pairs else []
    budget = int(tokens)
    how = TrainOptions(
        max_tokens=budget,
        learning_rate=learning_rate,
        warmup_tokens=min(20_000, budget // 10),
        evaluate_tokens=max(1, budget // _EVALUATIONS),
        seed=seed,
    )
    loaded = load_beam_model(model, device=device)
    assert isinstance(loaded, CausalBeams | Seq2SeqBeams)
    with collect() as losses, resumable(folder):
        targets, dev = collection_targets(collection, loaded, queries, seed=seed)
        about = {
            "corpus": collection.digest(),
            "n_passages": len(targets.passages),
            "n_queries": len(queries),
            "recipe": "generative",
            "tokens": budget,
            "seed": seed,
        }
        options = GenerativeOptions(train=how, lora=LoraOptions(rank=rank), about=about)
        with _progress(quiet=quiet) as show:
            report = train_generative(
                loaded, targets, folder, options, dev=dev.epoch(0), on_progress=show
            )
    adapter = folder / "adapter"
    if to is None:
        collection.use_adapter(adapter)
        adapter = collection.path / "adapter"
    print_losses(losses)
    if as_json:
        print_json({"adapter": str(adapter), **asdict(report), "losses": losses})
        return
    for at, loss in report.evaluations:
        out(f"{at:12,} tokens: development loss {loss:.4f}")
    took = f"{report.steps} steps, {report.seconds:.0f} s"
    out(f"{report.tokens:,} tokens in {took}; it ended by its {report.stopped}")
    out(f"adapter: {adapter}")
    if to is not None:
        note(f"search with it: ragkit search … --retriever ngram --adapter {adapter}")


@app.command()
def agent(
    name: Annotated[str, typer.Argument(help="The agent: materials.")],
    to: Annotated[
        Path, typer.Option(help="Folder for demonstrations, checkpoints and adapter.")
    ] = Path("training"),
    model: Annotated[str, typer.Option(help="smollm2, a folder, or hf:ORG/NAME.")] = "smollm2",
    tokens: Annotated[float, typer.Option(min=1, help="The budget, in tokens read.")] = 1e6,
    questions: Annotated[int, typer.Option(min=20, help="To demonstrate.")] = 6000,
    held_out: Annotated[
        int, typer.Option(min=12, max=900, help="To test on, each kind alike.")
    ] = 120,
    corrections: Annotated[
        int, typer.Option(min=0, help="Questions at which it also learns from its own mistakes.")
    ] = 0,
    start: Annotated[
        Path | None, typer.Option(help="An adapter to go on with, of the same rank.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="AdamW's.")] = 1e-3,
    paraphrases: Annotated[int, typer.Option(min=0, help="Questions the model says again.")] = 100,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Of the adapter (LoRA).")] = 16,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Teach a model to plan an agent's runs, and test whether it gained.

    Demonstrations are made from the agent's own data and tools. The adapter that comes of it is
    promoted only with a significant gain on questions that training never saw and no loss on a
    general set; then it lies in FOLDER/adapter with its card. Interrupted or killed, the same
    command goes on.
    """
    from ragkit.finetune import LoraOptions, TrainOptions
    from ragkit.finetune.planner.correct import Correcting, correct_agent
    from ragkit.finetune.planner.demonstrations import DemonstrationConfig
    from ragkit.finetune.planner.promotion import promote
    from ragkit.finetune.planner.training import AgentTraining, train_agent
    from ragkit.llms.adapters import read_metadata

    if not math.isfinite(tokens):
        raise typer.BadParameter(f"--tokens is {tokens}; expected a number of tokens")
    budget = int(tokens)
    how = TrainOptions(
        max_tokens=budget,
        learning_rate=learning_rate,
        decay_share=0.8,
        warmup_tokens=min(20_000, budget // 10),
        evaluate_tokens=max(1, budget // _EVALUATIONS),
        seed=seed,
    )
    config = DemonstrationConfig(questions, n_paraphrased=paraphrases, seed=seed)
    options = AgentTraining(how, LoraOptions(rank=rank), config, base=model, start=start)
    with collect() as losses, resumable(to):
        with _counter("demonstrations", quiet=quiet) as count, _progress(quiet=quiet) as show:
            report = train_agent(name, to, options, on_demonstration=count, on_progress=show)
        if corrections and not read_metadata(to / "adapter").get("corrections"):
            how_much = Correcting(corrections, lora=LoraOptions(rank=rank), seed=seed)
            with _counter("questions", quiet=quiet) as count, _progress(quiet=quiet) as show:
                made = correct_agent(name, to, how_much, on_question=count, on_progress=show)
            note(f"corrections: {made.n_wrong} wrong samples at {made.n_steps} steps; development "
                 f"questions right {made.before:.3f}, then {made.after}")  # fmt: skip
        with _counter("questions", quiet=quiet) as count:
            gate = promote(name, to, n_questions=held_out, on_question=count)
    print_losses(losses)
    if as_json:
        print_json({**asdict(report), "gate": gate, "losses": losses})
        raise typer.Exit(0 if gate.promoted else 1)
    out(f"{report.tokens:,} tokens in {report.steps} steps, {report.seconds:.0f} s")
    out(f"{'promoted' if gate.promoted else 'not promoted'}: {gate.why}")
    if not gate.promoted:
        raise typer.Exit(1)
    out(f"adapter: {to / 'adapter'}; in agents/{name}/adapter it is the planner `--llm trained`")


def _own_folder(collection: Path) -> Path:
    """The folder for training inside a collection.

    Raises:
        CollectionError: It is a link: in a collection from elsewhere, it might lead anywhere.
    """
    folder = collection / "training"
    for path in (folder, folder / "run"):
        if path.is_symlink():
            raise CollectionError(
                f"{str(path)!r} is a link, and training replaces what it finds; remove the link, "
                "or say --to FOLDER"
            )
    return folder


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[TrainProgress], None]]:
    """A bar on a terminal, and else a line now and then."""
    if quiet:
        yield lambda now: None
        return
    if not err.is_terminal:
        shown = time.monotonic()

        def line(now: TrainProgress) -> None:
            nonlocal shown
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                note(_said(now))

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda now: bar.update(
            task, description=_said(now), completed=now.tokens, total=now.max_tokens
        )


@contextmanager
def _counter(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A line now and then: how many of how many."""
    shown = time.monotonic()

    def count(done: int, total: int) -> None:
        nonlocal shown
        if not quiet and time.monotonic() - shown > 10:
            shown = time.monotonic()
            note(f"{done:,} of {total:,} {what}")

    yield count


def _said(now: TrainProgress) -> str:
    dev = "" if now.dev_loss is None else f", development loss {now.dev_loss:.3f}"
    return f"{now.tokens:,} of {now.max_tokens:,} tokens, loss {now.loss:.3f}{dev}"
