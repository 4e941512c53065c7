"""Spans that are learned: where they begin, how they are drawn, and that a search can find them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import chisquare
from tiny_models import END, WORDS, tiny_llama, tokenizers

from ragkit.finetune.generative import Pair, Passage, SpanTargets, TargetOptions
from ragkit.finetune.generative.spans import (
    STOP_WORDS,
    Words,
    keyword_query,
    span,
    span_starts,
    split_words,
    start_scores,
)
from ragkit.llms.beams import CausalBeams
from ragkit.llms.local import LocalLLM
from ragkit.retrievers.rows import RowFormat, prompt_for

rapidfuzz = pytest.importorskip("rapidfuzz")

TEXT = "The spice, found on Arrakis alone, is what the Emperor and the Houses fight for."
N_DRAWS = 4_000
IMPROBABLE = 1e-4  # of a chi-square test with a fixed seed

some_words = st.lists(
    st.sampled_from(["the", "of", "spice", "spices", "House", "of,", "planet", "a", "io"]),
    max_size=9,
)


def words(*each):
    """Words of which the i-th begins at token 10 i."""
    return Words(tuple(each), 10 * np.arange(len(each), dtype=np.int64))


def tokenizer_of(pre_tokenizer, decoder, corpus):
    """A small byte-pair tokenizer: several tokens a word."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoder
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([corpus], trainer)
    return made


