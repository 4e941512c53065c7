import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.errors import CollectionError, CorruptCollection, FormatMismatch
from ragkit.indexes.live import LiveBits
from ragkit.indexes.ngram import NgramIndex, SegmentedNgramIndex
from ragkit.indexes.suffix_array import suffix_array
from ragkit.indexes.token_rows import TokenRows
from ragkit.testing import check_token_index
from ragkit.types import TokenIndex

VOCABULARY = 5
row = st.lists(st.integers(0, 2) | st.integers(0, VOCABULARY - 1), max_size=12)
corpora = st.lists(row, max_size=8)


def ngrams(rows, longest=5):
    """Every n-gram of the rows, and some that are none."""
    known = {
        tuple(row[i:j])
        for row in rows
        for i in range(len(row))
        for j in range(i, min(i + longest, len(row)) + 1)
    }
    return sorted(known | {(), (0, 0, 0), (2, 1), (4, 3)})


def scan(rows, ngram):
    """Places of an n-gram and the tokens that follow it, by looking everywhere."""
    n = len(ngram)
    places = [
        (i, j)
        for i, row in enumerate(rows)
        for j in range(len(row))
        if tuple(row[j : j + n]) == ngram
    ]
    return places, sorted({rows[i][j + n] for i, j in places if j + n < len(rows[i])})


def answers(index, ngram):
    """What an index says of an n-gram, in the form of `scan`."""
    state = index.find(ngram)
    if state is None:
        return [], []
    rows, offsets = index.locate(state)
    assert index.count(state) == len(rows)
    return list(zip(rows.tolist(), offsets.tolist(), strict=True)), index.successors(state).tolist()


def split(generator, n, parts):
    return np.split(np.arange(n), sorted(generator.integers(0, n + 1, parts - 1)))


def test_ngram_index_keeps_the_promises_of_a_token_index():
    check_token_index(NgramIndex.build)
    assert isinstance(NgramIndex.build([[1]], 2), TokenIndex)


def test_segmented_ngram_index_keeps_the_promises_of_a_token_index():
    def build(rows, vocab_size):
        parts = [rows[:1], [], rows[1:4], rows[4:]]
        return SegmentedNgramIndex([NgramIndex.build(part, vocab_size) for part in parts])

    check_token_index(build)


@pytest.mark.parametrize("wrong", ["count", "successors", "locate", "advance"])
def test_check_token_index_with_a_wrong_index_fails(wrong):
    class Wrong(NgramIndex):
        def count(self, state):
            return super().count(state) + (wrong == "count")

        def successors(self, state):
            return super().successors(state)[: 3 if wrong == "successors" else None]

        def locate(self, state, limit=None):
            rows, offsets = super().locate(state, limit)
            return rows, offsets + (wrong == "locate")

        def advance(self, state, token):
            return super().advance(state, 3 if wrong == "advance" else token)

    with pytest.raises(AssertionError):
        check_token_index(Wrong.build)


@given(corpora, st.sampled_from([VOCABULARY, 65_535, 65_536, 1 << 30]))
def test_suffix_array_is_the_order_of_the_suffixes(rows, vocab_size):
    packed = TokenRows.pack(rows, vocab_size)
    places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
    places.sort(key=lambda place: ([*rows[place[0]][place[1] :], vocab_size], place))
    expected = [int(packed.starts[i]) + j for i, j in places]
    assert suffix_array(packed).tolist() == expected


def test_suffix_array_with_long_repeats_and_wide_tokens_is_the_order_of_the_suffixes():
    generator = np.random.default_rng(0)
    base = generator.integers(0, 70_000, 60)
    rows = [np.tile(base[: generator.integers(1, 60)], 3) for _ in range(20)]
    packed = TokenRows.pack([*rows, *rows, [], [1] * 300], 70_000)
    tokens, ends = packed.tokens.tolist(), np.repeat(packed.starts[1:], np.diff(packed.starts))
    inside = [p for p in range(len(tokens)) if tokens[p] != 70_000]
    assert suffix_array(packed).tolist() == sorted(inside, key=lambda p: (tokens[p : ends[p]], p))


@given(corpora)
def test_index_of_any_rows_answers_like_a_scan(rows):
    index = NgramIndex.build(rows, VOCABULARY)
    for ngram in ngrams(rows):
        assert answers(index, ngram) == scan(rows, ngram)


