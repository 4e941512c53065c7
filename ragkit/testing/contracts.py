"""Contract tests for implementations of ragkit's protocols.

The `check_*` functions raise AssertionError on a violation. They compare ids and scores with a
reference implementation: NumPy for vectors, a loop over the BM25 formula for terms, a scan of the
rows for tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ragkit.collection.description import check_storable
from ragkit.testing.fakes import unit_vectors
from ragkit.types import (
    Answer,
    Chunk,
    Embedder,
    Hit,
    Mask,
    Reader,
    Retriever,
    TermIndex,
    TokenIndex,
    VectorIndex,
    Vectors,
)


def check_vector_index(build: Callable[[Vectors], VectorIndex]) -> None:
    """Check ids and scores of a vector index against NumPy, with ties, filters and bad input."""
    vectors = unit_vectors(200, 16, seed=0)
    vectors[100:110] = vectors[90:100]  # ties
    queries = np.concatenate([unit_vectors(8, 16, seed=1), vectors[90:92]])
    index = build(vectors)
    generator = np.random.default_rng(2)
    for k in (1, 10, 300):
        for allowed in (
            None,
            generator.random(200) < 0.5,
            np.arange(200) == 3,
            np.zeros(200, bool),
        ):
            scores, rows = index.search(queries, k, allowed=allowed)
            assert scores.shape == rows.shape == (len(queries), k), (scores.shape, rows.shape)
            assert scores.dtype == np.float32, scores.dtype
            assert rows.dtype == np.int64, rows.dtype
            for query, query_scores, query_rows in zip(queries, scores, rows, strict=True):
                exact = np.round(vectors.astype(np.float64) @ query.astype(np.float64), 6)
                order = [
                    int(r)
                    for r in np.lexsort((np.arange(200), -exact))
                    if allowed is None or allowed[r]
                ][:k]
                missing = k - len(order)
                assert query_rows.tolist() == order + [-1] * missing, (k, query_rows, order)
                expected = [*exact[order], *[-np.inf] * missing]
                np.testing.assert_allclose(query_scores, expected, atol=1e-6)
    for bad in (0, -1):
        _must_raise(lambda k=bad: index.search(queries, k))  # type: ignore[misc]
    _must_raise(lambda: index.search(queries, 1, allowed=np.ones(3, dtype=bool)))


def check_term_index(
    build: Callable[[Sequence[Sequence[str]]], TermIndex], *, k1: float = 1.5, b: float = 0.5
) -> None:
    """Check a BM25 index against a loop over the formula."""
    rows = [["gap", "band", "gap"], [], ["band"], ["oxide", "band", "gap"], ["gap", "band", "gap"]]
    index = build(rows)
    mean = sum(map(len, rows)) / len(rows)
    for query in (["gap"], ["gap", "oxide", "gap"], ["absent"], []):
        expected = [0.0] * len(rows)
        for term in query:
            df = sum(term in row for row in rows)
            idf = math.log(1 + (len(rows) - df + 0.5) / (df + 0.5))
            for i, row in enumerate(rows):
                tf = row.count(term)
                length = 1 - b + b * len(row) / mean
                expected[i] += idf * tf / (tf + k1 * length) if tf else 0.0
        for allowed in (None, np.array([True, True, True, False, False])):
            scores, rows_found = index.search([query], 10, allowed=allowed)
            candidates = [i for i in range(len(rows)) if allowed is None or allowed[i]]
            order = sorted(
                (i for i in candidates if expected[i] > 0),
                key=lambda i: (-round(expected[i], 6), i),
            )
            assert rows_found[0].tolist() == order + [-1] * (10 - len(order)), (
                query,
                rows_found,
                order,
            )
            np.testing.assert_allclose(
                scores[0][: len(order)], [expected[i] for i in order], atol=1e-6
            )
    _must_raise(lambda: index.search([["gap"]], 0))


def check_token_index(
    build: Callable[[Sequence[Sequence[int]], int], TokenIndex], *, anchored: bool = False
) -> None:
    """Check a token index and its restricted views against a scan of the rows.

    Args:
        build: Builds the index from non-empty rows and the size of the vocabulary.
        anchored: Prefixes start at the beginning of a row (a trie), not anywhere (an n-gram index).
    """
    rows = [[3, 1, 3, 1, 3], [7], [3, 1], [0, 7, 7, 7], [3, 1], [7, 0, 3, 1, 3, 8], [9]]
    index = build(rows, 10)
    first_half = np.arange(len(rows)) < 3
    some = np.array([False, True, False, True, True, False, False])
    _check_tokens(index, rows, np.ones(len(rows), dtype=np.bool_), anchored)
    for allowed in (first_half, some, ~some, np.zeros(len(rows), dtype=np.bool_)):
        view = index.restricted(allowed)
        _check_tokens(view, rows, allowed, anchored)
        _check_tokens(view.restricted(first_half), rows, allowed & first_half, anchored)
    _check_tokens(
        index, rows, np.ones(len(rows), dtype=np.bool_), anchored
    )  # views must not modify the index
    _must_raise(lambda: index.restricted(np.ones(3, dtype=np.bool_)))
    _must_raise(lambda: index.allowed_mask([index.start()], 9))
    for bad in (-1, len(rows)):
        _must_raise(lambda i=bad: index.row(i))  # type: ignore[misc]


def _check_tokens(
    index: TokenIndex, rows: Sequence[Sequence[int]], allowed: Mask, anchored: bool
) -> None:
    active_rows = [list(row) if keep else [] for row, keep in zip(rows, allowed, strict=True)]
    assert (index.vocab_size, index.n_rows) == (10, len(rows)), (index.vocab_size, index.n_rows)
    assert index.n_tokens == sum(map(len, active_rows)), index.n_tokens
    assert [index.row(i).tolist() for i in range(len(rows))] == [list(row) for row in rows]
    firsts = [token for row in active_rows for token in (row[:1] if anchored else row)]
    counts = index.token_counts()
    assert counts.dtype == np.int64, counts.dtype
    assert counts.tolist() == [*map(firsts.count, range(10))], counts
    ngrams = [row[i:j] for row in rows for i in range(len(row)) for j in range(i, len(row) + 1)]
    successors_by_state = {}
    for ngram in [*map(list, ngrams), [2], [3, 3], [7, 7, 7, 7], [-1], [10], [11], [3, 10]]:
        occurrences = [
            (i, start)
            for i, row in enumerate(active_rows)
            for start in range(min(1, len(row)) if anchored else len(row))
            if row[start : start + len(ngram)] == ngram
        ]
        state = index.find(ngram)
        if ngram and not occurrences:
            assert state is None, (ngram, state)
            continue
        successors = {
            active_rows[i][j + len(ngram)]
            for i, j in occurrences
            if j + len(ngram) < len(active_rows[i])
        }
        assert index.count(state) == len(occurrences), (ngram, index.count(state), occurrences)
        assert index.successors(state).tolist() == sorted(successors), (ngram, sorted(successors))
        for limit in (None, 0, 1, 2, 100):
            row_numbers, offsets = index.locate(state, limit)
            locations = list(zip(row_numbers.tolist(), offsets.tolist(), strict=True))
            assert locations == occurrences[:limit], (ngram, limit, locations, occurrences)
        for token in range(-1, 12):
            advanced = index.advance(state, token)
            assert (advanced is not None) == (token in successors), (ngram, token)
            assert advanced is None or advanced == index.find([*ngram, token]), (ngram, token)
        successors_by_state[state] = sorted(successors)  # states must be hashable
    assert [tokens.tolist() for tokens in index.successors_of(list(successors_by_state))] == [
        *successors_by_state.values()
    ]
    assert all(
        tokens.dtype == np.int64 for tokens in index.successors_of(list(successors_by_state))
    )
    mask = index.allowed_mask(list(successors_by_state), 12)
    assert (mask.dtype, mask.shape) == (np.dtype(np.bool_), (len(successors_by_state), 12)), (
        mask.shape
    )
    assert [np.flatnonzero(row).tolist() for row in mask] == [*successors_by_state.values()]
    assert index.successors_of([]) == []
    assert index.allowed_mask([], 10).shape == (0, 10)


def check_embedder(embedder: Embedder, *, tolerance: float = 0.0) -> None:
    """Check shapes, unit length, that vectors do not depend on the batch, and name and fingerprint.

    Args:
        embedder: The embedder.
        tolerance: Maximum difference between the vectors of a text embedded alone and in a batch;
            0 requires identical bits.
    """
    try:
        check_storable(embedder.name, embedder.fingerprint, embedder.dim)
    except ValueError as error:
        raise AssertionError(f"no collection can store it: {error}") from error
    texts = ["Gallium arsenide", "", "a " * 40, "Ünïcödé 鋼鉄 ✓", "Gallium arsenide", "x" * 300]
    for embed in (embedder.embed_queries, embedder.embed_passages):
        rows = embed(texts)
        assert rows.dtype == np.float32, rows.dtype
        assert rows.shape == (len(texts), embedder.dim), rows.shape
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
        for i, text in enumerate(texts):
            difference = np.abs(embed([text])[0] - rows[i]).max()
            assert difference <= tolerance, (text, difference)
        assert embed([]).shape == (0, embedder.dim)
    assert len(embedder.fingerprint) >= 16
    spans = embedder.tokenizer.spans(texts)
    for text, tokens in zip(texts, spans, strict=True):
        assert all(0 <= start <= end <= len(text) for start, end in tokens)


def check_retriever(retriever: Retriever, queries: Sequence[str]) -> None:
    """Check sort order, counts, score parts and determinism of a retriever over some content."""
    runs = retriever.retrieve(queries, 5)
    assert len(runs) == len(queries)
    for query, hits in zip(queries, runs, strict=True):
        assert len(hits) <= 5
        keys = [(-hit.score, hit.chunk.id) for hit in hits]
        assert keys == sorted(keys), keys
        assert len({hit.chunk.id for hit in hits}) == len(hits)
        for hit in hits:
            assert hit.score == round(hit.score, 6)
            last = [part for part in hit.parts if part.stage == hit.parts[-1].stage]
            total = sum(part.weight * part.score for part in last)
            assert abs(total - hit.score) <= 1e-6 * max(1.0, abs(total)) + 1e-6, (total, hit)
        assert retriever.retrieve([query], 5)[0] == hits, "alone and in a batch differ"
        assert retriever.retrieve([query], 2)[0] == hits[:2], "a smaller k must be a prefix"
    assert retriever.retrieve([], 5) == []
    for bad in (0, -3):
        _must_raise(lambda k=bad: retriever.retrieve(queries, k))  # type: ignore[misc]
    _must_raise(lambda: retriever.retrieve([""], 5))


def check_reader(reader: Reader, question: str, hits: Sequence[Hit]) -> Answer:
    """Check that an answer is consistent with its events and hits; return the answer."""
    events = list(reader.stream(question, hits))
    assert [event.kind for event in events].count("answer") == 1
    assert events[-1].kind == "answer"
    answer = events[-1].answer
    assert answer is not None
    assert answer == reader.read([question], [hits])[0], "read and stream differ"
    assert (answer.question, answer.hits) == (question, tuple(hits)), "question or hits differ"
    losses = [event.loss for event in events if event.kind == "loss"]
    assert list(answer.losses) == losses, (answer.losses, losses)
    sentences = [event.text for event in events if event.kind == "sentence"]
    assert [answer.text[s.start : s.end] for s in answer.sentences] == sentences
    chunks: dict[str, Chunk] = {hit.chunk.id: hit.chunk for hit in hits}
    for citation in answer.citations:
        chunk = chunks[citation.chunk_id]
        assert chunk.start <= citation.start <= citation.end <= chunk.end
        local = chunk.text[citation.start - chunk.start : citation.end - chunk.start]
        assert local == citation.quote
    for sentence in answer.sentences:
        assert all(1 <= n <= len(answer.citations) for n in sentence.citations)
        marks = "".join(f" [{n}]" for n in sentence.citations)
        marks += "" if sentence.supported else f" [{sentence.support}]"
        assert answer.text[sentence.start : sentence.end].endswith(marks), (answer.text, marks)
        assert bool(sentence.citations) or not sentence.supported
    assert (answer.refusal is None) == bool(answer.sentences)
    empty_answer = reader.read([question], [[]])[0]
    assert empty_answer.refusal is not None
    assert empty_answer.refusal.reason == "no_hits"
    return answer


def _must_raise(call: Callable[[], object]) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError("expected a ValueError")
