"""Promotion of a trained adapter: a test against the model without it, and a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit import __version__
from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.planner import LLMPlanner
from ragkit.agents.react import ReAct
from ragkit.agents.trained import SECTION, trained_planner
from ragkit.digests import file_digest, text_digest
from ragkit.durable import replace_text
from ragkit.evaluation.materials.questions import KINDS, MaterialsQuestion, generate
from ragkit.evaluation.materials.scoring import judge
from ragkit.finetune.gate import GateReport, Scores, judge_adapter
from ragkit.finetune.general import GENERAL, GeneralQuestion, general_scores
from ragkit.finetune.jsonl_cache import JsonlCache
from ragkit.finetune.planner.demonstrations import VERSION
from ragkit.llms.adapters import base_fingerprint, metadata_text, read_metadata

if TYPE_CHECKING:
    from ragkit.types import LLM

OnQuestion = Callable[[int, int], None]
"""Called with (questions done, questions in all)."""

# Steps and tokens, since a limit on seconds would make right and wrong depend on the machine.
_LIMITS = {"max_steps": 6, "max_tokens": 500, "max_seconds": 3600}
SEED = 1000
"""Seed of the gate's questions. The benchmark has other questions, so that no adapter is chosen on
them."""


def promote(
    name: str,
    folder: Path,
    *,
    n_questions: int = 120,
    on_question: OnQuestion = lambda done, total: None,
) -> GateReport:
    """Test `folder/adapter` and write its card, `README.md`; the same call resumes.

    Questions come from the test split: materials and phrasings that training never saw. The model
    without the adapter gets the same short prompt, so that the adapter alone is tested. The
    decision is written into `ragkit.json`: only a promoted adapter plans by default.

    Args:
        name: Name of the agent.
        folder: Folder of the training; scores are cached there, without the adapter in
            `gate-before.jsonl`, with it in `gate-after.jsonl`.
        n_questions: Number of questions, rounded up to equal numbers of each kind.
        on_question: Called after each question.

    Raises:
        ModelError: There is no adapter, or it is for another agent.
    """
    from ragkit.llms.load import load_fast_llm

    definition = load_definition(name)
    adapter = folder / "adapter"
    about = read_metadata(adapter)
    base = str(about["base"])
    questions = held_out_questions(n_questions)
    weights = file_digest(adapter / "adapter_model.safetensors")
    same = (
        base_fingerprint(base), about["tools"], file_digest(default_path()),
        [each.text for each in questions], GENERAL, VERSION, _LIMITS, __version__,
    )  # fmt: skip
    jobs = {"before": repr(same), "after": repr((weights, same))}  # other weights, the same before
    kept = {
        label: JsonlCache(folder / f"gate-{label}.jsonl", text_digest(job))
        for label, job in jobs.items()
    }
    untrained = LLMPlanner(load_fast_llm(base), definition.prompts[SECTION], "short")
    planners = {"before": untrained, "after": trained_planner(definition, adapter)}
    task: dict[str, list[float]] = {}
    general: dict[str, list[float]] = {}
    n_done, total = 0, 2 * (len(questions) + len(GENERAL))

    def told(score: Any) -> float:
        nonlocal n_done
        n_done += 1
        on_question(n_done, total)
        return float(score)

    for label, planner in planners.items():
        agent = load_agent(name, AgentOptions(llm=planner, limits=_LIMITS))
        task[label] = [
            told(kept[label].get(each.text, partial(_answered, agent, each))) for each in questions
        ]
        general[label] = [
            told(kept[label].get(f"general: {each.text}", partial(_plain, planner.llm, each)))
            for each in GENERAL
        ]
    report = judge_adapter(
        Scores("held-out questions", task["before"], task["after"]),
        Scores("the general set", general["before"], general["after"]),
    )
    about = about | {"promoted": report.promoted, "gate": report.why}
    replace_text(adapter / "ragkit.json", metadata_text(about))
    replace_text(adapter / "README.md", card(about, report))
    return report


def held_out_questions(n: int) -> list[MaterialsQuestion]:
    """Draw the gate's questions, in equal numbers of each kind.

    Raises:
        ValueError: The snapshot has not enough materials.
    """
    return generate(default_path(), -(-n // len(KINDS)), seed=SEED)


def _answered(agent: ReAct, question: MaterialsQuestion) -> float:
    return float(judge(question, agent.run(question.text)).correct)


def _plain(llm: LLM, question: GeneralQuestion) -> float:
    return general_scores(llm, [question])[0]


def card(about: dict[str, Any], report: GateReport) -> str:
    """Render an adapter's card as Markdown: data, licences, recipe, seed, cost and gain."""
    cost = about["cost"]
    start, before = "", about.get("start")
    while before:
        start += f"""It went on from an adapter that had learned from {before["data"]}
({before["cost"]["tokens"]:,} tokens, {before["cost"]["seconds"] / 60:.0f} minutes).
"""
        before = before.get("start")
    rows = "\n".join(
        f"| {each.name} | {each.n} | {each.before:.3f} ({each.before_interval[0]:.2f} to "
        f"{each.before_interval[1]:.2f}) | {each.after:.3f} ({each.after_interval[0]:.2f} to "
        f"{each.after_interval[1]:.2f}) | {each.p:.4f} |"
        for each in (report.task, report.general)
    )
    return f"""# Adapter of the agent {about["agent"]}

LoRA for `{about["base"]}` (fingerprint `{about["base_fingerprint"][:12]}`), trained by
`ragkit train agent {about["agent"]}` on {about["data"]}, whose values are attributed in the agent's
ATTRIBUTION.md. The base's licence is in its own card. Recipe: loss on actions, a budget of
{about["max_tokens"]:,} tokens, seed {about["seed"]},
demonstrations {json.dumps(about["demonstrations"])},
corrections {json.dumps(about.get("corrections"))}. It took {cost["tokens"]:,} tokens in
{cost["seconds"] / 60:.0f} minutes on {cost["hardware"]}.
{start}
{"Promoted" if report.promoted else "Not promoted"}: {report.why}.

| questions | n | without | with | p |
|---|---|---|---|---|
{rows}

Means with 95 % bootstrap intervals; paired permutation test; both with the short prompt.
`ragkit.json` holds the prompts and templates it was trained with, by the structure of the tools:
with other tools it is refused.
"""