@given(corpora, st.integers(0, 2**32 - 1))
def test_restricted_view_answers_like_a_scan_of_the_allowed_rows(rows, seed):
    allowed = np.random.default_rng(seed).random(len(rows)) < 0.5
    index = NgramIndex.build(rows, VOCABULARY)
    view = index.restricted(allowed)
    live = [row if keep else [] for row, keep in zip(rows, allowed, strict=True)]
    assert view.n_tokens == sum(map(len, live)) == view.count(view.start())
    for ngram in ngrams(rows):
        assert answers(view, ngram) == scan(live, ngram)
        state = index.find(ngram)  # a state belongs to the index and all its views
        if state is not None:
            assert view.count(state) == len(scan(live, ngram)[0])
            assert view.successors(state).tolist() == scan(live, ngram)[1]


@given(st.lists(st.lists(row, max_size=5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_segments_after_adds_and_deletes_answer_like_one_rebuilt_index(added, seed):
    generator = np.random.default_rng(seed)
    masks = [generator.random(len(rows)) < 0.7 for rows in added]
    views = [
        NgramIndex.build(rows, VOCABULARY).restricted(mask)
        if not mask.all()
        else NgramIndex.build(rows, VOCABULARY)
        for rows, mask in zip(added, masks, strict=True)
    ]
    kept = SegmentedNgramIndex(views)
    every = [row for rows in added for row in rows]
    live = np.flatnonzero(np.concatenate(masks))  # global numbers of the live rows
    fresh = NgramIndex.build([every[i] for i in live], VOCABULARY)
    assert (kept.n_tokens, kept.n_rows) == (fresh.n_tokens, len(every))
    for ngram in ngrams(every):
        places, follow = answers(fresh, ngram)
        assert answers(kept, ngram) == ([(int(live[i]), j) for i, j in places], follow)
    found = [state for ngram in ngrams(every) if (state := kept.find(ngram)) is not None]
    expected = [kept.successors(state).tolist() for state in found]
    assert [tokens.tolist() for tokens in kept.successors_of(found)] == expected


def test_index_of_many_tokens_answers_like_a_scan():
    generator = np.random.default_rng(1)
    rows = [
        (generator.zipf(1.3, length) % 3000).tolist() for length in generator.integers(0, 400, 60)
    ]
    index = NgramIndex.build(rows, 3000)
    allowed = generator.random(60) < 0.2
    view = index.restricted(allowed)
    live = [row if keep else [] for row, keep in zip(rows, allowed, strict=True)]
    asked = [(), (1,), (2,), (1, 1), (7, 1), *[tuple(row[3:6]) for row in rows if len(row) > 6]]
    for ngram in asked:
        assert answers(index, ngram) == scan(rows, ngram)
        assert answers(view, ngram) == scan(live, ngram)
    states = [state for ngram in asked if (state := view.find(ngram)) is not None]
    mask = view.allowed_mask(states, 4000)
    for state, allowed_tokens in zip(states, mask, strict=True):
        assert np.flatnonzero(allowed_tokens).tolist() == view.successors(state).tolist()


@given(st.lists(st.booleans(), max_size=300), st.data())
def test_live_bits_count_like_a_sum(flags, data):
    bits = LiveBits(np.array(flags, dtype=bool))
    low = data.draw(st.integers(0, len(flags)))
    high = data.draw(st.integers(low, len(flags)))
    assert bits.count(low, high) == sum(flags[low:high])
    assert bits.counts(np.array([low]), np.array([high])).tolist() == [sum(flags[low:high])]
    assert bits.positions(low, high).tolist() == [i for i in range(low, high) if flags[i]]


def test_live_bits_take_one_and_a_half_bits_an_entry():
    assert LiveBits(np.ones(64_000, dtype=bool)).nbytes == pytest.approx(64_000 * 1.5 / 8, rel=0.01)


@pytest.mark.parametrize("vocab_size", [VOCABULARY, 70_000])
@pytest.mark.parametrize("rows", [[[1, 2, 1], [], [2]], [], [[]]])
def test_saved_index_loads_the_same(tmp_path, rows, vocab_size):
    index = NgramIndex.build(rows, vocab_size, tokenizer="t1", granularity="sentence")
    files = index.save(tmp_path)
    assert sorted(files) == sorted(tmp_path.iterdir())
    again = NgramIndex.load(tmp_path, tokenizer="t1")
    assert (again.granularity, again.tokenizer, again.vocab_size) == ("sentence", "t1", vocab_size)
    assert again.nbytes == index.nbytes
    for ngram in ngrams(rows):
        assert answers(again, ngram) == scan(rows, ngram)
    kept = [file.read_bytes() for file in files]
    (tmp_path / "again").mkdir()
    assert [file.read_bytes() for file in again.save(tmp_path / "again")] == kept


def test_saved_view_holds_all_rows(tmp_path):
    NgramIndex.build([[1], [2]], 3).restricted(np.array([True, False])).save(tmp_path)
    assert NgramIndex.load(tmp_path, tokenizer="").n_tokens == 2


def test_load_with_another_tokenizer_is_refused(tmp_path):
    NgramIndex.build([[1]], 3, tokenizer="t1").save(tmp_path)
    with pytest.raises(
        CollectionError, match="built with the tokenizer 't1', but the model uses 't2'"
    ):
        NgramIndex.load(tmp_path, tokenizer="t2")


def test_load_of_another_format_is_refused(tmp_path):
    NgramIndex.build([[1]], 3).save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(FormatMismatch, match="format 99"):
        NgramIndex.load(tmp_path, tokenizer="")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "trie"},
        {"vocab_size": 70_000},
        {"vocab_size": 0},
        {"vocab_size": 2},
        {"vocab_size": "3"},
        {"tokenizer": None},
        {"granularity": 3},
    ],
)
def test_load_with_damaged_metadata_is_refused(tmp_path, change):
    NgramIndex.build([[1, 2], [2]], 3).save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(about | change))
    with pytest.raises(CorruptCollection, match="cannot be read"):
        NgramIndex.load(tmp_path, tokenizer="")


