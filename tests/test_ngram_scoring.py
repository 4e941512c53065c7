"""SEAL's scores: golden values, a corpus of five rows by hand, and properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.indexes.ngram import NgramIndex
from ragkit.retrievers.ngram_scoring import (
    Key,
    Match,
    ScoringOptions,
    candidates,
    log_odds,
    ngram_weight,
    repetition,
    score_row,
    unigram_weights,
)

A, B, C, D, E, F = range(1, 7)
ROWS = [[A, B, C, D], [A, B, E, B, C], [C, D, C, D, F], [B, C, E], [F, E]]
AB, BC, CD, OFTEN = (
    Key((A, B), -3.0, 2, 10.0),
    Key((B, C), -4.0, 3, 8.0),
    Key((C, D), -2.0, 3, 6.0),
    Key((F,), -1.0, 2000, 5.0),  # more frequent than max_frequency
)
KEYS = [AB, BC, CD, OFTEN]
UNIGRAMS = {C: 2.0, D: 1.5, E: 1.0}
VARIANTS = ["intersective", "lm+fm", "lm"]


def key(tokens: Sequence[int], weight: float, logprob: float = -1.0, count: int = 1) -> Key:
    return Key(tuple(tokens), logprob, count, weight)


def places_in(rows, keys: Sequence[Key]):
    """Rows and offsets of each key, by looking everywhere."""
    found = {}
    for each in keys:
        n = len(each.tokens)
        at = [
            (i, j)
            for i, row in enumerate(rows)
            for j in range(len(row))
            if tuple(row[j : j + n]) == each.tokens
        ]
        pairs = np.array(at, dtype=np.int64).reshape(-1, 2)
        found[each.tokens] = (pairs[:, 0], pairs[:, 1])
    return found


def stage_1(rows, keys: Sequence[Key], options: ScoringOptions) -> list[int]:
    return candidates(keys, places_in(rows, keys), options)


def stage_2(
    rows,
    keys: Sequence[Key],
    options: ScoringOptions,
    unigrams: Mapping[int, float] | None = None,
):
    by_tokens = {each.tokens: each for each in keys}
    return [score_row(i, row, by_tokens, unigrams or {}, options) for i, row in enumerate(rows)]


def totals(*arguments) -> list[float]:
    return [round(each.score, 9) for each in stage_2(*arguments)]


# weights


@pytest.mark.parametrize(
    ("count", "logprob", "odds", "weight"),
    [
        (3, -2.0, 2.970723, 8.825193),
        (3, -6.0, -1.172209, 0.0),
        (200, -2.0, -0.492985, 0.0),
        (1, -0.01, 9.715161, 94.384359),
    ],
)
def test_weights_equal_the_golden_values(count, logprob, odds, weight):
    assert log_odds(logprob, count, 1000) == pytest.approx(odds, abs=5e-7)
    assert ngram_weight(logprob, count, 1000) == pytest.approx(weight, abs=5e-7)


def test_log_odds_is_the_ratio_of_the_odds_of_the_formula():
    """P(n) = (3 + 5) / (1000 + 5), whose log is -4.833301; P(n|q) = exp(-2)."""
    prior, given_query = 8 / 1005, math.exp(-2)
    assert math.log(prior) == pytest.approx(-4.833301, abs=5e-7)
    by_hand = math.log(given_query * (1 - prior) / (prior * (1 - given_query)))
    assert log_odds(-2.0, 3, 1000) == pytest.approx(by_hand, abs=1e-9)


def test_weight_when_alpha_is_given_is_that_power_of_the_log_odds():
    found = [ngram_weight(-2.0, 3, 1000, alpha=alpha) for alpha in (1.0, 2.0, 0.5)]
    assert found == pytest.approx([2.970723, 8.825193, 1.723579], abs=1e-6)


def test_weight_when_the_model_is_certain_is_large_and_finite():
    """P(n|q) = exp(-1e-10): 1 - P(n|q) = 1e-10, whose log is -23.025851."""
    expected = 23.025851 - math.log(8 / 1005) + math.log(1 - 8 / 1005)
    assert log_odds(0.0, 3, 1000) == pytest.approx(expected, abs=1e-6)
    assert log_odds(1e-7, 3, 1000) == log_odds(0.0, 3, 1000)  # float32 sums may end above 0


def test_weight_when_the_count_is_zero_has_the_prior_of_the_smoothing():
    """P(n) = 5 / 1005."""
    expected = math.log(math.exp(-2) / (1 - math.exp(-2)) * (1 - 5 / 1005) / (5 / 1005))
    assert log_odds(-2.0, 0, 1000) == pytest.approx(expected, abs=1e-9)


@given(
    logprob=st.floats(-1e4, 1e-6) | st.just(-math.inf),
    count=st.integers(0, 10**7),
    n_tokens=st.integers(0, 10**7),
    smoothing=st.floats(1e-6, 1e3),
    alpha=st.floats(0.1, 4),
)
def test_weights_are_never_nan_infinite_or_negative(logprob, count, n_tokens, smoothing, alpha):
    found = ngram_weight(logprob, count, n_tokens, smoothing=smoothing, alpha=alpha)
    assert math.isfinite(found)
    assert found >= 0


@given(logprob=st.floats(-50, -1e-3), count=st.integers(0, 900))
def test_weight_grows_with_the_probability_and_falls_with_the_count(logprob, count):
    here = log_odds(logprob, count, 1000)
    assert log_odds(logprob / 2, count, 1000) > here > log_odds(logprob, count + 1, 1000)


# repetition


@pytest.mark.parametrize(
    ("ngram", "covered", "beta", "expected"),
    [
        ((A, B, C), {B}, 0.8, 0.733333),
        ((A, B, C), {A, B, C, D}, 0.8, 0.2),
        ((A, B, C), set(), 0.8, 1.0),
        ((A, A, B), {B}, 0.8, 0.6),  # types, not tokens: one of two is new
        ((A, B, C), {A, B, C}, 0.0, 1.0),
        ((A, B, C), {A, B, C}, 1.0, 0.0),
    ],
)
def test_repetition_equals_the_hand_computed_share_of_new_types(ngram, covered, beta, expected):
    assert repetition(ngram, covered, beta) == pytest.approx(expected, abs=5e-7)


# unigrams


def test_unigram_weights_are_the_clipped_log_odds_without_a_power():
    probabilities = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    counts = np.array([3, 400, 3, 0, 3])
    found = unigram_weights(
        np.log(probabilities).astype(np.float32), counts, 1000, ScoringOptions()
    )
    expected = {
        0: log_odds(math.log(0.5), 3, 1000),
        2: log_odds(math.log(0.1), 3, 1000),
        4: log_odds(math.log(0.1), 3, 1000),
    }  # 1 is likelier in the corpus (405 / 1005), 3 does not occur
    assert list(found) == [0, 2, 4]  # best first, ties by token
    assert found == pytest.approx(expected, abs=1e-6)


def test_unigram_weights_when_fewer_are_wanted_are_the_best_with_ties_by_token():
    logprobs = np.log(np.array([0.1, 0.3, 0.3, 0.3], dtype=np.float32))
    found = unigram_weights(logprobs, np.full(4, 2), 1000, ScoringOptions(n_unigrams=2))
    assert list(found) == [1, 2]


@given(
    logprobs=st.lists(
        st.floats(-200, 0, width=32) | st.sampled_from([-math.inf, math.nan, 0.0]), min_size=1
    ),
    n_tokens=st.integers(0, 10**6),
)
def test_unigram_weights_are_never_nan_infinite_or_zero(logprobs, n_tokens):
    counts = np.arange(len(logprobs))
    found = unigram_weights(
        np.array(logprobs, dtype=np.float32), counts, n_tokens, ScoringOptions()
    )
    assert all(math.isfinite(weight) and weight > 0 for weight in found.values())
    assert 0 not in found


# the corpus of five rows


def test_stage_1_of_five_rows_equals_the_hand_computed_order():
    """Keys from the best: AB 10, BC 8, CD 6; F is frequent and waits for stage 2.

    row 0  A B C D    AB at 0; BC would need B again; CD at 2, no type seen: 10 + 6 = 16
    row 1  A B E B C  AB at 0; BC at 3, one of two types new: 10 + (0.2 + 0.8 / 2) 8 = 14.8
    row 2  C D C D F  CD once: 6
    row 3  B C E      BC: 8
    row 4  F E        nothing
    """
    assert stage_1(ROWS, KEYS, ScoringOptions()) == [0, 1, 3, 2]
    assert stage_1(ROWS, KEYS, ScoringOptions(n_candidates=2)) == [0, 1]


def test_stage_1_when_beta_is_zero_leads_to_another_order():
    """Row 1: 10 + 8 = 18, above row 0's 16."""
    assert stage_1(ROWS, KEYS, ScoringOptions(beta=0.0)) == [1, 0, 3, 2]


