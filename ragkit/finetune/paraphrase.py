"""Paraphrases of questions, written by the model itself, and filters for usable ones.

Source: SELF-GUIDE (Zhao et al. 2024): the student model writes its own data, few-shot and at a
raised temperature; outputs with noise words, or with lengths beyond two standard deviations, are
dropped. Added: a check by the caller that the paraphrase asks the same question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragkit.types import ChatOptions, Message

if TYPE_CHECKING:
    from ragkit.finetune.jsonl_cache import JsonlCache
    from ragkit.types import LLM

_EXAMPLES = (
    ("I would like to know the gap of MgO.", "How wide might the gap of MgO be?"),
    ("mp-149: in which group is it?", "In what group can mp-149 be found?"),
    ("Give me the total of oxides whose index exceeds 2.",
     "Of the oxides, how many are there with an index over 2?"),
    ("Name the stiffest of all nitrides.", "Which one among the nitrides is the stiffest?"),
    ("Do NaCl and KCl differ in volume?", "Is there a difference in volume from NaCl to KCl?"),
)  # fmt: skip
_ASK = "Say this in other words, in one sentence. Keep all names and numbers.\n{}"
_NOISE = re.compile(
    r"\b(sorry|cannot|can't|as an ai|language model|rewrit\w*|rephras\w*|other words|paraphras\w*|"
    r"here is|here's|sure|note that)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ParaphraseOptions:
    """Sampling settings.

    Attributes:
        temperature: Sampling temperature.
        seed: Base seed; each text has its own, derived from it.
    """

    temperature: float = 0.8
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of paraphrases by the first check they failed."""

    asked: int = 0
    noise: int = 0
    length: int = 0
    same: int = 0
    inconsistent: int = 0
    kept: int = 0


def paraphrases(
    llm: LLM,
    texts: Sequence[str],
    is_consistent: Callable[[int, str], bool],
    options: ParaphraseOptions = ParaphraseOptions(),
    *,
    cache: JsonlCache | None = None,
) -> tuple[dict[int, str], Tally]:
    """Return one paraphrase each for some of the texts, by index, and the counts of all outcomes.

    Args:
        llm: Model that writes the paraphrases.
        texts: The questions.
        is_consistent: Takes (index, paraphrase); returns True if it asks the same as that text.
        options: See `ParaphraseOptions`.
        cache: Cache for the model's replies, by index.
    """
    shots = [
        message
        for text, other in _EXAMPLES
        for message in (Message("user", _ASK.format(text)), Message("assistant", other))
    ]
    low, high = length_ratio_bounds(_EXAMPLES)
    accepted: dict[int, str] = {}
    tally = Tally()
    for i, text in enumerate(texts):
        settings = ChatOptions(
            max_tokens=60, temperature=options.temperature, seed=options.seed + i, stop=("\n",)
        )
        messages = [*shots, Message("user", _ASK.format(text))]

        def generate(messages: list[Message] = messages, settings: ChatOptions = settings) -> str:
            return llm.chat([messages], settings)[0].text

        reply = generate() if cache is None else cache.get(str(i), generate)
        paraphrase = " ".join(reply.split()).strip("\"'")
        tally.asked += 1
        if not paraphrase or _NOISE.search(paraphrase):
            tally.noise += 1
        elif not low <= len(paraphrase) / len(text) <= high:
            tally.length += 1
        elif _normalized(paraphrase) == _normalized(text):
            tally.same += 1
        elif not is_consistent(i, paraphrase):
            tally.inconsistent += 1
        else:
            tally.kept += 1
            accepted[i] = paraphrase
    return accepted, tally


def length_ratio_bounds(pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Return the mean length ratio minus and plus two standard deviations.

    >>> length_ratio_bounds([("ab", "ab"), ("ab", "abab")])
    (0.5, 2.5)
    """
    ratios = [len(other) / len(text) for text, other in pairs]
    mean = math.fsum(ratios) / len(ratios)
    spread = 2 * math.sqrt(math.fsum((ratio - mean) ** 2 for ratio in ratios) / len(ratios))
    return mean - spread, mean + spread


def _normalized(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()
