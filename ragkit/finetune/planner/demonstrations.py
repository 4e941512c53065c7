"""Demonstrations for a planner: correct runs, made from the agent's own data and tools."""

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

from ragkit.agents.definition import RULES, AgentDefinition, AgentOptions, load_agent
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.planner import system_prompt, tools_digest
from ragkit.agents.trained import SECTION
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.errors import RagkitError
from ragkit.evaluation.materials.oracle import OraclePlanner
from ragkit.evaluation.materials.question import MaterialsQuestion
from ragkit.evaluation.materials.scoring import judge
from ragkit.evaluation.materials.words import PHRASINGS
from ragkit.evaluation.splits import Split
from ragkit.finetune.dialogues import Dialogue
from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.paraphrase import ParaphraseOptions, paraphrases
from ragkit.finetune.planner.questions import follow_ups, training_questions
from ragkit.finetune.planner.recorder import Recorder
from ragkit.llms.adapters import base_fingerprint
from ragkit.llms.local import LocalLLM
from ragkit.losses import report
from ragkit.types import Loss, Message

if TYPE_CHECKING:
    from ragkit.types import LLM

VERSION = 1
"""Version of questions, plans, tools and scoring. Raise it when a change would alter a cached
demonstration, a correction or a score of the gate."""

OnQuestion = Callable[[int, int], None]
"""Called with (questions done, questions in all)."""


@dataclass(frozen=True, slots=True)
class DemonstrationConfig:
    """Which demonstrations to make.

    Attributes:
        n_questions: Number of questions, over all kinds.
        first_share: Share of the runs of one call of which only the call is learned: there the
            question is read, and it costs a third of a run. Runs of more calls are learned to their
            end, or the second call is forgotten.
        team_share: Share of the questions that a supervisor and assistants answer.
        n_follow_ups: Number of further questions in a chat, about the material of the turn before.
        n_paraphrased: Number of questions that are also asked in the model's own words, if it
            finds any.
        seed: Seed of the questions.
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
    """Correct runs.

    Attributes:
        dialogues: In random order.
        prompts: System message of each set of tools they were made with, by
            `ragkit.agents.planner.tools_digest`.
    """

    dialogues: list[Dialogue]
    prompts: dict[str, str]


def demonstrations(
    definition: AgentDefinition,
    config: DemonstrationConfig,
    folder: Path,
    split: Split,
    llm: LLM | None = None,
    on_question: OnQuestion = lambda done, total: None,
) -> Demonstrations:
    """Make correct runs as dialogues, or load them from the cache `folder/<split>.jsonl`.

    A run with a wrong end is left out, with a `Loss`.

    Args:
        definition: Definition of the agent.
        config: Which runs to make.
        folder: Folder of the cache.
        split: Split of the materials that are asked about.
        llm: Paraphrases questions; None makes no paraphrases.
        on_question: Called with (questions done, questions in all) after each.

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
        config, split, "" if llm is None else _identity(llm), prompt, tools_digest(tools),
        file_digest(default_path()), VERSION,
    )  # fmt: skip
    file, key = folder / f"{split}.jsonl", text_digest(repr(parts))
    found = _read(file, key)
    if found is None:
        found = _demonstrated(definition, config, folder, split, llm, on_question)
        _write(file, key, found)
    return found


def _demonstrated(
    definition: AgentDefinition,
    config: DemonstrationConfig,
    folder: Path,
    split: Split,
    llm: LLM | None,
    on_question: OnQuestion,
) -> Demonstrations:
    questions = training_questions(
        default_path(), config.n_questions, seed=config.seed, split=split
    )
    n_team = round(config.team_share * len(questions))
    if llm is not None:
        # the first ones, since questions come in random order
        questions += in_other_words(llm, questions[: config.n_paraphrased], folder, config.seed)
    recorder = Recorder(OraclePlanner(questions), definition.prompts[SECTION])
    found: list[Dialogue] = []
    n_wrong = 0
    for n, dialogues, right in _runs(definition, questions, n_team, recorder):
        n_wrong += not right
        found += dialogues if right else []
        on_question(n, len(questions))
    for first, second in follow_ups(default_path(), config.n_follow_ups, config.seed, split):
        dialogues, right = _follow_up(definition, first, second, recorder)
        n_wrong += not right
        found += dialogues if right else []
    if n_wrong:
        what = f"{n_wrong} demonstrations that do not end right"
        report(Loss("training", what, str(n_wrong), str(len(questions) - n_wrong), "left out"))
    draws = random.Random(config.seed)
    cut = [_first_action(each) if _has_one_call(each) and draws.random() < config.first_share
           else each for each in found]  # fmt: skip
    return Demonstrations(cut, dict(recorder.prompts))