NAMES = ["tokens", "starts", "suffixes", "first_tokens", "first_ends"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 3000, '{"format": 1}'])
def test_load_with_nonsense_metadata_is_refused(tmp_path, text):
    NgramIndex.build([[1]], 3).save(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CorruptCollection, match="cannot be read"):
        NgramIndex.load(tmp_path, tokenizer="")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign", "folder", "shorter", "other type"])
def test_load_with_a_damaged_array_is_refused(tmp_path, name, damage):
    NgramIndex.build([[1, 2, 1], [2]], 3).save(tmp_path)
    file = tmp_path / f"{name}.npy"
    array, data = np.load(file), file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "foreign":
        file.write_bytes(b"PK\x03\x04" + data)
    elif damage == "shorter":
        np.save(file, array[:-1])
    elif damage == "other type":
        np.save(file, array.astype(np.float64))
    with pytest.raises(CorruptCollection, match="cannot be read"):
        NgramIndex.load(tmp_path, tokenizer="")


@examples(200)
@given(st.data())
def test_arrays_of_any_content_give_an_answer_or_an_error_of_ours(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("index")
    rows = [[1, 2, 1, 2], [2, 1], [1, 2, 2], [0]]
    NgramIndex.build(rows, 3).save(folder)
    file = folder / f"{data.draw(st.sampled_from(NAMES))}.npy"
    array = np.load(file)
    info = np.iinfo(array.dtype)
    some = st.integers(0, 20) | st.integers(int(info.min), int(info.max))
    array[data.draw(st.integers(0, len(array) - 1))] = data.draw(some)
    np.save(file, array)
    try:
        index = NgramIndex.load(folder, tokenizer="")
        view = index.restricted(np.array([True, False, True, True]))
        for ngram in ngrams(rows):
            for each in (index, view):
                state = each.find(ngram)
                if state is not None:
                    each.locate(state)
                    each.successors(state)
                    each.allowed_mask([state], 3)
        index.row(0)
    except CollectionError:
        pass
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("rows", "vocab_size", "match"),
    [
        ([[1], [3]], 3, "row 1 contains the token 3; expected 0 to 2"),
        ([[-1]], 3, "row 0 contains the token -1"),
        ([[0.5]], 3, "row 0 is float64"),
        ([[[1]]], 3, "expected a sequence of token ids"),
        ([], 0, "vocab_size is 0"),
        ([], 1 << 31, "vocab_size is 2147483648"),
    ],
)
def test_build_with_bad_rows_is_refused(rows, vocab_size, match):
    with pytest.raises(ValueError, match=match):
        NgramIndex.build(rows, vocab_size)


def test_locate_with_a_negative_limit_is_refused():
    index = NgramIndex.build([[1]], 3)
    with pytest.raises(ValueError, match="limit is -1"):
        index.locate(index.start(), -1)


def test_segments_of_two_tokenizers_are_refused():
    one, other = (NgramIndex.build([[1]], 3, tokenizer=name) for name in "ab")
    with pytest.raises(ValueError, match="expected one"):
        SegmentedNgramIndex([one, other])
    with pytest.raises(ValueError, match="no segments"):
        SegmentedNgramIndex([])


def test_same_rows_in_another_order_count_the_same():
    rows = [[1, 2, 1], [2, 2], [], [1, 2]]
    one, other = NgramIndex.build(rows, 3), NgramIndex.build(rows[::-1], 3)
    for ngram in ngrams(rows):
        states = one.find(ngram), other.find(ngram)
        assert (states[0] is None) == (states[1] is None)
        if states[0] is not None:
            assert one.count(states[0]) == other.count(states[1])
            assert one.successors(states[0]).tolist() == other.successors(states[1]).tolist()
