"""The pair model: windows, spans, weights, and the graph against transformers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pair_models import tiny_base, tiny_pair
from properties import examples
from safetensors.numpy import load_file, save_file

from ragkit import models
from ragkit.errors import ModelError
from ragkit.pair.encoding import FIRST_TOKENS, PairTokenizer, Window
from ragkit.pair.graph import pack, unpack
from ragkit.pair.model import LONGEST, PairModel, best_span

QUESTION = "What is the band gap of silicon?"
PASSAGES = ["Silicon has an indirect gap of 1.12 eV. It is grey.", "Iron rusts.", "Wood " * 700]


@pytest.fixture(scope="module")
def tokenizer():
    return PairTokenizer(models.resolve("minilm") / "tokenizer.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def model(folder):
    return PairModel(folder, precision="fp32")


@given(n_first=st.integers(0, 200), n_second=st.integers(0, 900), window=st.integers(130, 400))
@examples(30)
def test_windows_cover_every_token_in_order(tokenizer, n_first, n_second, window):
    first, second = tokenizer.tokenize(["of " * n_first, "wood " * n_second])
    windows = tokenizer.windows(first, second, window)
    seen = set()
    for part in windows:
        assert len(part.ids) <= window
        assert part.n_first == min(n_first, FIRST_TOKENS) + 2
        assert len(part.ids) == part.n_first + len(part.offsets) + 1
        assert (part.ids[0], part.ids[part.n_first - 1], part.ids[-1]) == (101, 102, 102)
        seen.update(part.offsets)
    assert sorted(seen) == list(second.offsets)


def brute_force(window, logits, region):
    """All spans of at most LONGEST tokens inside the region."""
    found = []
    for i, (start, begin_end) in enumerate(window.offsets):
        for j, (_, end) in enumerate(window.offsets[i : i + LONGEST], start=i):
            if region[0] <= start and end <= region[1] and begin_end <= region[1]:
                k = window.n_first
                found.append((logits[k + i, 0] + logits[k + j, 1] - logits[0].sum(), start, end))
    return max(found, key=lambda item: item[0], default=None)


@given(
    n=st.integers(0, 60),
    low=st.integers(0, 300),
    length=st.integers(0, 300),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=1, low=0, length=5, seed=0)  # the region goes beyond its only token
@example(n=3, low=5, length=9, seed=1)
@examples(100)
def test_best_span_is_that_of_a_search_through_all(n, low, length, seed):
    offsets = tuple((5 * i, 5 * i + 4) for i in range(n))
    window = Window((101, 7, 102, *range(n), 102), 3, offsets)
    logits = np.random.default_rng(seed).normal(size=(n + 4, 2)).astype(np.float32)
    region = (low, low + length)
    expected, found = brute_force(window, logits, region), best_span(window, logits, region)
    if expected is None:
        assert found is None
    else:
        assert found.score == pytest.approx(expected[0], abs=1e-3)
        assert (found.start, found.end) == expected[1:]


def test_read_gives_each_passage_what_it_gives_it_alone(model):
    together = model.read(QUESTION, PASSAGES)
    assert [model.read(QUESTION, [text])[0] for text in PASSAGES] == together
    assert len(together[2].spans) == 1  # of several windows


def test_read_keeps_spans_inside_their_regions(model):
    text = PASSAGES[0]
    regions = [(0, 39), (40, len(text)), (0, 0)]
    [reading] = model.read(QUESTION, [text], [regions])
    for span, (start, end) in zip(reading.spans[:2], regions, strict=False):
        assert start <= span.start < span.end <= end
        assert text[span.start : span.end].strip() == text[span.start : span.end]
    assert reading.spans[2] is None


def test_read_without_words_or_passages(model):
    assert model.read(QUESTION, []) == []
    [empty] = model.read(QUESTION, [""])
    assert empty.spans == (None,)
    assert np.isfinite(empty.relevance)


def test_judge_gives_shares_that_sum_to_one(model):
    statements = ["Silicon is grey.", "Iron is grey.", ""]
    scores = model.judge(statements, PASSAGES)
    for score in scores:
        assert score.supported + score.contradicted + score.unknown == pytest.approx(1, abs=1e-5)
    assert model.judge(statements[1:2], PASSAGES[1:2]) == scores[1:2]


def test_int8_is_near_fp32(folder, model):
    int8 = PairModel(folder, precision="int8")
    for exact, near in zip(*(m.read(QUESTION, PASSAGES) for m in (model, int8)), strict=True):
        assert near.relevance == pytest.approx(exact.relevance, abs=0.2)


def test_packed_weights_are_near_and_packing_them_again_changes_nothing(folder, tmp_path):
    weights = unpack(folder / "model.safetensors")
    pack(weights, tmp_path / "a.safetensors")
    packed = unpack(tmp_path / "a.safetensors")
    assert packed.keys() == weights.keys()
    for name, array in weights.items():
        assert packed[name].dtype == np.float32
        assert np.abs(packed[name] - array).max() <= np.abs(array).max() / 200
    pack(packed, tmp_path / "b.safetensors")
    again = unpack(tmp_path / "b.safetensors")
    assert all(np.array_equal(again[name], packed[name]) for name in packed)


def test_weights_of_another_base_are_refused(folder, tmp_path):
    other = tmp_path / "pair"
    shutil.copytree(folder, other)
    base = tiny_base(tmp_path / "base", seed=9)
    about = json.loads((other / "ragkit.json").read_text())
    (other / "ragkit.json").write_text(json.dumps(about | {"base": str(base)}))
    with pytest.raises(ModelError, match="trained from other token embeddings"):
        PairModel(other)


def test_weights_that_are_not_finite_are_refused(folder, tmp_path):
    other = tmp_path / "pair"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    weights["span.bias"] = np.array([np.nan, 0], dtype=np.float32)
    save_file(weights, other / "model.safetensors")
    with pytest.raises(ModelError, match=r"span\.bias has values that are not finite"):
        PairModel(other)


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "no folder of a pair model"), ("[]", "lacks"), ("{}", "lacks base, table_digest")],
)
def test_a_folder_without_a_model_is_refused(tmp_path, text, why):
    if text is not None:
        (tmp_path / "ragkit.json").write_text(text)
    with pytest.raises(ModelError, match=why):
        PairModel(tmp_path)


@pytest.mark.models
@pytest.mark.reference
def test_graph_gives_what_the_module_in_torch_gives(folder, model):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from ragkit.finetune.pair.model import PairModule

    about = json.loads((folder / "ragkit.json").read_text())
    module = PairModule(models.resolve(about["base"]))
    module.load(folder)
    module.train(False)
    windows, _ = model._windows([QUESTION] * 2, PASSAGES[:2])
    for window in windows:
        ids = torch.tensor([window.ids])
        segments = (torch.arange(len(window.ids)) >= window.n_first).long()[None]
        with torch.inference_mode():
            expected = module(ids, segments, torch.ones_like(ids))
        spans, judged = model._run(window)
        assert np.allclose(spans, expected.spans[0].numpy(), atol=1e-4)
        assert judged[0] == pytest.approx(float(expected.relevance[0]), abs=1e-4)
        assert np.allclose(judged[1:], expected.support[0].numpy(), atol=1e-4)