def test_stage_2_of_five_rows_equals_the_hand_computed_scores():
    """Matches from the best, then what is free; C 2, D 1.5, E 1 as single tokens.

    row 0  A B C D    AB 10; BC is blocked; CD 6: 16, nothing is free
    row 1  A B E B C  AB 10; BC (0.2 + 0.8 / 2) 8 = 4.8; E is free and new, 1: 15.8
    row 2  C D C D F  CD 6; its repeat adds nothing but takes C and D; F 5: 11
    row 3  B C E      BC 8; E 1: 9
    row 4  F E        F 5; E 1: 6
    """
    found = stage_2(ROWS, KEYS, ScoringOptions(), UNIGRAMS)
    assert [round(each.score, 9) for each in found] == [16.0, 15.8, 11.0, 9.0, 6.0]
    assert [each.unigrams for each in found] == [0.0, 1.0, 0.0, 1.0, 1.0]
    assert [each.row for each in found] == [0, 1, 2, 3, 4]
    assert [each.matches for each in found] == [
        [Match(AB, 0, 10.0), Match(CD, 2, 6.0)],
        [Match(AB, 0, 10.0), Match(BC, 3, pytest.approx(4.8))],
        [Match(CD, 0, 6.0), Match(OFTEN, 4, 5.0)],
        [Match(BC, 0, 8.0)],
        [Match(OFTEN, 0, 5.0)],
    ]


