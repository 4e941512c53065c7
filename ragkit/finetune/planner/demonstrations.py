"""What an agent's planner learns from: right runs, made from the agent's own data and tools."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.agents import materials
from ragkit.agents.definition import RULES, AgentDefinition, AgentOptions, load_agent
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.planner import system_prompt, tools_digest
from ragkit.agents.trained import SECTION
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.errors import RagkitError
from ragkit.evaluation.materials.oracle import PerfectPlanner
from ragkit.evaluation.materials.question import Question
from ragkit.evaluation.materials.scoring import judge
from ragkit.evaluation.materials.words import PHRASINGS
from ragkit.evaluation.splits import Split
from ragkit.finetune.dialogues import Dialogue
from ragkit.finetune.jsonl_cache import KeptLines
from ragkit.finetune.paraphrase import ParaphraseOptions, paraphrases
from ragkit.finetune.planner.questions import follow_ups, training_questions
from ragkit.finetune.planner.recorder import Recorder
from ragkit.llms.adapters import base_fingerprint
from ragkit.llms.local import LocalLLM
from ragkit.losses import report
from ragkit.types import Loss, Message

if TYPE_CHECKING:
    from ragkit.types import LLM

OnQuestion = Callable[[int, int], None]
"""(questions done, questions in all)."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What demonstrations are made.

    Attributes:
        n_questions: Of which each kind has its share.
        first_share: Of so many runs of one call only that call is learned: it is where questions
            are read, and costs a third of a whole run. Runs of more calls are learned to their end,
            or the second call is forgotten.
        team_share: So many are answered by a supervisor and assistants.
        n_follow_ups: So many questions more are asked in a chat, about the material of the question
            before.
        n_paraphrased: So many questions are also asked in the model's own words, if it finds some.
        seed: Draws other questions.
    """

    n_questions: int = 6000
    first_share: float = 0.5
    team_share: float = 0.2
    n_follow_ups: int = 150
    n_paraphrased: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.first_share, self.team_share
        if (
            self.n_questions < 20
            or self.n_paraphrased < 0
            or not all(0 <= each <= 1 for each in shares)
        ):
            raise ValueError(
                f"n_questions is {self.n_questions}, the shares are {shares}; expected at least 20 "
                "and numbers from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Right runs.

    Attributes:
        dialogues: In random order.
        tools: Digests of the tools they were made with, see `ragkit.agents.planner.tools_digest`.
    """

    dialogues: list[Dialogue]
    tools: frozenset[str]


def demonstrations(
    definition: AgentDefinition,
    lessons: Lessons,
    folder: Path,
    split: Split,
    llm: LLM | None = None,
    on_question: OnQuestion = lambda done, total: None,
) -> Demonstrations:
    """Right runs as dialogues, from `folder/<split>.jsonl` if it holds those of the same lessons.

    A run that does not end right is left out, with a `Loss`.

    Args:
        definition: The agent's.
        lessons: What is made.
        folder: Where they are kept.
        split: Whose materials are asked about.
        llm: Paraphrases questions; None leaves that out.
        on_question: (questions done, questions in all), after each.

    Raises:
        RagkitError: No questions are known for the agent, or it has no short prompt.
    """
    if "materials" not in definition.toolkits or SECTION not in definition.prompts:
        raise RagkitError(
            f"the agent {definition.name!r} cannot be trained: questions are known for the "
            f"materials tools only, and its Markdown file needs a section '## {SECTION}'"
        )
    tools = load_agent(definition.name, AgentOptions(llm=RULES)).offered
    prompt = system_prompt(definition.prompts[SECTION], tools, "short")
    parts = (
        lessons, split, "" if llm is None else _identity(llm), definition.model_dump(),
        tools_digest(prompt, tools), file_digest(default_path()), sources(),
    )  # fmt: skip
    file, key = folder / f"{split}.jsonl", text_digest(repr(parts))
    found = _read(file, key)
    if found is None:
        found = _demonstrated(definition, lessons, folder, split, llm, on_question)
        _write(file, key, found)
    return found


def sources() -> str:
    """A digest of the code that questions and their runs depend on."""
    files = sorted(Path(materials.__file__).parent.glob("*.py"))
    return text_digest("".join(map(file_digest, [*files, Path(__file__)])))


def _demonstrated(
    definition: AgentDefinition, lessons: Lessons, folder: Path, split: Split, llm: LLM | None,
    on_question: OnQuestion,
) -> Demonstrations:  # fmt: skip
    questions = training_questions(
        default_path(), lessons.n_questions, seed=lessons.seed, split=split
    )
    n_team = round(lessons.team_share * len(questions))
    if llm is not None:
        # the first ones, since questions come in random order
        questions += in_other_words(llm, questions[: lessons.n_paraphrased], folder, lessons.seed)
    recorder = Recorder(PerfectPlanner(questions), definition.prompts[SECTION])
    found: list[Dialogue] = []
    n_wrong = 0
    for n, dialogues, right in _runs(definition, questions, n_team, recorder):
        n_wrong += not right
        found += dialogues if right else []
        on_question(n, len(questions))
    for first, second in follow_ups(default_path(), lessons.n_follow_ups, lessons.seed, split):
        dialogues, right = _follow_up(definition, first, second, recorder)
        n_wrong += not right
        found += dialogues if right else []
    if n_wrong:
        what = f"{n_wrong} demonstrations that do not end right"
        report(Loss("training", what, str(n_wrong), str(len(questions) - n_wrong), "left out"))
    draws = random.Random(lessons.seed)
    cut = [_first_action(each) if _has_one_call(each) and draws.random() < lessons.first_share
           else each for each in found]  # fmt: skip
    return Demonstrations(cut, frozenset(recorder.tools))


