"""The second stage of training a planner: from its own mistakes, if that helps it.

Source: iTool (SYSTEMS B3), its step-level preferences; see `ragkit.agents.corrections`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ragkit.agents.corrections import Corrector
from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.lessons import OnQuestion
from ragkit.agents.materials.perfect import PerfectPlanner
from ragkit.agents.materials.question_types import Question
from ragkit.agents.materials.scoring import judge
from ragkit.agents.materials.snapshot import default_path
from ragkit.agents.materials.training_kinds import training_questions
from ragkit.agents.planner import Planner
from ragkit.agents.trained import trained_planner
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.finetune.loop import TrainOptions, TrainProgress
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.preferences import Preference, PreferenceOptions, train_preferences
from ragkit.finetune.supervised import AdapterOptions
from ragkit.llms.adapters import install, read_about

_LIMITS = {"max_steps": 6, "max_seconds": 60}
_KEPT_OUT = ("format", "base", "base_fingerprint")  # of `ragkit.json`: written anew


@dataclass(frozen=True, slots=True)
class Correcting:
    """How a planner is corrected.

    Attributes:
        n_questions: At whose steps it is sampled.
        n_samples: At each step.
        n_dev: Questions of the development split that decide.
        train: Budget and rates.
        lora: The size of the adapter that is gone on with.
        seed: Of questions and samples.
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
    """What came of it.

    Attributes:
        n_steps: Steps that were looked at.
        n_wrong: Samples at them that were wrong.
        n_pairs: Pairs that were learned from.
        before: Share of the development questions answered right without the correction.
        after: With it; None where there was nothing to learn.
        taken: Whether the corrected adapter is in place of the other now.
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
    """Sample `folder/adapter`, learn from its mistakes, and take what comes of it if it is better.

    Pairs are kept in `folder/pairs.json` and the training in `folder/corrected`, so that the same
    call goes on after a stop.

    Raises:
        ModelError: There is no adapter, or it is for another agent.
    """
    from ragkit.llms.local import LocalLLM

    definition = load_definition(name)
    adapter = folder / "adapter"
    about = read_about(adapter)
    found = _pairs(name, folder, options, on_question)
    before = _share_right(name, trained_planner(definition, adapter), options)
    if not found.pairs:
        return Corrected(found.n_steps, found.n_wrong, 0, before, None, False)
    told = {key: value for key, value in about.items() if key not in _KEPT_OUT}
    told["corrections"] = {"pairs": len(found.pairs), "tokens": options.train.max_tokens}
    how = PreferenceOptions(AdapterOptions(options.train, options.lora, told))
    llm = LocalLLM(str(about["base"]))
    to = folder / "corrected"
    train_preferences(llm, found.pairs, to, how, start=adapter, on_progress=on_progress)
    after = _share_right(name, trained_planner(definition, to / "adapter"), options)
    if after > before:
        install(to / "adapter", adapter)
    n_pairs = len(found.pairs)
    return Corrected(found.n_steps, found.n_wrong, n_pairs, before, after, after > before)


@dataclass(slots=True)
class _Found:
    n_steps: int
    n_wrong: int
    pairs: list[Preference]


def _pairs(name: str, folder: Path, options: Correcting, on_question: OnQuestion) -> _Found:
    weights = file_digest(folder / "adapter" / "adapter_model.safetensors")
    parts = (options.n_questions, options.n_samples, options.seed, weights)
    key, file = text_digest(repr(parts)), folder / "pairs.json"
    if file.is_file() and json.loads(file.read_text("utf-8"))["key"] == key:
        kept = json.loads(file.read_text("utf-8"))
        pairs = [Preference(*(tuple(part) for part in pair)) for pair in kept["pairs"]]
        return _Found(kept["n_steps"], kept["n_wrong"], pairs)
    definition = load_definition(name)
    # Other questions than the first stage learned from.
    asked = training_questions(default_path(), options.n_questions, seed=options.seed + 10_000)
    student = trained_planner(definition, folder / "adapter")
    corrector = Corrector(
        PerfectPlanner(asked), student, n_samples=options.n_samples, seed=options.seed
    )
    agent = load_agent(name, AgentOptions(llm=corrector))
    for n, question in enumerate(asked, start=1):
        agent.run(question.text)
        on_question(n, len(asked))
    found = _Found(corrector.n_steps, corrector.n_wrong, corrector.pairs)
    plain = {"key": key, **asdict(found)}
    plain["pairs"] = [[pair.prompt, pair.chosen, pair.rejected] for pair in found.pairs]
    replace_text(file, json.dumps(plain))
    return found


def _share_right(name: str, planner: Planner, options: Correcting) -> float:
    asked: Sequence[Question] = training_questions(
        default_path(), options.n_dev, seed=options.seed, split="dev"
    )
    agent = load_agent(name, AgentOptions(llm=planner, limits=_LIMITS))
    right = [judge(question, agent.run(question.text)).correct for question in asked]
    return sum(right) / len(right)
