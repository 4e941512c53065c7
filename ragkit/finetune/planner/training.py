"""Training the planner of an agent: demonstrations, an adapter, and its place.

Source: supervised warm-up on synthetic tool calls after iTool (SYSTEMS B3); the loss is on actions
only. Deviation: plans come from the benchmark's makers, not from a larger model.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

from ragkit.agents.definition import load_definition
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.trained import TASK
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.finetune.dialogues import Dialogue, DialogueTargets
from ragkit.finetune.general import REPLAY, replayed
from ragkit.finetune.jsonl_cache import KeptLines
from ragkit.finetune.loop import TrainOptions, TrainProgress, TrainReport
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.planner.demonstrations import (
    Lessons,
    OnQuestion,
    demonstrations,
    dialogue_of,
    dialogue_text,
)
from ragkit.finetune.supervised import AdapterOptions, train_adapter
from ragkit.llms.adapters import about_text, base_fingerprint, check_adapter, read_about

_REPLAYS = 5  # how often each plain answer of its own is learned in an epoch


@dataclass(frozen=True, slots=True)
class AgentTraining:
    """How an agent's planner is trained.

    Attributes:
        train: Budget, rates and seed.
        lora: The adapter's size.
        lessons: What it learns from.
        n_dev: Questions that the development loss is taken on.
        base: The model, a name for `ragkit.models.resolve`.
        start: An adapter of the same agent and size to go on with; None begins anew.
    """

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(learning_rate=1e-3, decay_share=0.8)
    )
    lora: LoraOptions = field(default_factory=LoraOptions)
    lessons: Lessons = field(default_factory=Lessons)
    n_dev: int = 60
    base: str = "smollm2"
    start: Path | None = None


def train_agent(
    name: str,
    folder: Path,
    options: AgentTraining,
    *,
    on_demonstration: OnQuestion = lambda done, total: None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train an adapter that plans an agent's runs; the same call goes on after a stop.

    Args:
        name: Of the agent; its tools must be the materials'.
        folder: Gets the demonstrations, `run/` and `adapter/`.
        options: See `AgentTraining`.
        on_demonstration: Called after each question.
        on_progress: Called after each step of the training.

    Raises:
        RagkitError: No questions are known for the agent, or it has no short prompt.
        ModelError: The folder holds another run or other things, or the loss is no number.
        MissingExtra: The packages for local models or for training are not installed.
    """
    from ragkit.llms.local import LocalLLM

    definition = load_definition(name)
    folder.mkdir(parents=True, exist_ok=True)
    lessons = options.lessons
    held_lessons = Lessons(max(20, options.n_dev), 0.0, lessons.team_share, 0, lessons.seed + 1)
    llm = LocalLLM(options.base)
    learned = demonstrations(definition, lessons, folder, "train", llm, on_demonstration)
    held = demonstrations(definition, held_lessons, folder, "dev", None, on_demonstration)
    plain = _replays(options.base, folder) * _REPLAYS
    targets = DialogueTargets(llm, [*learned.dialogues, *plain], seed=options.train.seed)
    dev = DialogueTargets(llm, held.dialogues).epoch(0)
    about = {
        "task": TASK,
        "agent": definition.name,
        "tools": sorted(learned.tools | held.tools),
        "data": f"{len(learned.dialogues)} dialogues over the materials snapshot",
        "snapshot": file_digest(default_path()),
        "lessons": asdict(lessons),
        "max_tokens": options.train.max_tokens,
        "seed": options.train.seed,
    }
    if options.start is not None:
        before = check_adapter(options.start, options.base, TASK)
        about["start"] = {key: before.get(key) for key in ("data", "lessons", "cost", "start")}
    how = AdapterOptions(options.train, options.lora, about, options.start)
    made = train_adapter(llm, targets, folder, how, dev=dev, on_progress=on_progress)
    _tell_cost(folder / "adapter", made)
    return made


def _tell_cost(adapter: Path, made: TrainReport) -> None:
    """What the training took, into the adapter's `ragkit.json` and so into its card."""
    cost = {"tokens": made.tokens, "seconds": round(made.seconds), "hardware": _hardware()}
    replace_text(adapter / "ragkit.json", about_text(read_about(adapter) | {"cost": cost}))


def _hardware() -> str:
    """The processor and how many cores there are."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _replays(base: str, folder: Path) -> list[Dialogue]:
    """The model's own answers to plain questions, kept in `folder/replay.jsonl`."""
    from ragkit.llms.llama import load_quickly

    job = text_digest(repr((base_fingerprint(base), REPLAY)))
    kept = KeptLines(folder / "replay.jsonl", job)
    load = cache(lambda: load_quickly(base))  # if there is something to ask

    def say(question: str) -> list[str]:
        return [dialogue_text(each) for each in replayed(load(), [question])]

    texts = [kept.get(question, partial(say, question)) for question in REPLAY]
    return [dialogue_of(text) for each in texts for text in each]
