"""Second stage of training a planner: preferences from its own mistakes, kept if they help.

Source: iTool (Zeng et al. 2025), step-level preferences; see `ragkit.finetune.planner.corrections`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.trained import trained_planner
from ragkit.digests import file_digest, text_digest
from ragkit.evaluation.materials.oracle import OraclePlanner
from ragkit.evaluation.materials.question import MaterialsQuestion
from ragkit.evaluation.materials.scoring import judge
from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.loop import TrainOptions, TrainProgress
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.planner.corrections import Corrector
from ragkit.finetune.planner.demonstrations import VERSION, OnQuestion
from ragkit.finetune.planner.questions import training_questions
from ragkit.finetune.preferences import Preference, PreferenceOptions, train_preferences
from ragkit.finetune.supervised import AdapterOptions
from ragkit.llms.adapters import install, read_metadata

_LIMITS = {"max_steps": 6, "max_tokens": 1500, "max_seconds": 600}
_LEAST_GAIN = 0.02  # of the share of right answers
# Of `ragkit.json`: written again, since the gate has not tested the corrected adapter.
_KEPT_OUT = ("format", "base", "base_fingerprint", "promoted", "gate")


@dataclass(frozen=True, slots=True)
class Correcting:
    """Options of the second stage.

    Attributes:
        n_questions: Number of questions at whose steps the planner is sampled.
        n_samples: Samples at each step.
        n_dev: Questions of the development split that decide.
        train: Budget and learning rates.
        lora: Size of the adapter, which training continues from.
        seed: Seed of questions and samples.
    """

    n_questions: int = 200
    n_samples: int = 4
    n_dev: int = 100
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(max_tokens=100_000, batch_tokens=2048,
                                             learning_rate=1e-4, warmup_tokens=5_000)
    )  # fmt: skip
    lora: LoraOptions = field(default_factory=LoraOptions)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Corrected:
    """Result of the second stage.

    Attributes:
        n_steps: Number of steps sampled.
        n_wrong: Number of wrong samples.
        n_pairs: Number of preference pairs.
        before: Share of development questions answered correctly before.
        after: The same after; None if there were no pairs.
        taken: True if the corrected adapter replaced the first one.
    """

    n_steps: int
    n_wrong: int
    n_pairs: int
    before: float
    after: float | None
    taken: bool


def correct_agent(
    name: str,
    folder: Path,
    options: Correcting,
    *,
    on_question: OnQuestion = lambda done, total: None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Corrected:
    """Sample `folder/adapter`, train on its mistakes, and replace it if the result is better.

    Samples are cached in `folder`, training runs in `folder/corrected`; the same call resumes.

    Raises:
        ModelError: There is no adapter, or it is for another agent.
    """
    from ragkit.llms.local import LocalLLM

    adapter = folder / "adapter"
    about = read_metadata(adapter)
    found = _pairs(name, folder, options, on_question)
    before = _share_right(name, adapter, folder / "before.jsonl", options)
    if not found.pairs:
        return Corrected(found.n_steps, found.n_wrong, 0, before, None, False)
    told = {key: value for key, value in about.items() if key not in _KEPT_OUT}
    told["corrections"] = {"pairs": len(found.pairs), "tokens": options.train.max_tokens}
    how = PreferenceOptions(AdapterOptions(options.train, options.lora, told))
    llm = LocalLLM(str(about["base"]))
    to = folder / "corrected"
    train_preferences(llm, found.pairs, to, how, start=adapter, on_progress=on_progress)
    after = _share_right(name, to / "adapter", folder / "after.jsonl", options)
    taken = after >= before + _LEAST_GAIN
    if taken:
        install(to / "adapter", adapter)
    return Corrected(found.n_steps, found.n_wrong, len(found.pairs), before, after, taken)


@dataclass(slots=True)
class _Found:
    n_steps: int
    n_wrong: int
    pairs: list[Preference]


def _pairs(name: str, folder: Path, options: Correcting, on_question: OnQuestion) -> _Found:
    """Collect the pairs of each question, cached in `folder/pairs.jsonl`."""
    definition = load_definition(name)
    # Other questions than the first stage learned from.
    asked = training_questions(default_path(), options.n_questions, seed=options.seed + 10_000)
    student = trained_planner(definition, folder / "adapter")
    parts = (options.n_samples, options.seed, [each.text for each in asked], VERSION)
    kept = JsonlCache(folder / "pairs.jsonl", _job(folder, parts))
    teacher = OraclePlanner(asked)

    def sample(question: MaterialsQuestion) -> list[Any]:
        corrector = Corrector(teacher, student, n_samples=options.n_samples, seed=options.seed)
        load_agent(name, AgentOptions(llm=corrector)).run(question.text)
        pairs = [[pair.prompt, pair.chosen, pair.rejected] for pair in corrector.pairs]
        return [corrector.n_steps, corrector.n_wrong, pairs]

    found = _Found(0, 0, [])
    for n, question in enumerate(asked, start=1):
        n_steps, n_wrong, pairs = kept.get(question.text, partial(sample, question))
        found.n_steps += n_steps
        found.n_wrong += n_wrong
        found.pairs += [Preference(*map(tuple, pair)) for pair in pairs]
        on_question(n, len(asked))
    return found


def _job(folder: Path, parts: tuple[Any, ...]) -> str:
    weights = file_digest(folder / "adapter" / "adapter_model.safetensors")
    return text_digest(repr((weights, file_digest(default_path()), parts)))


def _share_right(name: str, adapter: Path, file: Path, options: Correcting) -> float:
    asked = training_questions(default_path(), options.n_dev, seed=options.seed, split="dev")
    parts = ([each.text for each in asked], VERSION)
    kept = JsonlCache(file, _job(adapter.parent, parts))
    planner = trained_planner(load_definition(name), adapter)
    agent = load_agent(name, AgentOptions(llm=planner, limits=_LIMITS))

    def score(question: MaterialsQuestion) -> float:
        return float(judge(question, agent.run(question.text)).correct)

    scores = [float(kept.get(each.text, partial(score, each))) for each in asked]
    return sum(scores) / len(scores)
