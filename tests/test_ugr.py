"""UGR: n-grams by attention, recomputed without transformers' own; tasks mixed under a cap."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import END, torch
from token_models import WordModel, tiny_model

from ragkit import models
from ragkit.errors import ModelError
from ragkit.finetune.generative import (
    FixedTargets,
    GenerativeOptions,
    Pair,
    Passage,
    SpanTargets,
    TargetOptions,
    train_generative,
)
from ragkit.finetune.generative.ugr import (
    Attention,
    Context,
    MixedTargets,
    attention_spans,
    mix_tasks,
)
from ragkit.finetune.loop import TrainOptions
from ragkit.finetune.sequences import Example
from ragkit.finetune.soft_prompts import set_prompts
from ragkit.losses import collect
from ragkit.retrievers.rows import prompt_for

QUERY = "who built the tower in Paris?"
TEXT = (
    "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris. It is named "
    "after the engineer Gustave Eiffel, whose company designed and built it from 1887 to 1889."
)


@pytest.fixture(scope="module")
def attention() -> Attention:
    return Attention("minilm")


def decode_bytes(tokens) -> str:
    """A tokenizer of single bytes: most tokens are no characters on their own."""
    return bytes(tokens).decode(errors="replace")


def words_and_spaces(text: str) -> tuple[list[int], Any]:
    """A tokenizer whose tokens are a word with the space before it, or a mark."""
    pieces = re.findall(r"\s?\w+|\s?[^\w\s]", text)
    return list(range(len(pieces))), lambda tokens: "".join(pieces[token] for token in tokens)


# --- attention


def test_weights_are_the_last_layers_attention_from_cls_computed_by_hand(attention):
    from tokenizers import Tokenizer
    from transformers import BertModel

    folder = models.resolve("minilm")
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    read.no_padding()
    read.no_truncation()
    pair = read.encode(QUERY, TEXT)
    bert = BertModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        output = bert(
            input_ids=torch.tensor([pair.ids]),
            token_type_ids=torch.tensor([pair.type_ids]),
            output_hidden_states=True,
        )
    hidden = output.hidden_states[-2][0].double().numpy()  # what the last layer reads
    layer = bert.encoder.layer[-1].attention.self
    w = {name: each.detach().double().numpy() for name, each in layer.named_parameters()}
    heads, size = layer.num_attention_heads, layer.attention_head_size
    query = (hidden[0] @ w["query.weight"].T + w["query.bias"]).reshape(heads, size)
    key = (hidden @ w["key.weight"].T + w["key.bias"]).reshape(-1, heads, size)
    scores = np.einsum("hd,thd->ht", query, key) / np.sqrt(size)  # (heads, tokens)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    own = [i for i, s in enumerate(pair.sequence_ids) if s == 1]

    weights, places = attention.weights(QUERY, TEXT)
    np.testing.assert_allclose(weights, shares.mean(axis=0)[own], rtol=0, atol=1e-6)
    assert places.tolist() == [list(pair.offsets[i]) for i in own]
    assert weights.std() > 1e-3  # or the tolerance would show nothing


@pytest.mark.parametrize("length", [1, 3, 10, 10_000])
def test_importance_is_the_mean_over_the_tokens_of_each_ngram(attention, length):
    tokens, decode = words_and_spaces(TEXT)
    weights, places = attention.weights(QUERY, TEXT)
    expected = []
    for start in range(max(1, len(tokens) - length + 1)):
        low = len(decode(tokens[:start]))
        high = len(decode(tokens[: start + length]))
        inside = [
            weight
            for weight, (begin, end) in zip(weights, places, strict=True)
            if begin < high and end > low
        ]
        expected.append(np.mean(inside))
    found = attention.importance(QUERY, Context.of(tokens, decode), length)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_importance_depends_on_the_query(attention):
    tokens, decode = words_and_spaces(TEXT)
    context = Context.of(tokens, decode)
    found = [attention.importance(query, context) for query in (QUERY, "iron")]
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_importance_of_a_text_beyond_the_window_covers_what_is_read_and_says_so_once(attention):
    tokens, decode = words_and_spaces("tower Paris " * 600)
    context = Context.of(tokens, decode)
    with collect() as losses:
        found = attention.importance(QUERY, context)
        again = attention.importance("Paris", context)
    read = attention.weights(QUERY, context.text)[1][-1, 1]
    assert len(found) == sum(context.bounds[10:] <= read)
    assert 300 < len(found) < len(again) < 600
    (loss,) = losses
    assert (loss.stage, loss.kept) == ("training", f"{read} characters")
    assert loss.lost == f"{len(context.text) - read} characters"


def test_importance_of_an_empty_text_and_of_what_is_no_token_is_none_and_0(attention):
    assert attention.importance(QUERY, Context.of([], decode_bytes)).tolist() == []
    with collect():
        blank = attention.importance(QUERY, Context.of([32, 32], decode_bytes))
    assert blank.tolist() == [0.0]


def test_attention_when_there_is_no_cls_raises_model_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        Attention(str(tmp_path))
    llama = tiny_model("llama", tmp_path / "llama")
    with pytest.raises(ModelError, match=r"no \[CLS\]"):
        Attention(llama.name)


@given(text=st.text(max_size=30))
def test_bounds_of_tokens_lie_in_the_text_and_end_with_it(text):
    tokens = list(text.encode())
    context = Context.of(tokens, decode_bytes)
    assert context.text == text
    assert (np.diff(context.bounds) >= 0).all()
    ends = {len(text[:n].encode()): n for n in range(len(text) + 1)}
    assert {at: int(context.bounds[at]) for at in ends} == ends  # where a character ends


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (30, 21)])
def test_ngrams_of_a_context_are_counted_whole(n, expected):
    assert Context.of([97] * n, decode_bytes).n_ngrams(10) == expected


# --- drawing


@pytest.mark.parametrize("temperature", [1.0, 0.02])
def test_spans_are_drawn_by_a_softmax_without_replacement(temperature):
    importance = np.array([0.05, 0.01, 0.03, 0.0])
    p = np.exp(importance / temperature)
    p /= p.sum()
    random, n = np.random.default_rng(0), 20_000
    drawn = [
        tuple(attention_spans(importance, 2, random, temperature=temperature)) for _ in "x" * n
    ]
    counts = Counter(drawn)
    for i in range(4):
        for j in range(4):
            expected = p[i] * p[j] / (1 - p[i]) if i != j else 0.0
            assert counts[i, j] / n == pytest.approx(expected, abs=0.012), (i, j)


def test_spans_when_fewer_are_there_are_all_of_them():
    random = np.random.default_rng(0)
    assert sorted(attention_spans(np.array([0.1, 0.2, 0.3]), 10, random)) == [0, 1, 2]
    assert attention_spans(np.array([]), 10, random) == []


# --- targets


def text_of(n: int) -> str:
    return " ".join(f"w{(7 * i) % 37}" for i in range(n))


def epoch_of(model: Any, seed: int = 0, **options: Any) -> list[Example]:
    passages = [Passage("w1 w2", text_of(25)), Passage("w3", text_of(4))]
    pairs = [Pair("w5 w6", 0), Pair("w7", 1)]
    how = TargetOptions(passage_share=0, n_spans=10, **options)
    return SpanTargets(model, passages, pairs, how, seed=seed).epoch(0)


def starts_of(examples: list[Example], query: str, unit: str) -> list[int]:
    """Where the spans of a query begin in the first passage; each token stands there once."""
    model = WordModel()
    tokens = model.encode(text_of(25))
    prompt = tuple(model.encode_prompt(prompt_for(unit, query)))
    (found,) = [each for each in examples if each.task == unit and each.prompt == prompt]
    starts = [tokens.index(target[0]) for target in found.targets]
    assert found.targets == tuple(tuple(tokens[start : start + 10]) for start in starts)
    return starts


def test_first_spans_are_the_first_ngrams_of_the_unit():
    examples = epoch_of(WordModel(), choice="first", unit="document")
    assert starts_of(examples, "w5 w6", "document") == list(range(10))
    assert Counter(each.task for each in examples) == {"document": 2, "title": 2}
    short = next(each for each in examples if len(each.targets) == 1 and each.task == "document")
    assert short.targets == (tuple(WordModel().encode(text_of(4))),)


def test_random_spans_are_whole_ngrams_drawn_once():
    model = WordModel()
    found = [starts_of(epoch_of(model, s, choice="random"), "w5 w6", "passage") for s in range(40)]
    assert all(len(set(each)) == 10 for each in found)
    assert {start for each in found for start in each} == set(range(16))
    assert len(set(map(tuple, found))) > 30
    assert found[0] == starts_of(epoch_of(model, 0, choice="random"), "w5 w6", "passage")


def test_attention_spans_are_drawn_by_the_encoders_importance(attention):
    model = WordModel()
    context = Context.of(model.encode(text_of(25)), model.decode)
    best = int(np.argmax(attention.importance("w5 w6", context)))
    cold = epoch_of(model, choice="attention", temperature=1e-9)
    assert starts_of(cold, "w5 w6", "passage")[0] == best
    order = np.argsort(-attention.importance("w5 w6", context), kind="stable")[:10]
    assert starts_of(cold, "w5 w6", "passage") == order.tolist()


def test_target_options_that_are_unknown_raise_value_error():
    for wrong in {"choice": "last"}, {"unit": "chapter"}:
        with pytest.raises(ValueError, match="expected one of query, attention, random, first"):
            TargetOptions(**wrong)


def test_targets_of_other_choices_and_units_have_other_digests():
    passages = [Passage("w1", text_of(12))]
    kinds = [{}, {"choice": "first"}, {"unit": "entity"}, {"encoder": "other"}]
    made = [SpanTargets(WordModel(), passages, [], TargetOptions(**kind)) for kind in kinds]
    assert len({each.digest for each in made}) == len(kinds)


def test_targets_ask_as_the_model_is_asked(tmp_path):
    model = tiny_model("llama", tmp_path)
    set_prompts(model, "continuous", ["title", "passage"])
    # The nearest to an entity of what is trained is the title.
    prompts = {each.task: each.prompt[:8] for each in epoch_of(model, unit="entity")}
    vectors = tuple(range(model.vocab_size, model.vocab_size + 8))
    assert prompts == {"entity": vectors, "title": vectors}


# --- mixing


def task(name: str, n: int) -> list[Example]:
    return [Example((i,), ((i,),), name) for i in range(n)]


def test_mixture_holds_every_example_once_and_at_most_four_times_the_smallest_task():
    tasks = {name: task(name, n) for name, n in [("a", 3), ("b", 12), ("c", 13), ("d", 500)]}
    found = mix_tasks(tasks, 7)
    assert Counter(each.task for each in found) == {"a": 3, "b": 12, "c": 12, "d": 12}
    assert len({(each.task, each.prompt) for each in found}) == len(found)
    order = [each.task for each in found]
    assert order not in (sorted(order), sorted(order, reverse=True))  # not task after task


def test_mixture_depends_on_the_seed_and_not_on_the_order_of_tasks():
    tasks = {name: task(name, n) for name, n in [("a", 3), ("b", 50)]}
    turned = dict(reversed(tasks.items()))
    assert mix_tasks(tasks, 1) == mix_tasks(turned, 1)
    first, second = mix_tasks(tasks, 1), mix_tasks(tasks, 2)
    assert {e.prompt for e in first if e.task == "b"} != {e.prompt for e in second if e.task == "b"}


@pytest.mark.parametrize("tasks", [{}, {"a": [], "b": task("b", 2)}])
def test_mixture_when_a_task_is_empty_raises_value_error(tasks):
    with pytest.raises(ValueError, match=f"without examples: {'a' if tasks else 'all'};"):
        mix_tasks(tasks, 0)


class Unshuffled(FixedTargets):
    """Targets that leave all drawing to the mixture."""

    def epoch(self, number: int) -> list[Example]:
        return sorted(super().epoch(number), key=lambda each: each.prompt)


def test_mixed_targets_are_the_same_whenever_asked_for_and_draw_anew_each_epoch():
    tasks = {"a": Unshuffled(task("a", 2)), "b": Unshuffled(task("b", 40))}
    made = MixedTargets(tasks, seed=3)
    assert made.epoch(1) == MixedTargets(tasks, seed=3).epoch(1)
    drawn = [{e.prompt for e in made.epoch(n) if e.task == "b"} for n in range(12)]
    assert [len(each) for each in drawn] == [8] * 12
    assert len(set().union(*drawn)) > 30  # no example is left out for good
    other = {**tasks, "b": FixedTargets(task("b", 41))}
    digests = [
        MixedTargets(tasks, seed=3),
        MixedTargets(tasks, seed=4),
        MixedTargets(other, seed=3),
    ]
    assert len({each.digest for each in digests}) == 3
    assert made.digest == digests[0].digest


# --- one model for four units


@pytest.mark.models
@pytest.mark.parametrize("style", ["continuous", "hybrid", "none"])
def test_one_model_tells_four_units_apart_if_and_only_if_it_has_prompts(tmp_path, style):
    """The same query asks for another target in each unit: without prompts, 1 in 4 at best.

    Not for discrete ones, whose words the tiny tokenizer does not know.
    """
    model = tiny_model("llama", tmp_path / "base")
    set_prompts(model, style, ["document", "passage", "sentence", "entity"])
    examples = {
        unit: [
            Example(
                tuple(model.encode_prompt(prompt_for(unit, q, model.prompts))), ((t, END),), unit
            )
            for q, t in [("w1", 10 + at), ("w2", 20 + at), ("w3", 30 + at)]
        ]
        for at, unit in enumerate(model.prompts)
    }
    options = GenerativeOptions(
        train=TrainOptions(
            max_tokens=12_000, batch_tokens=200, learning_rate=1e-2, warmup_tokens=0, patience=100,
            evaluate_tokens=2_000,
        ),
        lora=None,
        prompts=style,
    )  # fmt: skip
    targets = MixedTargets({unit: FixedTargets(each) for unit, each in examples.items()})
    dev = [each for group in examples.values() for each in group]
    report = train_generative(model, targets, tmp_path / "run", options, dev=dev)
    # Two tokens a target, of which the second is certain.
    assert report.best == pytest.approx(np.log(4) / 2 if style == "none" else 0, abs=0.05)
