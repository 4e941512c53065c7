"""Training of the pair model: examples, passages without the answer, mutations, and a run."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from pair_models import tiny_base

from ragkit import models
from ragkit.evaluation.datasets.shapes import SupportPair
from ragkit.finetune.loop import TrainOptions
from ragkit.finetune.pair.derived import about_others, derived_statements
from ragkit.finetune.pair.examples import SpanExample
from ragkit.finetune.pair.mutations import mutated
from ragkit.finetune.pair.negatives import NearMisses, lengthen, with_negatives, without_answer
from ragkit.finetune.pair.properties import property_questions, property_statements
from ragkit.finetune.pair.training import (
    PairData,
    PairOptions,
    epoch_batches,
    tokenize_spans,
    tokenize_support,
    train_pair,
)
from ragkit.pair.encoding import PairTokenizer

PLACES = ["Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra"]
TEXTS = [
    f"The old mill near {place} was built in 18{n}2 beside the river. It grinds more wheat than "
    f"rye for {n + 3} villages. Its wheel is oak. The owner has been Ana Silva since 19{n}1."
    for n, place in enumerate(PLACES, start=2)
]


def span_examples():
    found = []
    for place, text in zip(PLACES, TEXTS, strict=True):
        for question, answer in (
            (f"When was the mill of {place} built?", text.split("built in ")[1][:4]),
            (f"Where is the mill that {place} knows?", place),
            ("Who owns it?", "Ana Silva"),
        ):
            at = text.index(answer)
            found.append(SpanExample(question, text, ((at, at + len(answer)),), place, "mills"))
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return PairTokenizer(models.resolve("minilm") / "tokenizer.json")


def test_targets_are_the_tokens_of_the_answers(tokenizer):
    examples = [
        *span_examples(),
        SpanExample("Where?", "wood " * 600 + "in Oslo.", ((3003, 3007),), "long", "mills"),
    ]
    for example, item in zip(examples, tokenize_spans(tokenizer, examples), strict=True):
        [(first, last)] = item.targets
        offsets = item.window.offsets
        start = offsets[first - item.window.n_first][0]
        end = offsets[last - item.window.n_first][1]
        assert ((start, end),) == example.spans
        assert len(item.window.ids) <= 256


def test_a_passage_without_the_answer_has_whole_other_sentences_only():
    for example in span_examples():
        rest = without_answer(example)
        answer = example.passage[slice(*example.spans[0])]
        assert rest is not None
        assert rest.spans == ()
        assert answer not in rest.passage
        assert all(part.strip() + "." in example.passage for part in rest.passage[:-1].split(". "))
    one = SpanExample("Where?", "In Oslo. It is.", ((3, 7),), "x", "mills")
    assert without_answer(one) is None


def test_near_misses_share_words_and_lack_the_answer():
    examples = span_examples()
    misses = NearMisses(examples)
    for example in examples:
        miss = misses.of(example)
        if example.passage[slice(*example.spans[0])] == "Ana Silva":
            assert miss is None  # every passage has it
        else:
            assert miss is not None
            assert miss.passage != example.passage
            assert miss.spans == ()
    assert list(with_negatives(examples)) == list(with_negatives(examples))


def test_lengthen_keeps_the_answer():
    others = [f"Sentence {n} says little." for n in range(9)]
    for seed, example in enumerate(span_examples()):
        longer = lengthen(example, others, random.Random(seed))
        assert longer.passage[slice(*longer.spans[0])] == example.passage[slice(*example.spans[0])]
        assert example.passage in longer.passage


def test_mutated_statements_differ_in_a_few_words():
    made = list(mutated(TEXTS))
    labels = [example.label for example in made]
    assert labels.count("supported") == len(TEXTS)
    assert labels.count("contradicted") >= len(TEXTS) - 1
    for example in made:
        sentences = {part.rstrip(".") for part in example.evidence.split(". ")}
        core = example.statement.rstrip(".")
        if example.label == "contradicted":
            assert core not in sentences
            near = max(sentences, key=lambda s: len(set(s.split()) & set(core.split())))
            assert len(set(near.split()) ^ set(core.split())) <= 6
    assert made == list(mutated(TEXTS))


def test_batches_hold_every_item_once_and_one_task_each(tokenizer):
    spans = tokenize_spans(tokenizer, span_examples())
    support = tokenize_support(tokenizer, list(mutated(TEXTS)))
    batches = list(epoch_batches([spans, support], 400, seed=1))
    items = [item for batch in batches for item in batch.items]
    assert sorted(map(id, items)) == sorted(map(id, [*spans, *support]))
    assert all(len({item.label < 0 for item in batch.items}) == 1 for batch in batches)
    assert all(batch.n_tokens <= 400 or len(batch.items) == 1 for batch in batches)
    again = epoch_batches([spans, support], 400, seed=1)
    assert [batch.items for batch in again] == [batch.items for batch in batches]


@pytest.mark.models
def test_training_learns_and_a_stopped_run_ends_with_the_same_bits(tokenizer, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from safetensors.numpy import load_file

    from ragkit.pair.model import PairModel

    base = tiny_base(tmp_path / "base")
    spans = tokenize_spans(tokenizer, list(with_negatives(span_examples())))
    statements = [SupportPair("It is so.", TEXTS[0], "unsupported", "g", "s"), *mutated(TEXTS)]
    support = tokenize_support(tokenizer, statements)
    data = PairData(spans, support, spans, support)
    how = TrainOptions(
        max_tokens=60_000, batch_tokens=1200, learning_rate=5e-3, warmup_tokens=0,
        evaluate_tokens=20_000, checkpoint_seconds=0,
    )  # fmt: skip
    options = PairOptions(how, base=str(base))
    whole = train_pair(data, tmp_path / "whole", options)
    losses = [loss for _, loss in whole.evaluations]
    assert losses[-1] < 0.9 * losses[0]

    def stop(progress):
        if progress.tokens > 25_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_pair(data, tmp_path / "cut", options, on_progress=stop)
    assert train_pair(data, tmp_path / "cut", options).evaluations == whole.evaluations
    first, second = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    reading = PairModel(tmp_path / "cut" / "model").read("When was it built?", TEXTS[:1])
    assert reading[0].spans[0] is not None


def test_property_questions_have_the_value_of_their_thing_or_none():
    examples = list(property_questions(150))
    answered = [example for example in examples if example.spans]
    assert 0.5 < len(answered) / len(examples) < 0.7
    for example in answered:
        (start, end) = example.spans[0]
        sentence = example.passage[example.passage.rfind(". ", 0, start) + 1 : end]
        assert re.search(r"\w", example.passage[start:end])
        assert sentence != example.passage
    assert examples == list(property_questions(150))


def test_property_statements_say_what_the_passage_says_or_not():
    pairs = list(property_statements(200))
    assert {pair.label for pair in pairs} == {"supported", "contradicted", "unknown"}
    compared = [p for p in pairs if re.search(r"higher|lower|larger", p.statement)]
    assert {p.label for p in compared} == {"supported", "contradicted"}
    for pair in pairs:
        value = re.search(r"\d[\d.,]*", pair.statement.replace(".", ". ").rstrip(". "))
        if pair.label == "supported" and pair not in compared and value:
            assert value[0].rstrip(".,") in pair.evidence


def test_derived_statements_are_of_the_answer_or_of_another_one():
    text = "Ada Hill wrote the first novel in 1921. Its title is The Sea."
    examples = [
        SpanExample("Who wrote the first novel?", text, ((0, 8),), "g", "s"),
        SpanExample("When was it written?", text, ((34, 38),), "g", "s"),
    ]
    pairs = [pair for seed in range(8) for pair in derived_statements(examples, seed)]
    found = {(pair.statement, pair.label) for pair in pairs}
    assert found == {
        ("Ada Hill wrote the first novel.", "supported"),
        ("1921 wrote the first novel.", "contradicted"),
        ("When was it written? 1921.", "supported"),
        ("When was it written? Ada Hill.", "contradicted"),
    }


def test_questions_about_others_name_what_the_passage_does_not():
    examples = [
        SpanExample(f"Where was {name} born?", f"{name} was born in Oslo.", ((0, 3),), "g", "s")
        for name in ("Ada", "Bo Lund", "Cleo")
    ]
    made = list(about_others(examples))
    assert made
    for example in made:
        name = re.fullmatch(r"Where was (.+) born\?", example.question)
        assert name is not None
        assert not example.spans
        assert name[1] not in example.passage
