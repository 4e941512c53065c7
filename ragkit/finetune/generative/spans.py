"""SEAL's training targets: spans of a passage that look like its query, and its title.

Source: Bevilacqua et al. 2022 (SEAL) and its data preparation (SYSTEMS A3). Ours differs in the
unit: spans are counted in tokens of the model, ten as in decoding, where SEAL takes ten words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import require
from ragkit.retrievers.rows import Ngram

# Words no span begins with: English function words.
STOP_WORDS = frozenset(
    """
    a an the this that these those and or but nor so yet if then than as of at by for from in into
    on onto to with without within about above across after against along among around before behind
    below beneath beside between beyond during except inside near off out outside over past per
    since through throughout toward towards under until up upon via is am are was were be been being
    do does did done doing have has had having can could may might must shall should will would i me
    my we us our you your he him his she her it its they them their who whom whose which what when
    where why how not no also there here such both each either neither other another any some all
    most more much many few own same too very just only
    """.split()
)
_PUNCTUATION = ".,;:!?()[]\"'"


@dataclass(frozen=True, slots=True)
class Words:
    """A passage's words and the tokens each begins at.

    Attributes:
        words: Lower-cased.
        starts: int64 (words,): the first token of each.
    """

    words: tuple[str, ...]
    starts: NDArray[np.int64]


def words_of(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Words:
    """The words of a text: one begins at each token that decoding parts from the one before.

    Two tokens are decoded together, since many tokenizers (T5's) drop a space before the first.
    """

    def begins(at: int) -> bool:
        before = decode(tokens[at - 1 : at]) if at else ""
        return not at or decode(tokens[at - 1 : at + 1])[len(before) :][:1] == " "

    starts = [at for at in range(len(tokens)) if begins(at)]
    ends = [*starts[1:], len(tokens)]
    words = [decode(tokens[a:b]).strip().lower() for a, b in zip(starts, ends, strict=False)]
    return Words(tuple(words), np.array(starts, dtype=np.int64))


def start_scores(query: str, passage: Words) -> NDArray[np.float64]:
    """How much the three words from each word on look like the query: float64 (words,).

    The sum over the query's three-word windows of the fuzzy ratio (0 to 1) with the passage's.
    """
    fuzz: Any = require("rapidfuzz", extra="train")
    asked = _windows(query.lower().split())
    there = _windows(list(passage.words))
    ratios = fuzz.process.cdist(asked, there, scorer=fuzz.fuzz.ratio, workers=1)
    total: NDArray[np.float64] = np.asarray(ratios, dtype=np.float64).sum(0)  # (words,)
    return total / 100.0


def _windows(words: Sequence[str], n: int = 3) -> list[str]:
    """The n words from each word on; fewer at the end."""
    return [" ".join(words[i : i + n]) for i in range(len(words))]


def span_starts(
    query: str,
    passage: Words,
    n: int,
    random: np.random.Generator,
    *,
    temperature: float = 1.0,
) -> list[int]:
    """Tokens to begin targets at, drawn with P(i) proportional to exp(score_i / temperature).

    Without a draw twice; words that are stop words are never drawn, unless there are no others.
    Drawn as the largest of score_i / temperature + Gumbel noise (Vieira 2014), which is the same
    and does not underflow.
    """
    if not passage.words:
        return []
    usable = np.array([word.strip(_PUNCTUATION) not in STOP_WORDS for word in passage.words])
    if not usable.any():
        usable[:] = True
    scores = start_scores(query, passage) / temperature if query.split() else np.zeros(len(usable))
    noisy = np.where(usable, scores + random.gumbel(size=len(scores)), -np.inf)  # (words,)
    drawn = np.argsort(-noisy, kind="stable")[: min(n, int(usable.sum()))]
    return [int(passage.starts[i]) for i in drawn]


def span(tokens: Ngram, start: int, length: int = 10) -> Ngram:
    """At most `length` tokens from a place on."""
    return tuple(tokens[start : start + length])


def keyword_query(title: str, passage: Words, random: np.random.Generator) -> str:
    """A query a passage might answer: its title and a few of its content words, lower-cased.

    For passages without queries (ours; SEAL takes spans of the passage as such).
    """
    bare = dict.fromkeys(word.strip(_PUNCTUATION) for word in passage.words)
    content = [word for word in bare if word not in STOP_WORDS and len(word) > 2]
    n = min(len(content), int(random.integers(2, 7)))
    at = sorted(random.choice(len(content), size=n, replace=False).tolist()) if n else []
    words = [content[i] for i in at]
    named = title.lower().split() if random.random() < 0.7 or not words else []
    return " ".join(named + words if random.random() < 0.5 else words + named)
