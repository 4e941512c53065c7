"""Scores of answers against gold answers; with several gold answers the best score counts.

A question is unanswerable if it has no gold answers, or only ones that are empty when normalised.
Then only an empty prediction is correct, as in SQuAD 2.0.
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
    """Lower-case a text, remove ASCII punctuation and articles, and collapse whitespace.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1, and their evaluation script.

    >>> normalise("The  cat's whiskers.")
    'cats whiskers'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the normalised prediction equals a normalised gold answer, else 0.0.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1.

    >>> exact_match("the Eiffel tower!", ["Eiffel Tower", "La tour Eiffel"])
    1.0
    """
    return _best(prediction, answers, lambda predicted, gold: float(predicted == gold))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the bags of normalised words, between 0 and 1.

    Source: Rajpurkar et al. 2016 (SQuAD), section 6.1; empty against empty is 1 (SQuAD 2.0).

    >>> token_f1("in Paris, France", ["Paris"])
    0.5
    """
    return _best(prediction, answers, _bag_f1)


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if a normalised gold answer is a substring of the normalised prediction, else 0.0.

    Source: Liu et al. 2024, "Lost in the Middle", section 2.1. Their script uses the first line of
    the prediction; this uses all of it. Characters are compared, not words: "1" is in "10".

    >>> accuracy("It was built by Gustave Eiffel.", ["Gustave Eiffel"])
    1.0
    """
    return _best(
        prediction,
        answers,
        lambda predicted, gold: float(gold in predicted if gold else not predicted),
    )


def rouge_l(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words, between 0 and 1.

    Source: Lin 2004 (ROUGE), equations 2 to 4 with beta 1, on one sequence of words per text. Words
    are runs of letters and digits in lower case, not stemmed: the rougeL of rouge-score, except
    that letters outside ASCII are included.

    >>> rouge_l("the cat sat", ["the dog sat"])
    0.6666666666666666
    """
    predicted = _WORD.findall(prediction.lower())
    golds = [words for answer in answers if (words := _WORD.findall(answer.lower()))]
    return max(_f1(_common_subsequence(predicted, gold), predicted, gold) for gold in golds or [[]])


def _best(prediction: str, answers: Sequence[str], compare: Callable[[str, str], float]) -> float:
    if isinstance(answers, str):
        raise TypeError(f"answers is the string {answers!r}; expected a list of strings")
    golds = [gold for answer in answers if (gold := normalise(answer))]
    predicted = normalise(prediction)
    return max(compare(predicted, gold) for gold in golds or [""])


def _bag_f1(predicted: str, gold: str) -> float:
    predicted_words, gold_words = predicted.split(), gold.split()
    return _f1(
        (Counter(predicted_words) & Counter(gold_words)).total(), predicted_words, gold_words
    )


def _f1(common: int, predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted and not gold:
        return 1.0
    return 2 * common / (len(predicted) + len(gold))


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, with one bit per word of the first.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited"; the zeros are the length.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << i
    all_bits = (1 << len(first)) - 1
    state = all_bits
    for word in second:
        matched = state & positions.get(word, 0)
        state = ((state + matched) | (state - matched)) & all_bits
    return len(first) - state.bit_count()
