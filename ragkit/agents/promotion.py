"""From a trained adapter to one that is used: tested against the model without it, with a card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.materials.questions import KINDS, Question, generate
from ragkit.agents.materials.scoring import judge
from ragkit.agents.materials.snapshot import default_path
from ragkit.agents.planner import LLMPlanner
from ragkit.agents.react import ReAct
from ragkit.agents.trained import SECTION, trained_planner
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.finetune.gate import GateReport, Scores, judge_adapter
from ragkit.finetune.general import GENERAL, Plain, general_scores
from ragkit.llms.adapters import read_about

if TYPE_CHECKING:
    from ragkit.types import LLM

OnQuestion = Callable[[int, int], None]
"""(questions done, questions in all)."""

_LIMITS = {"max_steps": 6, "max_seconds": 60}


def promote(
    name: str,
    folder: Path,
    *,
    n_questions: int = 120,
    seed: int = 0,
    on_question: OnQuestion = lambda done, total: None,
) -> GateReport:
    """Test `folder/adapter` and write its card, `README.md`; the same call goes on after a stop.

    Questions are of the test split: materials and wordings that training never saw. The untrained
    model is asked with the short prompt, too.

    Args:
        name: Of the agent.
        folder: Where it was trained; gets `gate.jsonl` with each question's score.
        n_questions: Rounded up to as many of each kind.
        seed: Draws other questions.
        on_question: Called after each.

    Raises:
        ModelError: There is no adapter, or it is for another agent.
    """
    from ragkit.llms.local import LocalLLM

    definition = load_definition(name)
    adapter = folder / "adapter"
    base = str(read_about(adapter)["base"])
    each = -(-n_questions // len(KINDS))
    questions = generate(default_path(), each, seed=seed)
    total = 2 * (len(questions) + len(GENERAL))
    weights = file_digest(adapter / "adapter_model.safetensors")
    kept = _Kept(folder / "gate.jsonl", on_question, total)
    untrained = LLMPlanner(LocalLLM(base), definition.prompts[SECTION], "short")
    planners = {
        "before": (base, untrained),
        "after": (weights, trained_planner(definition, adapter)),
    }
    task: dict[str, list[float]] = {}
    general: dict[str, list[float]] = {}
    for label, (who, planner) in planners.items():
        agent = load_agent(name, AgentOptions(llm=planner, limits=_LIMITS))
        task[label] = _answered(agent, questions, kept, who)
        general[label] = _plain(planner.llm, kept, who)
    report = judge_adapter(
        Scores("held-out questions", task["before"], task["after"]),
        Scores("the general set", general["before"], general["after"]),
    )
    replace_text(adapter / "README.md", card(read_about(adapter), report))
    return report


class _Kept:
    """Scores by key, in a file that grows."""

    def __init__(self, file: Path, on_question: OnQuestion, total: int) -> None:
        self._file, self._on_question, self._total = file, on_question, total
        self._scores: dict[str, float] = {}
        self._done = 0
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.is_file() else []
        for line in lines:
            if line.endswith("\n"):  # the last one may have been cut off
                key, score = json.loads(line)
                self._scores[key] = score
        replace_text(file, "".join(json.dumps(each) + "\n" for each in self._scores.items()))

    def get(self, parts: Sequence[str], make: Callable[[], float]) -> float:
        """A score, made now if it is not there."""
        key = text_digest(json.dumps(list(parts)))
        if key not in self._scores:
            self._scores[key] = make()
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([key, self._scores[key]]) + "\n")
        self._done += 1
        self._on_question(self._done, self._total)
        return self._scores[key]


def _answered(agent: ReAct, questions: Sequence[Question], kept: _Kept, who: str) -> list[float]:
    def score(question: Question) -> float:
        return float(judge(question, agent.run(question.text)).correct)

    return [kept.get([who, each.id, each.text], partial(score, each)) for each in questions]


def _plain(llm: LLM, kept: _Kept, who: str) -> list[float]:
    def score(question: Plain) -> float:
        return general_scores(llm, [question])[0]

    return [kept.get([who, "general", each.text], partial(score, each)) for each in GENERAL]


def card(about: dict[str, Any], report: GateReport) -> str:
    """What an adapter is, as Markdown: data, licences, recipe, seed and gain."""
    rows = "\n".join(
        f"| {each.name} | {each.n} | {each.before:.3f} ({each.before_interval[0]:.2f} to "
        f"{each.before_interval[1]:.2f}) | {each.after:.3f} ({each.after_interval[0]:.2f} to "
        f"{each.after_interval[1]:.2f}) | {each.p:.4f} |"
        for each in (report.task, report.general)
    )
    return f"""# Adapter of the agent {about["agent"]}

LoRA for `{about["base"]}` (fingerprint `{about["base_fingerprint"][:12]}`), trained by
`ragkit train agent {about["agent"]}` on {about["data"]}. Licence: Apache-2.0; the base's is
Apache-2.0. Recipe: loss on actions, {about["tokens"]:,} tokens, seed {about["seed"]},
lessons {json.dumps(about["lessons"])}.

{"Promoted" if report.promoted else "Not promoted"}: {report.why}.

| questions | n | without | with | p |
|---|---|---|---|---|
{rows}

Means with 95 % bootstrap intervals; paired permutation test. `ragkit.json` holds digests of the
prompts it was trained on: with other tools it is refused.
"""
