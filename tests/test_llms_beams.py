"""Beams of tiny random models: whatever way they grow, they say what a fresh forward pass says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from properties import examples
from tiny_models import END, VOCABULARY, WINDOW, tiny_bart, tiny_llama, tiny_t5, torch

from ragkit.errors import ModelError
from ragkit.llms.beams import BeamModel, CausalBeams, Seq2SeqBeams, tokenizer_fingerprint
from ragkit.llms.local import LocalLLM

PROMPT = "w1 w5 w9 w5"
TOLERANCE = 1e-5  # float32: a cache and a batch round differently from one pass
Fresh = Callable[[str, list[int]], NDArray[np.float32]]

growth = st.lists(  # (parent, taken modulo the beams there are; token) of each beam, step by step
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, len(VOCABULARY) - 1)), min_size=1, max_size=4
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LocalLLM:
    return LocalLLM(str(tiny_llama(tmp_path_factory.mktemp("llama"))), dtype="float32")


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Seq2SeqBeams:
    return Seq2SeqBeams(tiny_bart(tmp_path_factory.mktemp("bart")))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Seq2SeqBeams:
    return Seq2SeqBeams(tiny_t5(tmp_path_factory.mktemp("t5")))


@pytest.fixture(scope="module", params=["llama", "bart", "t5"])
def model_and_fresh(
    request: pytest.FixtureRequest, llm: LocalLLM, bart: Seq2SeqBeams, t5: Seq2SeqBeams
) -> tuple[BeamModel, Fresh]:
    """A model, and its next token's log-probabilities by one pass without a cache."""
    if request.param == "llama":
        return CausalBeams(llm), lambda prompt, tokens: last_logprobs(
            llm.model, input_ids=[llm.tokenizer.encode(prompt) + tokens]
        )
    seq2seq = {"bart": bart, "t5": t5}[request.param]
    start = seq2seq.module.config.decoder_start_token_id
    return seq2seq, lambda prompt, tokens: last_logprobs(
        seq2seq.module,
        input_ids=[seq2seq.tokenizer.encode(prompt)],
        decoder_input_ids=[[start, *tokens]],
    )