def in_other_words(
    llm: LLM, questions: Sequence[Question], folder: Path, seed: int = 0
) -> list[Question]:
    """Questions as the model says them, where the planner without a model still gets them right.

    What becomes of the others is reported as a `Loss`. Each is kept in `folder/paraphrases.jsonl`.
    """
    rules = load_agent("materials", AgentOptions(llm=RULES))

    def is_consistent(place: int, text: str) -> bool:
        question = questions[place]
        same = _names(text) == _names(question.text)
        ours = not any(each.fullmatch(text) for each in _benchmark_wordings())
        return same and ours and judge(question, rules.run(text)).correct

    texts = [question.text for question in questions]
    job = text_digest(repr((_identity(llm), sources(), seed, texts)))
    written = KeptLines(folder / "paraphrases.jsonl", job)
    found, tally = paraphrases(
        llm, texts, is_consistent, ParaphraseOptions(seed=seed), kept=written
    )
    if tally.kept < tally.asked:
        lost = tally.asked - tally.kept
        why = (
            f"{tally.noise} were noise, {tally.length} of another length, {tally.same} the same, "
            f"{tally.inconsistent} asked for something else"
        )
        report(Loss("training", "paraphrases", str(lost), str(tally.kept), why))
    return [replace(questions[i], text=text) for i, text in found.items()]


def _names(text: str) -> Counter[str]:
    """Formulas, ids and numbers: what a paraphrase must keep."""
    words = [word.strip(".,;:?!\"'") for word in text.split()]
    return Counter(
        word for word in words if any(map(str.isdigit, word)) or sum(map(str.isupper, word)) > 1
    )


def _identity(llm: LLM) -> str:
    return base_fingerprint(llm.name) if isinstance(llm, LocalLLM) else llm.name


@cache
def _benchmark_wordings() -> list[re.Pattern[str]]:
    """The benchmark's phrasings, with anything in their slots."""
    every = [phrasing for each in PHRASINGS.values() for phrasing in each]
    parts = [re.split(r"\{\w+\}", phrasing) for phrasing in every]
    return [re.compile(".+".join(map(re.escape, each)), re.IGNORECASE) for each in parts]


def _runs(
    definition: AgentDefinition, questions: Sequence[Question], n_team: int, recorder: Recorder
) -> Iterator[tuple[int, list[Dialogue], bool]]:
    """(number, dialogues, whether it ended right) of each question; the first ones as a team."""
    agents = {
        team: load_agent(definition.name, AgentOptions(llm=recorder, team=team))
        for team in (True, False)
    }
    for n, question in enumerate(questions):
        recorder.dialogues.clear()
        run = agents[n < n_team].run(question.text)
        tasks = [Dialogue(each.messages, question.kind) for each in recorder.dialogues]
        yield n + 1, tasks, judge(question, run).correct


def _follow_up(
    definition: AgentDefinition, first: Question, second: Question, recorder: Recorder
) -> tuple[list[Dialogue], bool]:
    """The second question in a chat after the first: its dialogues, and whether it ended right."""
    planner = Recorder(PerfectPlanner([second]), recorder.role)
    agent = load_agent(definition.name, AgentOptions(llm=planner))
    known = load_agent(definition.name, AgentOptions(llm=PerfectPlanner([first])))
    history = [(first.text, known.run(first.text).text)]
    run = agent.run(second.text, history=history)
    tasks = [Dialogue(each.messages, "follow-up") for each in planner.dialogues]
    return tasks, judge(second, run).correct


def _has_one_call(dialogue: Dialogue) -> bool:
    """Whether what follows the first call is the answer."""
    return sum(message.role == "assistant" for message in dialogue.messages) <= 2


def _first_action(dialogue: Dialogue) -> Dialogue:
    roles = [message.role for message in dialogue.messages]
    return Dialogue(dialogue.messages[: roles.index("assistant") + 1], dialogue.task)


def _write(file: Path, key: str, made: Demonstrations) -> None:
    lines = [json.dumps({"key": key, "tools": sorted(made.tools)})]
    lines += map(dialogue_text, made.dialogues)
    replace_text(file, "\n".join(lines) + "\n")


def _read(file: Path, key: str) -> Demonstrations | None:
    """What a file holds; None if it is of other lessons, or none."""
    if not file.is_file():
        return None
    first, *rest = file.read_text("utf-8").splitlines()
    head = json.loads(first)
    if head["key"] != key:
        return None
    return Demonstrations(list(map(dialogue_of, rest)), frozenset(head["tools"]))


def dialogue_text(dialogue: Dialogue) -> str:
    """A dialogue as a line of JSON."""
    said = [[message.role, message.content] for message in dialogue.messages]
    return json.dumps({"task": dialogue.task, "messages": said}, ensure_ascii=False)


def dialogue_of(text: str) -> Dialogue:
    """A dialogue from such a line."""
    plain = json.loads(text)
    messages = tuple(Message(role, content) for role, content in plain["messages"])
    return Dialogue(messages, plain["task"])
