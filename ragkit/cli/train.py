"""`ragkit train`: train adapters for retrieval and agents."""

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

_MAX_EVALUATIONS = 10  # per run
app = typer.Typer(no_args_is_help=True, help="Train models on your own documents.")


@app.callback()
def main() -> None:
    """Train models on your own documents."""


@app.command()
def generative(
    in_: InOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help='Queries: JSON Lines with "query" and "doc_id" [default: generated queries].'
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Base model: smollm2, a folder, or hf:ORG/NAME.")
    ] = "smollm2",
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and adapter [default: in the collection]."),
    ] = None,
    tokens: Annotated[float, typer.Option(min=1, help="Training budget in tokens.")] = 2e6,
    rank: Annotated[int, typer.Option(min=1, max=256, help="LoRA rank of the adapter.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of AdamW.")] = 1e-3,
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter for the retrievers title and ngram of a collection.

    After an interruption, run the same command again to resume. With the default folder, the
    adapter becomes the default of the collection.
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
    train_options = TrainOptions(
        max_tokens=budget,
        learning_rate=learning_rate,
        warmup_tokens=min(20_000, budget // 10),
        evaluate_tokens=max(1, budget // _MAX_EVALUATIONS),
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
        options = GenerativeOptions(train=train_options, lora=LoraOptions(rank=rank), about=about)
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
    for n_tokens, loss in report.evaluations:
        out(f"{n_tokens:12,} tokens: development loss {loss:.4f}")
    took = f"{report.steps} steps, {report.seconds:.0f} s"
    out(f"{report.tokens:,} tokens in {took}; stopped by {report.stopped}")
    out(f"adapter: {adapter}")
    if to is not None:
        note(f"search with it: ragkit search … --retriever ngram --adapter {adapter}")


@app.command()
def agent(
    name: Annotated[str, typer.Argument(help="Agent: materials.")],
    to: Annotated[
        Path, typer.Option(help="Folder for demonstrations, checkpoints and adapter.")
    ] = Path("training"),
    model: Annotated[
        str, typer.Option(help="Base model: smollm2, a folder, or hf:ORG/NAME.")
    ] = "smollm2",
    tokens: Annotated[float, typer.Option(min=1, help="Training budget in tokens.")] = 1e6,
    questions: Annotated[
        int, typer.Option(min=20, help="Number of questions to demonstrate.")
    ] = 6000,
    held_out: Annotated[
        int, typer.Option(min=12, max=900, help="Number of test questions, balanced by kind.")
    ] = 120,
    corrections: Annotated[
        int, typer.Option(min=0, help="Number of questions for training on corrected mistakes.")
    ] = 0,
    start: Annotated[
        Path | None, typer.Option(help="Adapter of the same rank to continue training from.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of AdamW.")] = 1e-3,
    paraphrases: Annotated[
        int, typer.Option(min=0, help="Number of questions paraphrased by the model.")
    ] = 100,
    rank: Annotated[int, typer.Option(min=1, max=256, help="LoRA rank of the adapter.")] = 16,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train and test a planner for an agent.

    Demonstrations are generated from the agent's data and tools. The adapter is promoted to
    FOLDER/adapter, with its card, only if it improves significantly on unseen questions and does
    not degrade on a general set. After an interruption, run the same command again to resume.
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
    train_options = TrainOptions(
        max_tokens=budget,
        learning_rate=learning_rate,
        decay_share=0.8,
        warmup_tokens=min(20_000, budget // 10),
        evaluate_tokens=max(1, budget // _MAX_EVALUATIONS),
        seed=seed,
    )
    config = DemonstrationConfig(questions, n_paraphrased=paraphrases, seed=seed)
    options = AgentTraining(train_options, LoraOptions(rank=rank), config, base=model, start=start)
    with collect() as losses, resumable(to):
        with _counter("demonstrations", quiet=quiet) as count, _progress(quiet=quiet) as show:
            report = train_agent(name, to, options, on_demonstration=count, on_progress=show)
        if corrections and not read_metadata(to / "adapter").get("corrections"):
            correcting = Correcting(corrections, lora=LoraOptions(rank=rank), seed=seed)
            with _counter("questions", quiet=quiet) as count, _progress(quiet=quiet) as show:
                corrected = correct_agent(name, to, correcting, on_question=count, on_progress=show)
            note(
                f"corrections: {corrected.n_wrong} wrong samples at {corrected.n_steps} steps; "
                f"development accuracy {corrected.before:.3f} before, {corrected.after} after"
            )
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
    out(f"adapter: {to / 'adapter'}; copy it to agents/{name}/adapter to use `--llm trained`")


def _own_folder(collection: Path) -> Path:
    """Return the training folder of a collection.

    Raises:
        CollectionError: It is a symbolic link, which in a downloaded collection may point anywhere.
    """
    folder = collection / "training"
    for path in (folder, folder / "run"):
        if path.is_symlink():
            raise CollectionError(
                f"{str(path)!r} is a symbolic link, and training would overwrite its target; "
                "remove the link, or use --to FOLDER"
            )
    return folder


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[TrainProgress], None]]:
    """Show a progress bar on a terminal, otherwise print a line every 30 seconds."""
    if quiet:
        yield lambda step: None
        return
    if not err.is_terminal:
        printed = time.monotonic()

        def print_line(step: TrainProgress) -> None:
            nonlocal printed
            if time.monotonic() - printed > 30:
                printed = time.monotonic()
                note(_describe(step))

        yield print_line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step: bar.update(
            task, description=_describe(step), completed=step.tokens, total=step.max_tokens
        )


@contextmanager
def _counter(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Print the progress every 10 seconds."""
    printed = time.monotonic()

    def count(done: int, total: int) -> None:
        nonlocal printed
        if not quiet and time.monotonic() - printed > 10:
            printed = time.monotonic()
            note(f"{done:,} of {total:,} {what}")

    yield count


def _describe(step: TrainProgress) -> str:
    dev = "" if step.dev_loss is None else f", development loss {step.dev_loss:.3f}"
    return f"{step.tokens:,} of {step.max_tokens:,} tokens, loss {step.loss:.3f}{dev}"