def test_stage_1_and_stage_2_agree_where_no_key_is_frequent_and_none_repeats_beside_another():
    rare = [AB, BC, CD]
    scores = totals(ROWS, rare, ScoringOptions())
    ranked = sorted(range(4), key=lambda row: -scores[row])
    assert scores == [16.0, 14.8, 6.0, 8.0, 0.0]
    assert stage_1(ROWS, rare, ScoringOptions()) == ranked


def test_frequent_keys_count_in_stage_2_only_and_need_no_places():
    keys = [AB, OFTEN]
    assert candidates(keys, places_in(ROWS, [AB]), ScoringOptions()) == [0, 1]
    assert stage_1(ROWS, keys, ScoringOptions(max_frequency=2000)) == [0, 1, 2, 4]
    assert totals(ROWS, keys, ScoringOptions()) == [10.0, 10.0, 5.0, 0.0, 5.0]


def test_a_position_serves_one_match_whatever_types_are_new():
    """In A B C the middle is taken by AB; BC finds no place although C is new."""
    rows = [[A, B, C], [A, B, B, C]]
    assert totals(rows, [AB, BC], ScoringOptions()) == [10.0, 14.8]
    assert stage_1(rows, [AB, BC], ScoringOptions()) == [1, 0]


def test_a_covered_type_is_discounted_although_its_positions_are_free():
    """B A shares all types with A B: 10 + 0.2 * 8; without beta 18."""
    rows, keys = [[A, B, C, B, A]], [AB, key([B, A], 8.0)]
    assert totals(rows, keys, ScoringOptions()) == [11.6]
    assert totals(rows, keys, ScoringOptions(beta=0.0)) == [18.0]


def test_a_repeated_occurrence_takes_its_positions_in_stage_2_but_not_in_stage_1():
    """A B A B: BA at 1 is blocked. A B C A B D: BD needs the second AB's B.

    Stage 1 leaves the second AB free: BD adds (0.2 + 0.8 / 2) 4 = 2.4. In stage 2 it is blocked.
    """
    rows, keys = [[A, B, C, A, B, D], [A, B, E, E, F, C]], [AB, key([B, D], 4.0), key([F, C], 2.0)]
    assert totals(rows, keys, ScoringOptions()) == [10.0, 12.0]
    assert stage_1(rows, keys, ScoringOptions()) == [0, 1]  # 12.4 and 12


def test_overlapping_occurrences_of_one_key_count_once():
    rows, keys = [[A, A, A, A]], [key([A, A], 3.0)]
    (found,) = stage_2(rows, keys, ScoringOptions(), {A: 1.0})
    assert (found.matches, found.unigrams) == ([Match(keys[0], 0, 3.0)], 0.0)