def in_other_words(
    llm: LLM, questions: Sequence[MaterialsQuestion], folder: Path, seed: int = 0
) -> list[MaterialsQuestion]:
    """Paraphrase questions by the model; keep those that the rules still answer correctly.

    The others are reported as a `Loss`. Paraphrases are cached in `folder/paraphrases.jsonl`.
    """
    rules = load_agent("materials", AgentOptions(llm=RULES))

    def is_consistent(place: int, text: str) -> bool:
        question = questions[place]
        same = _names(text) == _names(question.text)
        ours = not any(each.fullmatch(text) for each in _benchmark_wordings())
        return same and ours and judge(question, rules.run(text)).correct

    texts = [question.text for question in questions]
    job = text_digest(repr((_identity(llm), VERSION, seed, texts)))
    written = JsonlCache(folder / "paraphrases.jsonl", job)
    found, tally = paraphrases(
        llm, texts, is_consistent, ParaphraseOptions(seed=seed), cache=written
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
    """Count formulas, ids and numbers, which a paraphrase must keep."""
    words = [word.strip(".,;:?!\"'") for word in text.split()]
    return Counter(
        word for word in words if any(map(str.isdigit, word)) or sum(map(str.isupper, word)) > 1
    )


def _identity(llm: LLM) -> str:
    return base_fingerprint(llm.name) if isinstance(llm, LocalLLM) else llm.name


@cache
def _benchmark_wordings() -> list[re.Pattern[str]]:
    """Compile the benchmark's phrasings to patterns that match anything in their slots."""
    every = [phrasing for each in PHRASINGS.values() for phrasing in each]
    parts = [re.split(r"\{\w+\}", phrasing) for phrasing in every]
    return [re.compile(".+".join(map(re.escape, each)), re.IGNORECASE) for each in parts]


def _runs(
    definition: AgentDefinition,
    questions: Sequence[MaterialsQuestion],
    n_team: int,
    recorder: Recorder,
) -> Iterator[tuple[int, list[Dialogue], bool]]:
    """Yield (number, dialogues, correct) of each question; the first ones run as a team."""
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
    definition: AgentDefinition,
    first: MaterialsQuestion,
    second: MaterialsQuestion,
    recorder: Recorder,
) -> tuple[list[Dialogue], bool]:
    """Ask the second question in a chat after the first; return its dialogues, and if correct."""
    planner = Recorder(OraclePlanner([second]), recorder.role)
    agent = load_agent(definition.name, AgentOptions(llm=planner))
    known = load_agent(definition.name, AgentOptions(llm=OraclePlanner([first])))
    history = [(first.text, known.run(first.text).text)]
    run = agent.run(second.text, history=history)
    tasks = [Dialogue(each.messages, "follow-up") for each in planner.dialogues]
    return tasks, judge(second, run).correct


def _has_one_call(dialogue: Dialogue) -> bool:
    """Return True if the run has one call and the answer."""
    return sum(message.role == "assistant" for message in dialogue.messages) <= 2


def _first_action(dialogue: Dialogue) -> Dialogue:
    roles = [message.role for message in dialogue.messages]
    return Dialogue(dialogue.messages[: roles.index("assistant") + 1], dialogue.task)


def _write(file: Path, key: str, made: Demonstrations) -> None:
    lines = [json.dumps({"key": key, "prompts": made.prompts})]
    lines += map(dialogue_text, made.dialogues)
    replace_text(file, "\n".join(lines) + "\n")


def _read(file: Path, key: str) -> Demonstrations | None:
    """Load a cache file; None if it is missing or made with another key."""
    if not file.is_file():
        return None
    first, *rest = file.read_text("utf-8").splitlines()
    head = json.loads(first)
    if head["key"] != key:
        return None
    return Demonstrations(list(map(dialogue_of, rest)), dict(head["prompts"]))


def dialogue_text(dialogue: Dialogue) -> str:
    """Serialise a dialogue as a line of JSON."""
    said = [[message.role, message.content] for message in dialogue.messages]
    return json.dumps({"task": dialogue.task, "messages": said}, ensure_ascii=False)


def dialogue_of(text: str) -> Dialogue:
    """Parse such a line."""
    plain = json.loads(text)
    messages = tuple(Message(role, content) for role, content in plain["messages"])
    return Dialogue(messages, plain["task"])
