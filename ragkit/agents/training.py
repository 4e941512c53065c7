"""Training the planner of an agent: demonstrations, an adapter, and its place.

Source: supervised warm-up on synthetic tool calls after iTool (SYSTEMS B3); the loss is on actions
only. Deviation: plans come from the benchmark's makers, not from a larger model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.agents.definition import AgentDefinition, AgentOptions, load_agent, load_definition
from ragkit.agents.demonstrations import Recorder
from ragkit.agents.materials.perfect import PerfectPlanner
from ragkit.agents.materials.question_types import Question
from ragkit.agents.materials.scoring import judge
from ragkit.agents.materials.snapshot import default_path
from ragkit.agents.materials.training_kinds import training_questions
from ragkit.agents.trained import SECTION, TASK
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.errors import RagkitError
from ragkit.evaluation.splits import Split
from ragkit.finetune.general import replayed
from ragkit.finetune.loop import TrainOptions, TrainProgress, TrainReport
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.supervised import AdapterOptions, train_adapter
from ragkit.finetune.synth import Dialogue, DialogueTargets
from ragkit.losses import report
from ragkit.types import Loss, Message

if TYPE_CHECKING:
    pass

_REPLAYS = 3  # how often each plain answer of its own is learned in an epoch
OnDemonstration = Callable[[int, int], None]
"""(questions done, questions in all)."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What demonstrations are made.

    Attributes:
        n_questions: Of which each kind has its share.
        first_share: Of so many only the first action is learned: it is where questions are read,
            and costs a third of a whole run.
        team_share: So many are answered by a supervisor and assistants.
        seed: Draws other questions.
    """

    n_questions: int = 6000
    first_share: float = 0.5
    team_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.first_share, self.team_share
        if self.n_questions < 20 or not all(0 <= each <= 1 for each in shares):
            raise ValueError(
                f"n_questions is {self.n_questions}, the shares are {shares}; expected at least 20 "
                "and numbers from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class AgentTraining:
    """How an agent's planner is trained.

    Attributes:
        train: Budget, rates and seed.
        lora: The adapter's size.
        lessons: What it learns from.
        n_dev: Questions that the development loss is taken on.
        base: The model, a name for `ragkit.models.resolve`.
    """

    train: TrainOptions = field(default_factory=lambda: TrainOptions(learning_rate=1e-3))
    lora: LoraOptions = field(default_factory=LoraOptions)
    lessons: Lessons = field(default_factory=Lessons)
    n_dev: int = 120
    base: str = "smollm2"


def train_agent(
    name: str,
    folder: Path,
    options: AgentTraining,
    *,
    on_demonstration: OnDemonstration = lambda done, total: None,
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
    dev_lessons = Lessons(max(20, options.n_dev), 0.0, lessons.team_share, lessons.seed + 1)
    learned = demonstrations(definition, lessons, folder / "train.jsonl", "train", on_demonstration)
    held = demonstrations(definition, dev_lessons, folder / "dev.jsonl", "dev", on_demonstration)
    llm = LocalLLM(options.base)
    plain = _kept(folder / "replay.jsonl", options.base, lambda: replayed(llm)) * _REPLAYS
    targets = DialogueTargets(llm, [*learned, *plain], seed=options.train.seed)
    dev = DialogueTargets(llm, held).epoch(0)
    about = {
        "task": TASK,
        "agent": definition.name,
        "prompts": sorted({text_digest(each.system) for each in learned}),
        "data": f"{len(learned)} dialogues over the materials snapshot (CC BY 4.0)",
        "snapshot": file_digest(default_path()),
        "lessons": asdict(lessons),
        "tokens": options.train.max_tokens,
        "seed": options.train.seed,
    }
    how = AdapterOptions(options.train, options.lora, about)
    return train_adapter(llm, targets, folder, how, dev=dev, on_progress=on_progress)


def demonstrations(
    definition: AgentDefinition,
    lessons: Lessons,
    file: Path,
    split: Split,
    on_demonstration: OnDemonstration = lambda done, total: None,
) -> list[Dialogue]:
    """Right runs as dialogues, from a file if it holds those of the same lessons.

    A run that does not end right is left out, with a `Loss`.

    Raises:
        RagkitError: No questions are known for the agent, or it has no short prompt.
    """
    key = text_digest(repr((lessons, split, definition.model_dump(), file_digest(default_path()))))
    return _kept(file, key, lambda: _demonstrated(definition, lessons, split, on_demonstration))


def _demonstrated(
    definition: AgentDefinition, lessons: Lessons, split: Split, on_demonstration: OnDemonstration
) -> list[Dialogue]:
    if "materials" not in definition.toolkits or SECTION not in definition.prompts:
        raise RagkitError(
            f"the agent {definition.name!r} cannot be trained: questions are known for the "
            f"materials tools only, and its Markdown file needs a section '## {SECTION}'"
        )
    questions = training_questions(
        default_path(), lessons.n_questions, seed=lessons.seed, split=split
    )
    n_team = round(lessons.team_share * len(questions))
    found: list[Dialogue] = []
    n_wrong = 0
    for n, dialogues, right in _runs(definition, questions, n_team):
        n_wrong += not right
        found += dialogues if right else []
        on_demonstration(n, len(questions))
    if n_wrong:
        what = f"{n_wrong} demonstrations that do not end right"
        report(Loss("training", what, str(n_wrong), str(len(questions) - n_wrong), "left out"))
    draws = random.Random(lessons.seed)
    return [_first_action(each) if draws.random() < lessons.first_share else each for each in found]


def _runs(
    definition: AgentDefinition, questions: Sequence[Question], n_team: int
) -> Iterator[tuple[int, list[Dialogue], bool]]:
    """(number, dialogues, whether it ended right) of each question; the first ones as a team."""
    recorder = Recorder(PerfectPlanner(questions), definition.prompts[SECTION])
    agents = {
        team: load_agent(definition.name, AgentOptions(llm=recorder, team=team))
        for team in (True, False)
    }
    for n, question in enumerate(questions):
        recorder.dialogues.clear()
        run = agents[n < n_team].run(question.text)
        tasks = [Dialogue(each.messages, question.kind) for each in recorder.dialogues]
        yield n + 1, tasks, judge(question, run).correct


def _first_action(dialogue: Dialogue) -> Dialogue:
    roles = [message.role for message in dialogue.messages]
    return Dialogue(dialogue.messages[: roles.index("assistant") + 1], dialogue.task)


def _kept(file: Path, key: str, make: Callable[[], list[Dialogue]]) -> list[Dialogue]:
    """The file's dialogues if they were made for this key; else they are made and written."""
    found = _read(file, key)
    if found is None:
        found = make()
        _write(file, key, found)
    return found


def _write(file: Path, key: str, dialogues: Iterable[Dialogue]) -> None:
    lines = [json.dumps({"key": key})]
    for each in dialogues:
        said = [[message.role, message.content] for message in each.messages]
        lines.append(json.dumps({"task": each.task, "messages": said}, ensure_ascii=False))
    replace_text(file, "\n".join(lines) + "\n")


def _read(file: Path, key: str) -> list[Dialogue] | None:
    """The dialogues of a file; None if it is of other lessons, or none."""
    if not file.is_file():
        return None
    first, *rest = file.read_text("utf-8").splitlines()
    if json.loads(first) != {"key": key}:
        return None
    return [_dialogue(json.loads(line)) for line in rest]


def _dialogue(plain: Mapping[str, Any]) -> Dialogue:
    messages = tuple(Message(role, content) for role, content in plain["messages"])
    return Dialogue(messages, plain["task"])
