import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from tiers import smoke

from ragkit import models
from ragkit.embedders import load_embedder
from ragkit.embedders.onnx import OnnxEmbedder
from ragkit.embedders.transformer import TransformerEmbedder
from ragkit.errors import MissingExtra, ModelError, require
from ragkit.losses import collect
from ragkit.testing import HashEmbedder, check_embedder

SENTENCES = [
    f"{subject} {verb} {rest}"
    for subject in ("Gallium arsenide", "Magnetite", "A thin film of iron", "The catalyst")
    for verb in ("has", "was measured with", "needs")
    for rest in (
        "a direct band gap of 1.42 eV.",
        "X-ray diffraction at 300 K?",
        "less oxygen than expected, which the authors explain by vacancies near the surface.",
    )
]


@pytest.fixture(scope="module")
def int8():
    return OnnxEmbedder("minilm")


@pytest.fixture(scope="module")
def fp32():
    return OnnxEmbedder("minilm", precision="fp32")


@pytest.fixture(scope="module")
def transformer():
    return TransformerEmbedder("minilm")


def test_hash_embedder_when_checked_keeps_the_contract():
    check_embedder(HashEmbedder())


def test_onnx_int8_when_checked_is_equal_to_the_bit(int8):
    check_embedder(int8)


def test_onnx_fp32_when_checked_keeps_the_contract(fp32):
    check_embedder(fp32, tolerance=1e-6)


@pytest.mark.models
def test_transformer_when_checked_keeps_the_contract(transformer):
    check_embedder(transformer, tolerance=1e-6)


@pytest.mark.models
@pytest.mark.reference
def test_onnx_fp32_when_compared_with_sentence_transformers_agrees(fp32):
    library = require("sentence_transformers", extra="local")
    model = library.SentenceTransformer(str(models.resolve("minilm")), device="cpu")
    expected = model.encode(SENTENCES, show_progress_bar=False, normalize_embeddings=True)
    np.testing.assert_allclose(fp32.embed_passages(SENTENCES), expected, atol=1e-5)


def test_onnx_int8_when_compared_with_fp32_points_the_same_way(int8, fp32):
    cosines = (int8.embed_passages(SENTENCES) * fp32.embed_passages(SENTENCES)).sum(axis=1)
    assert len(SENTENCES) == 36
    assert cosines.mean() >= 0.99


def test_fingerprints_when_precisions_differ_differ(int8, fp32):
    assert int8.fingerprint != fp32.fingerprint
    assert load_embedder().fingerprint == int8.fingerprint
    assert (int8.name, fp32.name) == ("minilm", "minilm:fp32")
    assert load_embedder("minilm:fp32").fingerprint == fp32.fingerprint


@pytest.mark.models
def test_fingerprint_of_the_transformer_is_its_own(int8, fp32, transformer):
    assert transformer.fingerprint not in (int8.fingerprint, fp32.fingerprint)
    assert transformer.name == "transformer:minilm"


@pytest.mark.parametrize("name", smoke(["int8", "transformer"], tier="models"))
def test_embedder_when_a_text_is_over_the_window_reports_what_is_cut(request, name):
    embedder = request.getfixturevalue(name)
    long = "band " * 300
    with collect() as losses:
        rows = embedder.embed_passages(["short", long])
    assert [(loss.stage, loss.lost, loss.kept) for loss in losses] == [
        ("embedding", "46 tokens", "256 tokens")
    ]
    assert rows.shape == (2, 384)


@pytest.mark.parametrize("name", smoke(["int8", "transformer"], tier="models"))
def test_embedder_when_asked_for_one_string_says_so(request, name):
    with pytest.raises(TypeError, match="not one string"):
        request.getfixturevalue(name).embed_queries("one text")


def test_embedder_when_arguments_are_wrong_says_so():
    with pytest.raises(ValueError, match="precision is 'int4'; expected 'int8' or 'fp32'"):
        OnnxEmbedder("minilm", precision="int4")
    for name in ("no-such-model", "no-such-model:int8"):
        with pytest.raises(ModelError, match=r"no model named 'no-such-model'.*minilm, smollm2"):
            load_embedder(name)


@pytest.mark.models
def test_transformer_when_the_device_or_the_model_is_missing_says_so():
    with pytest.raises(ModelError, match=r"no model named 'no-such-model'.*minilm, smollm2"):
        load_embedder("transformer:no-such-model")
    with pytest.raises((ModelError, MissingExtra), match="cuda"):
        TransformerEmbedder("minilm", device="cuda:99")


def test_embedder_when_the_folder_is_no_model_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json; expected a model folder"):
        OnnxEmbedder(str(tmp_path))


def _convert(home: str, results: "multiprocessing.Queue[int]") -> None:
    def build(folder: Path) -> None:
        results.put(1)
        time.sleep(0.3)  # the other process must wait for the lock meanwhile
        (folder / "weights").write_text("converted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", home)
        assert (models.convert_once("0" * 32, build) / "weights").read_text() == "converted"


@pytest.mark.models
def test_conversion_when_two_processes_want_it_happens_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_convert, args=(str(tmp_path), results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert results.get() == 1
    assert results.empty()
    assert sorted(p.name for p in (tmp_path / "models").iterdir() if p.is_dir()) == ["0" * 32]


def test_ids_when_a_text_is_too_long_then_as_many_tokens_as_the_model_reads(int8):
    text = "band gap " * 40
    [full], [length] = int8.tokenizer.ids([text], 1000)
    assert length == len(full) == 82
    for n in (82, 81, 17, 2):
        [ids], [same] = int8.tokenizer.ids([text], n)
        assert (ids, same) == ([*full[: n - 1], full[-1]], 82)