def test_free_unigrams_add_each_type_once_and_a_fifth_where_a_key_covers_it():
    """A B B E E: AB 10; the free B is covered, 0.2 * 3; E, twice free, adds 1."""
    (found,) = stage_2([[A, B, B, E, E]], [AB], ScoringOptions(), {B: 3.0, E: 1.0, F: 9.0})
    assert (found.unigrams, found.score) == (pytest.approx(1.6), pytest.approx(11.6))


def test_a_row_without_keys_has_the_sum_of_its_unigrams():
    (found,) = stage_2([[E, C, E]], [], ScoringOptions(), UNIGRAMS)
    assert (found.score, found.unigrams, found.matches) == (3.0, 3.0, [])


def test_matches_of_equal_weight_are_taken_by_tokens_then_by_place():
    keys = [key([B, C], 5.0), key([A, B], 5.0)]
    (found,) = stage_2([[A, B, C, A, B]], keys, ScoringOptions())
    assert found.matches == [Match(keys[1], 0, 5.0)]


def test_matches_add_up_to_the_score_and_stand_where_they_say():
    for found, row in zip(stage_2(ROWS, KEYS, ScoringOptions(), UNIGRAMS), ROWS, strict=True):
        assert sum(match.added for match in found.matches) + found.unigrams == found.score
        for match in found.matches:
            end = match.offset + len(match.key.tokens)
            assert tuple(row[match.offset : end]) == match.key.tokens


# variants


def test_variant_lm_fm_scores_a_row_by_the_weight_of_its_best_key():
    options = ScoringOptions(variant="lm+fm")
    assert totals(ROWS, KEYS, options, UNIGRAMS) == [10.0, 10.0, 6.0, 8.0, 5.0]
    assert stage_1(ROWS, KEYS, options) == [0, 1, 3, 2]
    assert totals([[E]], KEYS, options) == [0.0]


def test_variant_lm_scores_a_row_by_the_log_probability_of_its_best_key():
    options = ScoringOptions(variant="lm")
    found = stage_2(ROWS, KEYS, options, UNIGRAMS)
    assert [each.score for each in found] == [-2.0, -3.0, -1.0, -4.0, -1.0]
    assert found[0].matches == [Match(CD, 2, -2.0)]
    assert stage_1(ROWS, KEYS, options) == [0, 2, 1, 3]
    assert totals([[E]], KEYS, options) == [-math.inf]


def test_variant_lm_in_stage_1_sees_a_likely_key_within_a_heavier_one():
    """(A,) lies in (A, B), which weighs more but is less likely; row 1 has (C,) at -2 alone."""
    keys = [key([A, B], 9.0, -3.0), key([A], 1.0, -1.0), key([C], 1.0, -2.0)]
    options = ScoringOptions(variant="lm", n_candidates=1)
    assert stage_1([[A, B], [C]], keys, options) == [0]


# what holds for any corpus


@pytest.mark.parametrize("variant", VARIANTS)
def test_ranking_does_not_depend_on_the_order_of_rows_or_keys(variant):
    options = ScoringOptions(variant=variant)
    keys = [*KEYS, key([B], 0.5, -2.5), key([E], 0.25, -5.0)]
    scores = totals(ROWS, keys, options, UNIGRAMS)
    expected = {tuple(ROWS[row]) for row in stage_1(ROWS, keys, options)}
    for order in itertools.permutations(range(5)):
        rows = [ROWS[i] for i in order]
        assert totals(rows, keys[::-1], options, UNIGRAMS) == [scores[i] for i in order]
        assert {tuple(rows[row]) for row in stage_1(rows, keys[::-1], options)} == expected


def test_order_of_candidates_does_not_depend_on_the_order_of_rows():
    for order in itertools.permutations(range(5)):
        rows = [ROWS[i] for i in order]
        found = [order[row] for row in stage_1(rows, KEYS, ScoringOptions())]
        assert found == [0, 1, 3, 2]


def test_equal_rows_are_ordered_by_their_number():
    assert stage_1([[A, B], [E], [A, B]], KEYS, ScoringOptions(n_candidates=1)) == [0, 2]


def test_rows_of_equal_score_are_ordered_by_their_number_whatever_keys_they_hold():
    assert stage_1([[B, C], [A, B]], [key([A, B], 5.0), key([B, C], 5.0)], ScoringOptions()) == [
        0,
        1,
    ]


corpora = st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=5)
key_weights = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
    st.floats(0.1, 9),
    min_size=1,
    max_size=8,
)


