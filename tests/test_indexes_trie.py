import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.ngram import NgramIndex
from ragkit.indexes.trie import SegmentedTrie, Trie
from ragkit.testing import check_token_index
from ragkit.types import TokenIndex

identifiers = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=10)


def prefixes(rows):
    return sorted(
        {tuple(row[:n]) for row in rows for n in range(len(row) + 1)} | {(), (0, 0), (3,)}
    )


def check_against_a_scan(trie, rows):
    """Compare with rows of which those that are not allowed are None."""
    for prefix in prefixes([row for row in rows if row is not None]):
        n = len(prefix)
        below = [i for i, row in enumerate(rows) if row is not None and tuple(row[:n]) == prefix]
        state = trie.find(prefix)
        if state is None:
            assert below == []
            continue
        assert trie.count(state) == len(below)
        follow = {rows[i][n] for i in below if len(rows[i]) > n}
        assert trie.successors(state).tolist() == sorted(follow)
        assert [found.tolist() for found in trie.locate(state)] == [below, [0] * len(below)]
        whole = [i for i in below if len(rows[i]) == n]
        assert trie.ids(state).tolist() == whole
        assert trie.is_end(state) == bool(whole)


def test_trie_keeps_the_promises_of_a_token_index():
    check_token_index(Trie.build, anchored=True)
    assert isinstance(Trie.build([[1]], 2), TokenIndex)


def test_segmented_trie_keeps_the_promises_of_a_token_index():
    check_token_index(
        lambda rows, size: SegmentedTrie([Trie.build(rows[:2], size), Trie.build(rows[2:], size)]),
        anchored=True,
    )


def test_check_token_index_tells_a_trie_from_an_ngram_index():
    with pytest.raises(AssertionError):
        check_token_index(NgramIndex.build, anchored=True)


@given(identifiers, st.integers(0, 2**32 - 1))
def test_trie_of_any_identifiers_answers_like_a_scan(rows, seed):
    trie = Trie.build(rows, 4)
    check_against_a_scan(trie, rows)
    allowed = np.random.default_rng(seed).random(len(rows)) < 0.5
    live = [row if keep else None for row, keep in zip(rows, allowed, strict=True)]
    check_against_a_scan(trie.restricted(allowed), live)
    cut = seed % (len(rows) + 1)
    parts = [Trie.build(rows[:cut], 4), Trie.build(rows[cut:], 4)]
    check_against_a_scan(SegmentedTrie(parts), rows)
    check_against_a_scan(SegmentedTrie(parts).restricted(allowed), live)


def test_walk_to_the_end_token_finds_all_ids_of_a_title():
    trie = Trie.build([[4, 2], [4], [4, 2], [5, 2]], 10, end_token=9)
    state = trie.start()
    for token, following in [(4, [2, 9]), (2, [9]), (9, [])]:
        assert not trie.is_end(state)
        state = trie.advance(state, token)
        assert trie.successors(state).tolist() == following
    assert trie.ids(state).tolist() == [0, 2]
    assert trie.row(1).tolist() == [4, 9]
    assert trie.restricted(np.array([False, True, True, True])).ids(state).tolist() == [2]
    assert trie.advance(trie.start(), 2) is None  # inside a title only


def test_walks_along_the_successors_reach_every_identifier_and_nothing_else():
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 40, generator.integers(1, 6)).tolist() for _ in range(300)]
    trie, reached, open_states = Trie.build(rows, 41, end_token=40), [], []
    open_states = [((), trie.start())]
    while open_states:
        prefix, state = open_states.pop()
        if trie.is_end(state):
            reached.append(prefix)
        for token in trie.successors(state).tolist():
            open_states.append(((*prefix, token), trie.advance(state, token)))
    assert sorted(reached) == sorted({(*row, 40) for row in rows})


def test_build_with_an_empty_identifier_is_refused():
    with pytest.raises(ValueError, match="identifier 1 is empty"):
        Trie.build([[1], [], []], 4, end_token=3)


def test_build_with_a_long_identifier_is_refused_unless_asked_for():
    rows = [[1], [1] * 65, [2] * 66]
    with pytest.raises(ValueError, match="identifier 1 has 65 tokens; expected at most 64"):
        Trie.build(rows, 4, end_token=3)
    assert Trie.build([[1] * 64], 4, end_token=3).row(0).tolist() == [*[1] * 64, 3]
    assert Trie.build(rows, 4, max_length=None).row(2).tolist() == [2] * 66


@pytest.mark.parametrize("token", [4, -1])
def test_build_with_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=f"row 0 contains the token {token}"):
        Trie.build([[1]], 4, end_token=token)


def test_build_with_fractions_is_refused():
    with pytest.raises(ValueError, match="row 0 is float64"):
        Trie.build([[1.5]], 4, end_token=3)


@pytest.mark.parametrize("rows", [[[1, 2], [1], [300, 2], [1, 2], [299]], []])
@pytest.mark.parametrize("vocab_size", [400, 70_000])
def test_saved_trie_loads_the_same(tmp_path, rows, vocab_size):
    Trie.build(rows, vocab_size, tokenizer="t1").save(tmp_path)
    trie = Trie.load(tmp_path, tokenizer="t1")
    check_against_a_scan(trie, rows)
    with pytest.raises(CollectionError, match="'t1'"):
        Trie.load(tmp_path, tokenizer="t2")
    with pytest.raises(CorruptCollection, match="expected 'ngrams'"):
        NgramIndex.load(tmp_path, tokenizer="t1")


def test_trie_with_suffixes_outside_its_tokens_says_so(tmp_path):
    Trie.build([[1, 2], [1, 3]], 4).save(tmp_path)
    np.save(tmp_path / "suffixes.npy", np.array([0, 1 << 31], dtype=np.uint32))
    trie = Trie.load(tmp_path, tokenizer="")
    state = trie.find([1])
    for call in (trie.ids, trie.is_end, trie.successors, trie.locate):
        with pytest.raises(CorruptCollection, match="index repair"):
            call(state)