KINDS = {
    "byte-level, as GPT-2 and BART": lambda: (
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        tokenizers.decoders.ByteLevel(),
    ),
    "metaspace, as T5": lambda: (
        tokenizers.pre_tokenizers.Metaspace(),
        tokenizers.decoders.Metaspace(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [TEXT, "Zoë's naïve Ærø", "one", "a b c"])
def test_words_of_any_tokenizer_are_those_between_spaces(kind, text):
    tokenizer = tokenizer_of(*KINDS[kind](), f"{TEXT} Zoë's naïve Ærø one a b c")
    tokens = tokenizer.encode(f" {text}").ids
    found = split_words(tokens, lambda ids: tokenizer.decode(list(ids)))
    assert found.words == tuple(text.lower().split())
    parts = np.split(np.array(tokens), found.starts[1:])
    assert [tokenizer.decode(part.tolist()).strip() for part in parts] == text.split()


def test_words_of_nothing_are_none():
    found = split_words([], lambda ids: "")
    assert (found.words, found.starts.tolist()) == ((), [])


def scored(query, passage):
    """The definition, one pair of windows at a time."""
    asked = query.lower().split()
    return [
        sum(
            rapidfuzz.fuzz.ratio(" ".join(asked[j : j + 3]), " ".join(passage.words[i : i + 3]))
            / 100
            for j in range(len(asked))
        )
        for i in range(len(passage.words))
    ]


@given(some_words.filter(len), some_words.filter(len))
def test_start_scores_are_the_sums_of_fuzzy_ratios(query, passage):
    found = words(*(word.lower() for word in passage))
    assert start_scores(" ".join(query), found) == pytest.approx(
        scored(" ".join(query), found), abs=1e-5
    )


def test_start_scores_of_a_case_by_hand():
    # "a b" has the windows "a b" and "b"; so has the passage. ratio("a b", "b") = 2 * 1 / 4.
    assert start_scores("A b", words("a", "b")).tolist() == pytest.approx([1.5, 1.5])
    assert start_scores("x", words("x", "y")).tolist() == pytest.approx([0.5, 0.0])


def probabilities(query, passage, temperature):
    weights = np.exp(np.array(scored(query, passage)) / temperature)
    weights[[word in STOP_WORDS for word in passage.words]] = 0
    return weights / weights.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_draws_are_proportional_to_the_exponential_of_their_score(temperature):
    passage, random = words("spice", "the", "planet", "space", "of", "house"), seeded()
    query = "the spice planet"
    drawn = Counter(
        span_starts(query, passage, 1, random, temperature=temperature)[0] for _ in range(N_DRAWS)
    )
    expected = probabilities(query, passage, temperature)
    usable = [i for i in range(6) if expected[i]]
    assert set(drawn) == {10 * i for i in usable}
    observed = [drawn[10 * i] for i in usable]
    assert chisquare(observed, N_DRAWS * expected[usable]).pvalue > IMPROBABLE


def test_second_draws_are_proportional_among_those_left():
    passage, random = words("spice", "planet", "space"), seeded()
    drawn = Counter(tuple(span_starts("spice planet", passage, 2, random)) for _ in range(N_DRAWS))
    p = probabilities("spice planet", passage, 1.0)
    pairs = list(itertools.permutations(range(3), 2))
    expected = np.array([p[i] * p[j] / (1 - p[i]) for i, j in pairs])
    observed = [drawn[10 * i, 10 * j] for i, j in pairs]
    assert chisquare(observed, N_DRAWS * expected).pvalue > IMPROBABLE


def seeded(seed=0):
    return np.random.default_rng(seed)


@given(some_words, some_words, st.integers(0, 12), st.integers(0, 99), st.sampled_from([1e-6, 1.0]))
def test_draws_are_different_and_begin_with_no_stop_word_unless_all_are(
    query, passage, n, seed, temperature
):
    found = words(*(word.lower() for word in passage))
    starts = span_starts(" ".join(query), found, n, seeded(seed), temperature=temperature)
    content = [10 * i for i, w in enumerate(found.words) if w.strip(",") not in STOP_WORDS]
    allowed = content or found.starts.tolist()
    assert len(starts) == len(set(starts)) == min(n, len(allowed))
    assert set(starts) <= set(allowed)


def test_draw_when_the_temperature_is_almost_none_is_the_best_score_that_may_begin():
    # The stop word's score is the highest by far, so that the others' weights are nothing beside.
    passage = words("the", "spice", "planet")
    query = "the spice planet the spice planet"
    for seed in range(20):
        [start] = span_starts(query, passage, 1, seeded(seed), temperature=1e-5)
        assert start == 10 * (1 + int(np.argmax(scored(query, passage)[1:])))


def test_draw_when_the_query_is_empty_is_among_all_content_words():
    passage = words("spice", "the", "planet")
    drawn = {span_starts(" ", passage, 1, seeded(seed))[0] for seed in range(40)}
    assert drawn == {0, 20}


def test_span_when_the_passage_ends_is_shorter():
    assert span((1, 2, 3, 4), 1, 2) == (2, 3)
    assert span((1, 2, 3, 4), 3, 2) == (4,)


@given(some_words, st.sampled_from(["", "Dune", "The Spice"]), st.integers(0, 999))
def test_keyword_query_is_the_title_and_content_words_of_the_passage(passage, title, seed):
    found = words(*(word.lower() for word in passage))
    query = keyword_query(title, found, seeded(seed))
    named = title.lower()
    rest = query.removeprefix(named) if query.startswith(named) else query.removesuffix(named)
    content = {word.strip(",") for word in found.words if len(word.strip(",")) > 2} - STOP_WORDS
    assert set(rest.split()) <= content
    assert len(rest.split()) == len(set(rest.split())) <= 6
    assert query == " ".join(query.split())
    assert query or not (title or content)


def test_keyword_query_drops_punctuation_stop_words_it_hides_and_what_is_short():
    passage = words("the,", "spice,", "spice", "...", "(planet)", "of.", "io")
    for seed in range(30):
        assert set(keyword_query("", passage, seeded(seed)).split()) == {"spice", "planet"}


PASSAGES = [
    Passage("w1 w2", "w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16"),
    Passage("", "w20 w21 w20 w21 w22"),
    Passage("w30", ""),
    Passage("w2", "w35"),
]
PAIRS = [Pair("w5  w6\nw7", 0), Pair("w22", 1), Pair("w1", 2), Pair("w4", 3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return CausalBeams(LocalLLM(str(tiny_llama(tmp_path_factory.mktemp("llama")))))


def spans_of(model, passages=PASSAGES, pairs=PAIRS, seed=0, **options):
    return SpanTargets(model, passages, pairs, TargetOptions(**options), seed=seed)


def test_epoch_is_the_same_whenever_it_is_asked_for_and_another_than_the_next(model):
    one, other = spans_of(model), spans_of(model)
    zero = one.epoch(0)
    assert [other.epoch(n) for n in (2, 1, 0)] == [one.epoch(n) for n in (2, 1, 0)]
    assert one.epoch(0) == zero
    assert len({tuple(one.epoch(n)) for n in range(5)}) == 5
    assert spans_of(model, seed=1).epoch(0) != zero


passages_drawn = st.lists(
    st.builds(
        Passage,
        st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join),
        st.lists(st.sampled_from(WORDS), max_size=25).map("\n ".join),
    ),
    min_size=1,
    max_size=4,
)


@given(passages_drawn, st.integers(0, 5), st.integers(1, 12), st.data())
@examples(40)
def test_targets_occur_in_a_row_and_follow_the_prompt_of_their_unit(model, passages, n, long, data):
    at = data.draw(st.integers(0, len(passages) - 1))
    passage, query = passages[at], "w3 w4"
    targets = spans_of(
        model, passages, [Pair(query, at)], n_spans=n, n_tokens=long, passage_share=0
    )
    row = RowFormat(model).row(passage.title, passage.text)
    rows = {row[a:b] for a, b in itertools.combinations(range(len(row) + 1), 2)}
    by_unit = {each.task: each for each in targets.epoch(0)}
    for unit, each in by_unit.items():
        assert each.prompt == tuple(model.encode_prompt(prompt_for(unit, query)))
        assert set(each.targets) <= rows
        assert all(each.targets)
    n_words = len(passage.text.split())
    spans = by_unit["passage"].targets if "passage" in by_unit else ()
    assert len(spans) == min(n, n_words)
    assert all(len(target) <= long for target in spans)
    titles = by_unit["title"].targets if "title" in by_unit else ()
    begin = len(RowFormat(model).opening)
    end = begin + len(passage.title.split()) + 1
    assert titles == ((row[begin:end],) if passage.title else ())


def test_title_target_follows_the_start_of_its_row_and_ends_with_the_delimiter(model):
    targets = spans_of(model, passage_share=0).epoch(0)
    rows = RowFormat(model)
    titles = {target for each in targets if each.task == "title" for target in each.targets}
    assert titles == {(*model.encode(t), END) for t in ("w1 w2", "w30", "w2")}
    assert rows.row("w1 w2", "w3")[len(rows.opening) :][:3] in titles


def test_epoch_with_a_share_of_passages_teaches_as_many_without_a_query(model):
    examples = spans_of(model, pairs=[], passage_share=0.5, n_passage_spans=2).epoch(0)
    assert 1 <= len({each.prompt for each in examples if each.task == "passage"}) <= 2
    assert all(len(each.targets) <= 2 for each in examples)
    everything = spans_of(model, pairs=[], passage_share=1.0).epoch(0)
    titles = {target for each in everything if each.task == "title" for target in each.targets}
    assert len(titles) == 3


def test_epoch_of_no_passages_is_empty(model):
    assert spans_of(model, passages=[], pairs=[]).epoch(0) == []


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"n_spans": 4},
        {"n_tokens": 9},
        {"temperature": 2.0},
        {"passage_share": 0.25},
        {"pairs": PAIRS[:3]},
        {"passages": [*PASSAGES, Passage("", "")]},
        {"passages": [Passage("w1 w2\tw3", PASSAGES[0].text[3:]), *PASSAGES[1:]]},
    ],
)
def test_digest_when_anything_that_decides_the_examples_differs_is_another(model, other):
    assert spans_of(model, **other).digest != spans_of(model).digest
    assert spans_of(model).digest == spans_of(model).digest


@pytest.mark.parametrize("at", [-1, 4])
def test_pair_when_its_passage_is_not_there_is_refused(model, at):
    with pytest.raises(ValueError, match=f"passage {at}; expected an index of the 4 passages"):
        spans_of(model, pairs=[Pair("w1", at)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_spans": -1},
        {"n_passage_spans": -1},
        {"n_tokens": 0},
        {"passage_share": 1.1},
        {"temperature": 0.0},
    ],
)
def test_target_options_when_out_of_range_say_which(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*expected"):
        TargetOptions(**wrong)
