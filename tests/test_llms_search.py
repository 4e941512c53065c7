"""Constrained beam search against enumeration, with tiny random models and with written tables."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke
from tiny_models import END, VOCABULARY, tiny_bart, tiny_llama

from ragkit.errors import ModelError
from ragkit.indexes.ngram import NgramIndex, SegmentedNgramIndex
from ragkit.indexes.trie import Trie
from ragkit.llms.beams import BeamModel, CausalBeams, Seq2SeqBeams
from ragkit.llms.local import LocalLLM
from ragkit.llms.search import BeamOptions, Hypothesis, beam_search

PROMPT = "w1 w5 w9 w5"
TOLERANCE = 1e-4  # sums of up to 10 float32 log-probabilities, batched and one by one
V = 8  # tokens of the written and the hashed models; 7 ends


class WrittenModel:
    """A `BeamModel` whose next-token probabilities are a function of prompt and tokens."""

    name, vocab_size, end_token, fingerprint = "written", V, V - 1, ""

    def __init__(self, probabilities: Mapping[tuple[int, ...], Sequence[float]]) -> None:
        self._written = probabilities

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def begin(self, prompt: str) -> WrittenBeams:
        return WrittenBeams(self, prompt)

    def next_logprobs(self, prompt: str, tokens: tuple[int, ...]) -> np.ndarray:
        row = np.asarray(self._written.get(tokens, [1 / V] * V))
        with np.errstate(divide="ignore"):
            return np.log(row).astype(np.float32)


class HashedModel(WrittenModel):
    """Random, yet the same for the same prompt and tokens."""

    def __init__(self) -> None:
        super().__init__({})

    def next_logprobs(self, prompt: str, tokens: tuple[int, ...]) -> np.ndarray:
        generator = np.random.default_rng(zlib.crc32(repr((prompt, tokens)).encode()))
        odds = np.exp(2 * generator.standard_normal(V))
        return np.log(odds / odds.sum()).astype(np.float32)


class WrittenBeams:
    def __init__(self, model: WrittenModel, prompt: str) -> None:
        self._model, self._prompt, self._texts = model, prompt, [()]

    def logprobs(self) -> np.ndarray:
        return np.stack([self._model.next_logprobs(self._prompt, text) for text in self._texts])

    def advance(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        pairs = zip(parents, tokens, strict=True)
        self._texts = [(*self._texts[parent], token) for parent, token in pairs]


@pytest.fixture(scope="module", params=smoke(["llama", "bart"], tier="models"))
def real(request, tmp_path_factory: pytest.TempPathFactory) -> BeamModel:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llama":
        return CausalBeams(LocalLLM(str(tiny_llama(folder)), dtype="float32"))
    return Seq2SeqBeams(tiny_bart(folder))


def teacher_forced(model: BeamModel, tokens: Sequence[int]) -> float:
    """The log-probability of tokens after the prompt, each fed to a beam of its own."""
    beams, total = model.begin(PROMPT), 0.0
    for token in tokens:
        total += float(beams.logprobs()[0, token])
        beams.advance([0], [token])
    return total


def ngrams(rows, longest: int) -> set[tuple[int, ...]]:
    return {
        tuple(row[i:j])
        for row in rows
        for i in range(len(row))
        for j in range(i + 1, min(i + longest, len(row)) + 1)
    }


def random_rows(seed: int, n_rows: int, length: int, n_words: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, n_words, (n_rows, length)).tolist()


def assert_ranking(found: Sequence[Hypothesis], expected: Mapping[tuple[int, ...], float]) -> None:
    """The same texts in the same order with the same scores."""
    assert [each.tokens for each in found] == sorted(expected, key=lambda each: -expected[each])
    scores = [expected[each.tokens] for each in found]
    np.testing.assert_allclose([each.score for each in found], scores, rtol=0, atol=TOLERANCE)


def tokens_of(found: Sequence[Hypothesis]) -> list[tuple[int, ...]]:
    return [each.tokens for each in found]


@pytest.mark.parametrize("length_power", smoke([1.0, 0.0], tier="models"))
def test_wide_beam_over_50_titles_equals_their_enumeration(real, length_power):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 7, 60)
    words = range(END + 2, len(VOCABULARY))
    titles = sorted({tuple(generator.choice(words, n).tolist()) for n in lengths})[:50]
    trie = Trie.build(titles, len(VOCABULARY), end_token=END)
    options = BeamOptions(64, 10, frozenset({END}), length_power=length_power)
    found = [each for each in beam_search(real, PROMPT, trie, options) if each.finished]
    scores = {(*title, END): teacher_forced(real, [*title, END]) for title in titles}
    ranks = {title: score / len(title) ** length_power for title, score in scores.items()}
    assert len(titles) == 50
    assert tokens_of(found) == sorted(ranks, key=lambda title: -ranks[title])
    np.testing.assert_allclose(
        [each.score for each in found], [scores[each.tokens] for each in found], atol=TOLERANCE
    )
    assert [trie.is_end(each.state) for each in found] == [True] * 50


def test_wide_beam_over_30_tokens_equals_the_enumeration_of_all_ngrams(real):
    rows = np.split(np.random.default_rng(1).integers(3, 9, 30), [12, 13, 18])
    index = NgramIndex.build([row.tolist() for row in rows], len(VOCABULARY))
    found = beam_search(real, PROMPT, index, BeamOptions(64, 10))
    every = {ngram: teacher_forced(real, ngram) for ngram in ngrams(index_rows(index), 10)}
    assert_ranking(found, every)
    ten = [each for each in found if len(each.tokens) == 10]
    assert_ranking(ten, {ngram: score for ngram, score in every.items() if len(ngram) == 10})
    assert len(ten) == 3 + 3  # the rows of 12 tokens hold three each


def index_rows(index: NgramIndex) -> list[list[int]]:
    return [index.row(i).tolist() for i in range(index.n_rows)]


def stepwise(model: WrittenModel, known: set[tuple[int, ...]], width: int, steps: int):
    """A narrow beam by brute force: every continuation of every text, sorted."""
    texts, kept = {(): 0.0}, {}
    for _ in range(steps):
        grown = {
            (*text, token): score + float(model.next_logprobs("q", text)[token])
            for text, score in texts.items()
            for token in range(V)
            if (*text, token) in known
        }
        best = sorted(grown, key=lambda text: (-grown[text], text))[:width]
        texts = {text: grown[text] for text in best}
        kept.update(texts)
    return sorted(kept, key=lambda text: (-kept[text], text)), kept


@given(
    rows=st.lists(st.lists(st.integers(0, V - 1), max_size=8), max_size=6),
    width=st.integers(1, 6),
    steps=st.integers(1, 6),
)
@examples(150)
def test_narrow_beam_equals_brute_force_step_by_step(rows, width, steps):
    model = HashedModel()
    found = beam_search(model, "q", NgramIndex.build(rows, V), BeamOptions(width, steps))
    expected, scores = stepwise(model, ngrams(rows, steps), width, steps)
    assert tokens_of(found) == expected
    assert [each.score for each in found] == pytest.approx([scores[text] for text in expected])


def check_prompts(index, rows, first: int, n_prompts: int, width: int, steps: int) -> None:
    known, model = ngrams(rows, steps), HashedModel()
    for prompt in range(first, first + n_prompts):
        found = beam_search(model, str(prompt), index, BeamOptions(width, steps))
        assert len(found) > width  # fewer than width * steps where rows end
        assert [text for text in tokens_of(found) if text not in known] == []


def views(n_rows: int):
    """Indexes of random rows, whole and restricted, with the rows they may speak of."""
    rows = random_rows(2, n_rows, 12, V)
    half = np.arange(n_rows) % 2 == 0
    index = NgramIndex.build(rows, V)
    parts = [NgramIndex.build(part, V) for part in (rows[:5], rows[5:])]
    allowed = [row for row, flag in zip(rows, half, strict=True) if flag]
    return {
        "whole": (index, rows),
        "restricted": (index.restricted(half), allowed),
        "segments restricted": (SegmentedNgramIndex(parts).restricted(half), allowed),
    }


@pytest.mark.parametrize(
    "view",
    smoke(["whole", "restricted", "segments restricted"], "segments restricted", tier="models"),
)
def test_hypotheses_of_1000_random_prompts_all_occur_in_the_allowed_rows(view):
    index, rows = views(20)[view]
    check_prompts(index, rows, 0, 1000, 2, 5)


@pytest.mark.models
@pytest.mark.parametrize(
    "view",
    smoke(["whole", "restricted", "segments restricted"], "segments restricted", tier="models"),
)
def test_hypotheses_of_4000_random_prompts_all_occur_in_the_allowed_rows(view):
    index, rows = views(40)[view]
    check_prompts(index, rows, 1000, 4_000, 4, 6)


def test_every_prefix_of_a_hypothesis_is_kept_with_its_own_score():
    index = NgramIndex.build(random_rows(3, 5, 12, V), V)
    found = beam_search(HashedModel(), "q", index, BeamOptions(3, 6))
    by_tokens = {each.tokens: each for each in found}
    assert len(by_tokens) == len(found) == 3 * 6
    for each in found:
        for n in range(1, len(each.tokens)):
            assert by_tokens[each.tokens[:n]].logprobs == each.logprobs[:n]
        assert each.state == index.find(each.tokens)


def test_ties_when_all_is_equally_likely_are_broken_by_tokens():
    index = NgramIndex.build([[3, 1, 2], [2, 1, 4], [2, 0]], V)
    found = beam_search(WrittenModel({}), "q", index, BeamOptions(2, 2))
    assert tokens_of(found) == [(0,), (1,), (1, 2), (1, 4)]
    assert [each.score for each in found] == pytest.approx([-math.log(8)] * 2 + [-math.log(64)] * 2)


def test_ties_on_the_beam_are_broken_by_the_whole_text():
    """Not by the last token, of which (2, 0) has the smallest."""
    trie = Trie.build([[1, 5], [1, 6], [2, 0]], V)
    found = beam_search(WrittenModel({}), "q", trie, BeamOptions(2, 2))
    assert tokens_of(found) == [(1,), (2,), (1, 5), (1, 6)]


def test_ties_of_texts_of_different_lengths_are_broken_by_tokens():
    model = WrittenModel({(): [0, 0, 0.5, 0.5, 0, 0, 0, 0], (2,): [0, 1.0, 0, 0, 0, 0, 0, 0]})
    found = beam_search(model, "q", Trie.build([[2, 1], [3]], V), BeamOptions(2, 2))
    assert tokens_of(found) == [(2,), (2, 1), (3,)]


def test_scores_when_one_token_is_forced_are_unmasked_log_probabilities():
    model = WrittenModel({(): [0.5, 0.3, 0.2, 0, 0, 0, 0, 0], (1,): [0.9, 0, 0, 0, 0, 0, 0, 0.1]})
    index = NgramIndex.build([[1, 7]], V)
    first, second = beam_search(model, "q", index, BeamOptions(5, 2))
    assert (first.tokens, first.logprobs) == ((1,), pytest.approx((math.log(0.3),)))
    assert (second.tokens, second.logprobs) == (
        (1, 7), pytest.approx((math.log(0.3), math.log(0.1)))
    )  # fmt: skip


def test_tokens_of_probability_zero_are_never_written():
    model = WrittenModel({(): [0.5, 0.5, 0, 0, 0, 0, 0, 0]})
    index = NgramIndex.build([[0, 3], [2, 3]], V)
    assert tokens_of(beam_search(model, "q", index, BeamOptions(5, 1))) == [(0,)]
    model = WrittenModel({(): [0, 1, 0, 0, 0, 0, 0, 0]})
    assert beam_search(model, "q", index, BeamOptions(5, 3)) == []


def test_prefix_when_forced_is_neither_scored_nor_read_by_the_model():
    index = NgramIndex.build([[7, 1, 2, 7, 3], [4, 5]], V)
    model = WrittenModel({(): [0, 0.25, 0, 0.75, 0, 0, 0, 0], (1,): [0, 0, 0.5, 0, 0, 0, 0, 0.5]})
    found = beam_search(model, "q", index, BeamOptions(5, 2, prefix=(7,)))
    assert [(each.tokens, each.score) for each in found] == [
        ((3,), pytest.approx(math.log(0.75))),
        ((1,), pytest.approx(math.log(0.25))),
        ((1, 2), pytest.approx(math.log(0.125))),
    ]
    assert [each.state for each in found] == [index.find((7, *each.tokens)) for each in found]


@pytest.mark.parametrize("prefix", [(6,), (4, 5), (1, 1), (99,), (-1,)])
def test_prefix_when_nothing_continues_it_gives_nothing(prefix):
    index = NgramIndex.build([[7, 1, 2], [4, 5]], V)
    assert beam_search(HashedModel(), "q", index, BeamOptions(5, 3, prefix=prefix)) == []


def test_end_tokens_finish_a_hypothesis_and_take_its_place_on_the_beam():
    model = WrittenModel(
        {
            (): [0, 0.6, 0.4, 0, 0, 0, 0, 0],
            (1,): [0, 0, 0.1, 0, 0, 0, 0, 0.9],
            (1, 7): [0, 0, 0, 0, 0, 1.0, 0, 0],  # never asked for
            (2,): [0, 0, 0, 1.0, 0, 0, 0, 0],
            (2, 3): [0, 0, 0, 0, 0.5, 0, 0, 0.5],
        }
    )
    index = NgramIndex.build([[1, 7, 5], [1, 2, 3], [2, 3, 4], [2, 3, 7]], V)
    found = beam_search(model, "q", index, BeamOptions(2, 3, frozenset({7})))
    assert [(each.tokens, each.finished, round(math.exp(each.score), 6)) for each in found] == [
        ((1,), False, 0.6),
        ((1, 7), True, 0.54),
        ((2,), False, 0.4),
        ((2, 3), False, 0.4),
        ((2, 3, 4), False, 0.2),
        ((2, 3, 7), True, 0.2),
    ]


def test_end_tokens_when_none_are_named_are_tokens_like_others():
    index = NgramIndex.build([[1, 7, 5]], V)
    found = beam_search(HashedModel(), "q", index, BeamOptions(4, 3))
    assert sorted((each.tokens, each.finished) for each in found) == [
        (text, False) for text in [(1,), (1, 7), (1, 7, 5), (5,), (7,), (7, 5)]
    ]


def test_search_when_every_hypothesis_has_finished_stops():
    trie = Trie.build([[1], [2]], V, end_token=7)
    found = beam_search(HashedModel(), "q", trie, BeamOptions(4, 50, frozenset({7})))
    assert sorted(tokens_of(found)) == [(1,), (1, 7), (2,), (2, 7)]


def test_length_power_when_one_ranks_by_the_mean_log_probability():
    """GENRE: (1, 7) has probability 0.5 * 0.2 = 0.1, and (2, 3, 4, 7) 0.5 ** 4 = 0.0625.

    Mean logs: (log 0.5 + log 0.2) / 2 = -1.151293 and 4 log 0.5 / 4 = -0.693147.
    """
    model = WrittenModel(
        {
            (): [0, 0.5, 0.5, 0, 0, 0, 0, 0],
            (1,): [0.8, 0, 0, 0, 0, 0, 0, 0.2],
            (2,): [0.5, 0, 0, 0.5, 0, 0, 0, 0],
            (2, 3): [0.5, 0, 0, 0, 0.5, 0, 0, 0],
            (2, 3, 4): [0.5, 0, 0, 0, 0, 0, 0, 0.5],
        }
    )
    trie = Trie.build([[1], [2, 3, 4]], V, end_token=7)
    ranked = {}
    for power in (0.0, 1.0):
        options = BeamOptions(5, 5, frozenset({7}), length_power=power)
        ranked[power] = [each for each in beam_search(model, "q", trie, options) if each.finished]
    assert [(each.tokens, round(math.exp(each.score), 6)) for each in ranked[0.0]] == [
        ((1, 7), 0.1),
        ((2, 3, 4, 7), 0.0625),
    ]
    assert [(each.tokens, round(each.score / len(each.tokens), 6)) for each in ranked[1.0]] == [
        ((2, 3, 4, 7), -0.693147),
        ((1, 7), -1.151293),
    ]


def test_search_when_the_model_gives_nan_raises_model_error():
    model = WrittenModel({(1,): [math.nan] * V})
    index = NgramIndex.build([[1, 2]], V)
    with pytest.raises(ModelError, match="'written' gives NaN"):
        beam_search(model, "q", index, BeamOptions(5, 3))


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_search_when_the_index_is_empty_gives_nothing(rows):
    index = NgramIndex.build(rows, V)
    assert beam_search(HashedModel(), "q", index, BeamOptions(5, 3)) == []


def test_search_when_no_row_is_allowed_gives_nothing():
    for index in NgramIndex.build([[1, 2]], V), Trie.build([[1, 2]], V, end_token=7):
        view = index.restricted(np.zeros(1, dtype=np.bool_))
        assert beam_search(HashedModel(), "q", view, BeamOptions(5, 3)) == []


def test_search_when_the_index_is_one_row_stays_in_it():
    found = beam_search(HashedModel(), "q", NgramIndex.build([[4, 2, 4]], V), BeamOptions(9, 9))
    assert sorted(tokens_of(found)) == [(2,), (2, 4), (4,), (4, 2), (4, 2, 4)]


@given(
    rows=st.lists(st.lists(st.integers(0, V - 1), max_size=6), max_size=6),
    order=st.randoms(use_true_random=False),
)
@examples(100)
def test_ranking_does_not_depend_on_the_order_of_the_corpus(rows, order):
    shuffled = order.sample(rows, len(rows))
    first, second = (
        beam_search(HashedModel(), "q", NgramIndex.build(each, V), BeamOptions(3, 4))
        for each in (rows, shuffled)
    )
    assert [(each.tokens, each.logprobs) for each in first] == [
        (each.tokens, each.logprobs) for each in second
    ]


def test_search_when_it_is_restricted_equals_a_search_over_the_allowed_rows_alone():
    rows = random_rows(4, 12, 9, V)
    allowed = np.arange(12) % 3 == 0
    view = NgramIndex.build(rows, V).restricted(allowed)
    alone = NgramIndex.build(rows[::3], V)
    first, second = (
        beam_search(HashedModel(), "q", index, BeamOptions(4, 5)) for index in (view, alone)
    )
    assert [(each.tokens, each.logprobs) for each in first] == [
        (each.tokens, each.logprobs) for each in second
    ]


@pytest.mark.parametrize("options", [{"width": 0}, {"max_tokens": 0}])
def test_beam_options_when_a_number_is_below_one_raises_value_error(options):
    with pytest.raises(ValueError, match="expected at least 1"):
        BeamOptions(**options)
