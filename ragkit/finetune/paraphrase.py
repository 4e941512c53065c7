"""Other words for a question, by the model itself, and what of it can be used.

Source: SELF-GUIDE (SYSTEMS B4): the student writes its own data, few-shot and at a raised
temperature; noise words and lengths beyond two standard deviations are left out. Added: a check
that the paraphrase asks for the same, which is the caller's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragkit.types import ChatOptions, Message

if TYPE_CHECKING:
    from ragkit.finetune.jsonl_cache import KeptLines
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
    """How paraphrases are drawn.

    Attributes:
        temperature: Of the model.
        seed: Each text has its own, derived from it.
    """

    temperature: float = 0.8
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """What became of the paraphrases, by the first check each failed."""

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
    kept: KeptLines | None = None,
) -> tuple[dict[int, str], Tally]:
    """One paraphrase for some of the texts, by their place, and what became of all.

    Args:
        llm: Writes them.
        texts: What is asked.
        is_consistent: (place, paraphrase) to whether it asks for the same as the text there.
        options: See `ParaphraseOptions`.
        kept: What the model wrote is kept there, text by text.
    """
    shots = [
        message
        for text, other in _EXAMPLES
        for message in (Message("user", _ASK.format(text)), Message("assistant", other))
    ]
    low, high = usual_ratios(_EXAMPLES)
    found: dict[int, str] = {}
    tally = Tally()
    for i, text in enumerate(texts):
        how = ChatOptions(
            max_tokens=60, temperature=options.temperature, seed=options.seed + i, stop=("\n",)
        )
        asked = [*shots, Message("user", _ASK.format(text))]

        def say(asked: list[Message] = asked, how: ChatOptions = how) -> str:
            return llm.chat([asked], how)[0].text

        reply = say() if kept is None else kept.get(str(i), say)
        written = " ".join(reply.split()).strip("\"'")
        tally.asked += 1
        if not written or _NOISE.search(written):
            tally.noise += 1
        elif not low <= len(written) / len(text) <= high:
            tally.length += 1
        elif _bare(written) == _bare(text):
            tally.same += 1
        elif not is_consistent(i, written):
            tally.inconsistent += 1
        else:
            tally.kept += 1
            found[i] = written
    return found, tally


def usual_ratios(pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Mean minus and plus two standard deviations of the lengths' ratio.

    >>> usual_ratios([("ab", "ab"), ("ab", "abab")])
    (0.5, 2.5)
    """
    ratios = [len(other) / len(text) for text, other in pairs]
    mean = math.fsum(ratios) / len(ratios)
    spread = 2 * math.sqrt(math.fsum((each - mean) ** 2 for each in ratios) / len(ratios))
    return mean - spread, mean + spread


def _bare(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()
