"""Packs and batches teach what separate sequences would, and nothing is lost in them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples
from tiny_models import VOCABULARY, tiny_bart, tiny_llama, tiny_t5, torch, transformers

from ragkit import losses
from ragkit.finetune.sequences import (
    PACK_TOKENS,
    Batch,
    Example,
    Pack,
    batches,
    causal_logits,
    seq2seq_logits,
    target_labels,
)

TOLERANCE = 1e-4  # float32: other shapes of matrices round differently
BUDGET = 20

tokens = st.integers(0, len(VOCABULARY) - 1)


def examples_of(longest_prompt, longest_target, most_targets):
    def rows(longest):
        return st.lists(tokens, min_size=1, max_size=longest).map(tuple)

    targets = st.lists(rows(longest_target), min_size=1, max_size=most_targets).map(tuple)
    return st.builds(Example, rows(longest_prompt), targets, st.sampled_from(["", "title"]))


short = st.lists(examples_of(6, 4, 3), min_size=1, max_size=4)
any_length = st.lists(examples_of(12, 8, 3), max_size=12)
SINGLE = [Example((5,), ((7,),))]  # nothing but one prompt's token is read
SHARED = [Example((3, 4), ((9,), (9, 10), (9, 10, 11))), Example((3, 4), ((9,),))]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tiny_llama(tmp_path_factory.mktemp("llama"))
    return transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()


@pytest.fixture(scope="module", params=[tiny_bart, tiny_t5])
def seq2seq(request, tmp_path_factory):
    folder = request.param(tmp_path_factory.mktemp("seq2seq"))
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def alone(model, prompt, target):
    """What a causal model says of each of the target's tokens, in a pass of their own."""
    logits = model(input_ids=torch.tensor([[*prompt, *target[:-1]]])).logits[0]
    return logits[len(prompt) - 1 :]


def alone_seq2seq(model, prompt, target):
    start = model.config.decoder_start_token_id
    inputs = torch.tensor([[start, *target[:-1]]])
    return model(input_ids=torch.tensor([prompt]), decoder_input_ids=inputs).logits[0]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def cross_entropy(logits, labels):
    return torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels), reduction="sum")


def assert_same_lessons(model, examples, logits, one):
    """Logits, loss and gradients are those of each target in a pass of its own."""
    pairs = [(each.prompt, target) for each in examples for target in each.targets]
    single = torch.cat([one(model, prompt, target) for prompt, target in pairs])
    labels = target_labels(examples)
    assert labels.tolist() == [token for _, target in pairs for token in target]
    torch.testing.assert_close(logits, single, rtol=TOLERANCE, atol=TOLERANCE)
    loss, expected = cross_entropy(logits, labels), cross_entropy(single, labels)
    torch.testing.assert_close(loss, expected, rtol=TOLERANCE, atol=TOLERANCE)
    ours, theirs = gradients(model, loss), gradients(model, expected)
    assert ours.keys() == theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=TOLERANCE * (1 + largest))


@given(short)
@example(SINGLE)
@example(SHARED)
@examples(25, few=6)
def test_pack_teaches_what_each_target_alone_would(llama, examples):
    pack = Pack.of(examples)
    assert pack.labels.tolist() == target_labels(examples).tolist()
    assert len(pack.tokens) == Batch(tuple(examples)).n_tokens
    assert_same_lessons(llama, examples, causal_logits(llama, [pack]), alone)


@given(short)
@example(SINGLE)
@example(SHARED)
@examples(15, few=6)
def test_seq2seq_batch_teaches_what_each_target_alone_would(seq2seq, examples):
    logits = seq2seq_logits(seq2seq, examples)
    assert_same_lessons(seq2seq, examples, logits, alone_seq2seq)


def test_pack_of_two_examples_is_laid_out_as_the_figure_says():
    pack = Pack.of([Example((1, 2), ((3, 4, 5), (6,))), Example((7,), ((8, 9),))])
    assert pack.tokens.tolist() == [1, 2, 3, 4, 7, 8]
    assert pack.positions.tolist() == [0, 1, 2, 3, 0, 1]
    assert pack.predicting.tolist() == [1, 2, 3, 1, 4, 5]
    assert pack.labels.tolist() == [3, 4, 5, 6, 8, 9]
    assert pack.mask.astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_pack_when_a_prompt_has_two_targets_hides_each_from_the_other():
    pack = Pack.of([Example((1,), ((2, 3), (4, 5)))])
    assert pack.tokens.tolist() == [1, 2, 4]
    assert pack.positions.tolist() == [0, 1, 1]
    assert pack.mask.astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


@given(any_length, st.integers(1, 40))
def test_batches_keep_every_example_once_in_order_and_within_the_budget(examples, budget):
    with losses.collect() as lost:
        found = list(batches(iter(examples), budget))
    fitting = [each for each in examples if each.n_tokens <= budget]
    assert [each for batch in found for each in batch.examples] == fitting
    assert all(0 < batch.n_tokens <= budget for batch in found)
    assert len(lost) == len(examples) - len(fitting)
    for batch, following in itertools.pairwise(found):  # none ends early
        assert batch.n_tokens + following.examples[0].n_tokens > budget


def test_example_when_longer_than_a_batch_is_a_loss_that_says_how_to_keep_it():
    long = Example(tuple(range(BUDGET)), ((1, 2), (3,)))
    with losses.collect() as lost:
        assert list(batches([long], BUDGET)) == []
    [loss] = lost
    assert (loss.stage, loss.lost, loss.kept) == ("training", "1", "0")
    assert f"{BUDGET + 1} tokens; a batch takes at most {BUDGET}" in loss.what
    assert "raise batch_tokens" in loss.why


@given(st.lists(examples_of(120, 30, 3), min_size=1, max_size=12))
@examples(30)
def test_packs_of_a_batch_hold_it_once_in_short_rows(examples):
    batch = Batch(tuple(examples))
    packs = batch.packs
    learned = np.concatenate([pack.labels for pack in packs])
    assert sorted(learned.tolist()) == sorted(target_labels(examples).tolist())
    assert sum(len(pack.tokens) for pack in packs) == batch.n_tokens
    assert sum(len(pack.labels) for pack in packs) == batch.n_targets
    longest = max(each.n_tokens for each in examples)
    assert all(len(pack.tokens) <= max(PACK_TOKENS, longest) for pack in packs)


@given(short)
def test_pack_shows_each_token_its_prompt_and_its_own_target_up_to_itself(examples):
    owners = []  # (example, target or None for the prompt) of each place
    for i, each in enumerate(examples):
        owners += [(i, None)] * len(each.prompt)
        owners += [(i, k) for k, target in enumerate(each.targets) for _ in target[1:]]
    expected = [
        [a <= b and at[0] == by[0] and at[1] in (None, by[1]) for a, at in enumerate(owners)]
        for b, by in enumerate(owners)
    ]
    assert Pack.of(examples).mask.tolist() == expected


@given(st.lists(examples_of(60, 20, 3), min_size=2, max_size=8))
@examples(15)
def test_packs_in_one_pass_predict_what_each_predicts_alone(llama, examples):
    packs = Batch(tuple(examples)).packs
    with torch.inference_mode():
        together = causal_logits(llama, packs)
        one_by_one = torch.cat([causal_logits(llama, [pack]) for pack in packs])
    torch.testing.assert_close(together, one_by_one, rtol=TOLERANCE, atol=TOLERANCE)
