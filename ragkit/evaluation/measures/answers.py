"""Answers against gold answers; the best of several gold answers counts.

A question without gold answers (none are given, or nothing is left of them when normalised) is one
that has no answer: only an empty prediction is right there, as in SQuAD 2.0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")


def normalise(text: str) -> str:
    """The text in lower case, without ASCII punctuation and articles, with single spaces.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1, and their evaluation script.

    >>> normalise("The  cat's whiskers.")
    'cats whiskers'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the normalised prediction is a normalised gold answer, else 0.0.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1.

    >>> exact_match("the Eiffel tower!", ["Eiffel Tower", "La tour Eiffel"])
    1.0
    """
    return _best(prediction, answers, lambda given, gold: float(given == gold))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """The F1 of the normalised words, as bags: between 0 and 1.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1; nothing against nothing is 1 (SQuAD 2.0).

    >>> token_f1("in Paris, France", ["Paris"])
    0.5
    """
    return _best(prediction, answers, _bag_f1)


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if a normalised gold answer stands in the normalised prediction, else 0.0.

    Source: Liu et al. 2024, "Lost in the Middle", section 2.1. Their script looks at the
    prediction's first line; this looks at all of it. Characters are compared, not words: "1" stands
    in "10".

    >>> accuracy("It was built by Gustave Eiffel.", ["Gustave Eiffel"])
    1.0
    """
    return _best(
        prediction, answers, lambda given, gold: float(gold in given if gold else not given)
    )


def rouge_l(prediction: str, answers: Sequence[str]) -> float:
    """The F1 of the longest common subsequence of words: between 0 and 1.

    Source: Lin 2004 (ROUGE), equations 2 to 4 with beta 1, on one sequence of words a text. Words
    are runs of letters and digits in lower case, not stemmed: the rougeL of rouge-score, except
    that letters outside ASCII count too.

    >>> rouge_l("the cat sat", ["the dog sat"])
    0.6666666666666666
    """
    given = _WORD.findall(prediction.lower())
    golds = [words for answer in answers if (words := _WORD.findall(answer.lower()))]
    return max(_f1(_common_subsequence(given, gold), given, gold) for gold in golds or [[]])


def _best(prediction: str, answers: Sequence[str], compare: Callable[[str, str], float]) -> float:
    if isinstance(answers, str):
        raise TypeError(f"answers is the text {answers!r}; expected a list of texts")
    golds = [gold for answer in answers if (gold := normalise(answer))]
    given = normalise(prediction)
    return max(compare(given, gold) for gold in golds or [""])


def _bag_f1(given: str, gold: str) -> float:
    given_words, gold_words = given.split(), gold.split()
    return _f1((Counter(given_words) & Counter(gold_words)).total(), given_words, gold_words)


def _f1(common: int, given: Sequence[str], gold: Sequence[str]) -> float:
    if not given and not gold:
        return 1.0
    return 2 * common / (len(given) + len(gold))


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, a bit for each word of the first.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited"; the zeros are the length.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    whole = (1 << len(first)) - 1
    state = whole
    for word in second:
        matched = state & places.get(word, 0)
        state = ((state + matched) | (state - matched)) & whole
    return len(first) - state.bit_count()
