"""Training of an agent's planner: an adapter from demonstrations.

Source: supervised warm-up on synthetic tool calls, iTool (Zeng et al. 2025); the loss is on actions
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
from ragkit.agents.templates import TEMPLATES
from ragkit.agents.trained import TASK
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.finetune.dialogues import Dialogue, DialogueTargets
from ragkit.finetune.general import REPLAY, replay_dialogues
from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.loop import TrainOptions, TrainProgress, TrainReport
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.planner.demonstrations import (
    DemonstrationConfig,
    OnQuestion,
    demonstrations,
    dialogue_of,
    dialogue_text,
)
from ragkit.finetune.supervised import AdapterOptions, train_adapter
from ragkit.llms.adapters import base_fingerprint, check_adapter, metadata_text, read_metadata

_REPLAYS = 5  # repetitions of each of its own plain answers in an epoch


@dataclass(frozen=True, slots=True)
class AgentTraining:
    """Options of the training.

    Attributes:
        train: Budget, learning rates and seed.
        lora: Size of the adapter.
        demonstrations: Which demonstrations to make.
        n_dev: Number of questions of the development loss.
        base: Base model, a name for `ragkit.models.resolve`.
        start: Adapter of the same agent and size to continue from; None starts from scratch.
    """

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(learning_rate=1e-3, decay_share=0.8)
    )
    lora: LoraOptions = field(default_factory=LoraOptions)
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
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
    """Train an adapter that plans an agent's runs; the same call resumes.

    Args:
        name: Name of the agent, which must have the materials toolkit.
        folder: Output: the demonstrations, `run/` and `adapter/`.
        options: See `AgentTraining`.
        on_demonstration: Called after each question.
        on_progress: Called after each training step.

    Raises:
        RagkitError: No questions are known for the agent, or it has no short prompt.
        ModelError: The folder holds another run or other things, or the loss is no number.
        MissingExtra: The packages for local models or for training are not installed.
    """
    from ragkit.llms.local import LocalLLM

    definition = load_definition(name)
    folder.mkdir(parents=True, exist_ok=True)
    config = options.demonstrations
    dev_config = DemonstrationConfig(
        max(20, options.n_dev), 0.0, config.team_share, 0, config.seed + 1
    )
    llm = LocalLLM(options.base)
    learned = demonstrations(definition, config, folder, "train", llm, on_demonstration)
    held = demonstrations(definition, dev_config, folder, "dev", None, on_demonstration)
    plain = _replays(options.base, folder) * _REPLAYS
    targets = DialogueTargets(llm, [*learned.dialogues, *plain], seed=options.train.seed)
    dev = DialogueTargets(llm, held.dialogues).epoch(0)
    about = {
        "task": TASK,
        "agent": definition.name,
        "tools": learned.prompts | held.prompts,
        "templates": asdict(TEMPLATES),
        "data": f"{len(learned.dialogues)} dialogues over the materials snapshot",
        "snapshot": file_digest(default_path()),
        "demonstrations": asdict(config),
        "max_tokens": options.train.max_tokens,
        "seed": options.train.seed,
    }
    if options.start is not None:
        before = check_adapter(options.start, options.base, TASK)
        about["start"] = {
            key: before.get(key) for key in ("data", "demonstrations", "cost", "start")
        }
    how = AdapterOptions(options.train, options.lora, about, options.start)
    made = train_adapter(llm, targets, folder, how, dev=dev, on_progress=on_progress)
    _write_cost(folder / "adapter", made)
    return made


def _write_cost(adapter: Path, made: TrainReport) -> None:
    """Write the cost of the training into `ragkit.json`, from where it goes into the card."""
    cost = {"tokens": made.tokens, "seconds": round(made.seconds), "hardware": _hardware()}
    replace_text(adapter / "ragkit.json", metadata_text(read_metadata(adapter) | {"cost": cost}))


def _hardware() -> str:
    """Return the processor and the number of cores."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _replays(base: str, folder: Path) -> list[Dialogue]:
    """Return the model's own answers to plain questions, cached in `folder/replay.jsonl`."""
    from ragkit.llms.load import load_fast_llm

    job = text_digest(repr((base_fingerprint(base), REPLAY)))
    kept = JsonlCache(folder / "replay.jsonl", job)
    load = cache(lambda: load_fast_llm(base))  # if there is something to ask

    def say(question: str) -> list[str]:
        return [dialogue_text(each) for each in replay_dialogues(load(), [question])]

    texts = [kept.get(question, partial(say, question)) for question in REPLAY]
    return [dialogue_of(text) for each in texts for text in each]