def last_logprobs(model, **token_lists: list[list[int]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        inputs = {name: torch.tensor(tokens) for name, tokens in token_lists.items()}
        logits = model(**inputs, use_cache=False).logits[0, -1]  # (vocab_size,)
        return logits.double().log_softmax(-1).numpy()


@given(steps=growth)
@examples(40)
def test_logprobs_after_any_reordering_equal_a_fresh_pass(model_and_fresh, steps):
    model, fresh = model_and_fresh
    beams, texts = model.begin(PROMPT), [[]]
    for step in steps:
        parents = [parent % len(texts) for parent, _ in step]
        tokens = [token for _, token in step]
        beams.advance(parents, tokens)
        texts = [[*texts[p], token] for p, token in zip(parents, tokens, strict=True)]
    expected = np.stack([fresh(PROMPT, text) for text in texts])
    np.testing.assert_allclose(beams.logprobs(), expected, rtol=0, atol=TOLERANCE)


def test_logprobs_when_beams_multiply_swap_and_vanish_equal_a_fresh_pass(model_and_fresh):
    model, fresh = model_and_fresh
    beams = model.begin(PROMPT)
    beams.advance([0, 0, 0], [4, 5, 6])
    beams.advance([2, 0, 2, 1], [7, 8, 9, 10])
    beams.advance([3, 1], [11, 12])
    expected = np.stack([fresh(PROMPT, [5, 10, 11]), fresh(PROMPT, [4, 8, 12])])
    np.testing.assert_allclose(beams.logprobs(), expected, rtol=0, atol=TOLERANCE)


def test_logprobs_are_float32_over_the_whole_vocabulary_and_sum_to_one(model_and_fresh):
    model, _ = model_and_fresh
    beams = model.begin(PROMPT)
    beams.advance([0, 0, 0], [4, 5, 6])
    found = beams.logprobs()
    assert (found.shape, found.dtype, model.vocab_size) == ((3, 40), np.dtype(np.float32), 40)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, rtol=0, atol=1e-6)


def test_two_prompts_begun_on_one_model_do_not_disturb_each_other(model_and_fresh):
    model, fresh = model_and_fresh
    first, second = model.begin(PROMPT), model.begin("w20 w21")
    first.advance([0, 0], [4, 5])
    second.advance([0], [6])
    expected = np.stack([fresh(PROMPT, [4]), fresh(PROMPT, [5])])
    np.testing.assert_allclose(first.logprobs(), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(
        second.logprobs(), fresh("w20 w21", [6])[None], rtol=0, atol=TOLERANCE
    )


def test_encoder_states_follow_the_beams(bart):
    beams = bart.begin(PROMPT)
    shapes = []
    for parents in [0], [0, 0, 0], [2, 1], [1, 1]:
        beams.advance(parents, [4] * len(parents))
        shapes.append(tuple(beams.by_row["encoder_outputs"].last_hidden_state.shape))
    assert shapes == [(1, 4, 16), (3, 4, 16), (2, 4, 16), (2, 4, 16)]


def test_causal_beams_agree_with_the_logprobs_of_the_llm(llm):
    model = CausalBeams(llm)
    continuation = model.encode("w7 w8 w9")
    beams, found = model.begin(PROMPT), []
    for token in continuation:
        found.append(beams.logprobs()[0, token])
        beams.advance([0], [token])
    (expected,) = llm.logprobs([PROMPT], ["w7 w8 w9"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_encode_and_decode_add_and_keep_no_special_token(model_and_fresh):
    model, _ = model_and_fresh
    tokens = model.encode("w2 w3")
    assert (tokens, model.decode([*tokens, END])) == ([5, 6], "w2 w3")
    assert model.end_token == END


def test_begin_when_the_prompt_is_empty_raises_value_error(model_and_fresh):
    model, _ = model_and_fresh
    with pytest.raises(ValueError, match="the prompt has"):
        model.begin("")


def test_begin_when_the_prompt_fills_the_window_of_a_causal_model_raises_value_error(llm):
    with pytest.raises(ValueError, match=f"has {WINDOW} tokens; expected 1 to {WINDOW - 1}"):
        CausalBeams(llm).begin("w1 " * WINDOW)


def test_begin_when_the_prompt_exceeds_the_encoder_raises_value_error(bart):
    bart.begin("w1 " * WINDOW)
    with pytest.raises(ValueError, match=f"{WINDOW + 1} tokens; expected 1 to {WINDOW}"):
        bart.begin("w1 " * (WINDOW + 1))


@pytest.mark.parametrize(("kind", "prompt_tokens"), [("llama", WINDOW - 2), ("bart", 1)])
def test_advance_when_the_window_is_full_raises_value_error(llm, bart, kind, prompt_tokens):
    model = CausalBeams(llm) if kind == "llama" else bart
    beams = model.begin("w1 " * prompt_tokens)
    read = prompt_tokens if kind == "llama" else 1  # the decoder has read its start token
    for _ in range(WINDOW - read):
        beams.advance([0], [4])
    with pytest.raises(ValueError, match=f"fill the model's context window of {WINDOW} tokens"):
        beams.advance([0], [4])


def test_fingerprint_when_a_call_has_truncated_stays_the_same(bart):
    before = tokenizer_fingerprint(bart.tokenizer)
    bart.tokenizer("w1 w2 w3", truncation=True, max_length=2)
    assert tokenizer_fingerprint(bart.tokenizer) == before == bart.fingerprint


def test_fingerprint_of_the_same_tokenizer_in_two_folders_is_the_same(llm, bart, tmp_path: Path):
    other = tiny_bart(tmp_path)
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    assert CausalBeams(llm).fingerprint == bart.fingerprint
    (other / "tokenizer.json").write_text(text.replace('"w36"', '"w99"'), encoding="utf-8")
    assert Seq2SeqBeams(other).fingerprint != bart.fingerprint


def test_seq2seq_when_the_folder_holds_a_causal_model_or_none_raises_model_error(llm, tmp_path):
    for folder in llm.name, tmp_path:
        with pytest.raises(ModelError, match="encoder-decoder model in"):
            Seq2SeqBeams(folder)


def test_seq2seq_when_the_dtype_is_unknown_raises_value_error():
    with pytest.raises(ValueError, match="dtype is 'float8'"):
        Seq2SeqBeams("any", dtype="float8")


def test_seq2seq_in_bfloat16_gives_float32_log_probabilities(bart):
    found = Seq2SeqBeams(bart.name, dtype="bfloat16").begin(PROMPT).logprobs()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, bart.begin(PROMPT).logprobs(), rtol=0, atol=0.2)


@pytest.mark.parametrize("kind", ["llama", "bart", "t5"])
def test_prompts_begun_together_equal_those_begun_alone(request, kind):
    model = request.getfixturevalue("llm" if kind == "llama" else kind)
    model = CausalBeams(model) if kind == "llama" else model
    prompts = ["w1 w2 w3 w4 w5", "w6", "w7 w8"]
    together = model.begin(*prompts)
    steps = [([0, 1, 2], [5, 6, 7]), ([2, 0, 1, 1], [8, 9, 10, 11]), ([3, 1], [12, 13])]
    of = [0, 1, 2]  # the prompt of each beam
    texts = [()] * 3
    for parents, tokens in steps:
        expected = [_forced(model, prompts[p], text) for p, text in zip(of, texts, strict=True)]
        np.testing.assert_allclose(together.logprobs(), expected, atol=1e-4)
        together.advance(parents, tokens)
        of = [of[parent] for parent in parents]
        texts = [(*texts[p], token) for p, token in zip(parents, tokens, strict=True)]
    assert len(together.logprobs()) == 2


def _forced(model, prompt, tokens):
    beams = model.begin(prompt)
    for token in tokens:
        beams.advance([0], [token])
    return beams.logprobs()[0]