@given(rows=corpora, weights=key_weights, beta=st.floats(0, 1))
@examples(150)
def test_matches_never_overlap_and_never_add_more_than_their_weight(rows, weights, beta):
    keys = [key(tokens, weight) for tokens, weight in weights.items()]
    for found in stage_2(rows, keys, ScoringOptions(beta=beta)):
        used = [match.offset + i for match in found.matches for i in range(len(match.key.tokens))]
        assert len(used) == len(set(used))
        assert len({match.key.tokens for match in found.matches}) == len(found.matches)
        assert all(match.added <= match.key.weight for match in found.matches)
        assert math.isfinite(found.score)


@given(rows=corpora, weights=key_weights)
@examples(100)
def test_every_row_that_holds_a_key_is_a_candidate_and_no_other(rows, weights):
    keys = [key(tokens, weight) for tokens, weight in weights.items()]
    holding = [each.row for each in stage_2(rows, keys, ScoringOptions()) if each.matches]
    for variant in VARIANTS:
        found = stage_1(rows, keys, ScoringOptions(variant=variant))
        assert sorted(found) == holding


def test_places_and_counts_of_an_index_lead_to_the_hand_computed_scores():
    index = NgramIndex.build(ROWS, 7)
    states = {each.tokens: index.find(each.tokens) for each in KEYS}
    places = {tokens: index.locate(state) for tokens, state in states.items() if state}
    by_tokens = {each.tokens: each for each in KEYS}
    ranked = candidates(KEYS, places, ScoringOptions())
    assert [index.count(states[each.tokens]) for each in KEYS] == [2, 3, 3, 2]
    assert ranked == [0, 1, 3, 2]
    assert [
        round(score_row(row, index.row(row), by_tokens, UNIGRAMS, ScoringOptions()).score, 9)
        for row in ranked
    ] == [16.0, 15.8, 9.0, 11.0]


# what beta and alpha are for


def ranks_among_spam(options: ScoringOptions) -> list[int]:
    """The rank of the row that answers, for 5 queries of three words each.

    It holds the query's words once, in a sentence; 50 rows of spam hold four of their six orders,
    each an n-gram of its own, with other words between.
    """
    found = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        words = (10, 11, 12)
        orders = list(itertools.permutations(words))
        answer = [20, 10, 11, 12, 21, 22, 23, 24]
        rows = [answer]
        for _ in range(50):
            chosen = [orders[i] for i in generator.permutation(6)[:4]]
            rows.append([token for order in chosen for token in (*order, 30 + len(rows))])
        # The model finds the query's words likely in any order, and the sentence's own n-gram.
        keys = [key(order, ngram_weight(-2.0, 40, 10_000)) for order in orders]
        keys.append(key((21, 22, 23), ngram_weight(-4.0, 1, 10_000)))
        scores = totals(rows, keys, options)
        assert stage_1(rows, keys, ScoringOptions(beta=options.beta, n_candidates=60))
        found.append(1 + sum(score > scores[0] for score in scores[1:]))
    return found


def test_beta_when_spam_reshuffles_the_query_words_puts_the_answer_first():
    assert ranks_among_spam(ScoringOptions(beta=0.8)) == [1] * 5
    assert ranks_among_spam(ScoringOptions(beta=0.0)) == [51] * 5


def test_alpha_when_two_lets_one_telling_key_outweigh_several_weak_ones():
    """Log-odds 6 against three of 3: 6 < 9, but 36 > 27."""
    rows = [[1, 2], [3, 4, 5]]
    ranked = {}
    for alpha in (1.0, 2.0):
        keys = [key([1, 2], 6.0**alpha), *(key([token], 3.0**alpha) for token in (3, 4, 5))]
        ranked[alpha] = stage_1(rows, keys, ScoringOptions()), totals(rows, keys, ScoringOptions())
    assert ranked == {1.0: ([1, 0], [6.0, 9.0]), 2.0: ([0, 1], [36.0, 27.0])}


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0.0}, {"smoothing": 0.0}, {"beta": -0.1}, {"beta": 1.1}, {"variant": "best"}],
)
def test_scoring_options_when_one_is_out_of_range_raises_value_error(options):
    with pytest.raises(ValueError, match="expected"):
        ScoringOptions(**options)


@pytest.mark.parametrize(
    "wrong",
    [{"n_candidates": 0}, {"n_unigrams": -1}, {"max_frequency": -1}, {"alpha": math.nan}],
)
def test_scoring_options_when_they_would_keep_nothing_raise_value_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScoringOptions(**wrong)
