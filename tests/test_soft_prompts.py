"""Trained prompts: a vector is read as the embedding it is, learned, stored, and never smuggled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from tiers import smoke
from tiny_models import END, VOCABULARY, tiny_bart, tiny_llama, tokenizers, torch
from token_models import opened, tiny_model

from ragkit.errors import ModelError
from ragkit.finetune.generative import FixedTargets, GenerativeOptions, train_generative
from ragkit.finetune.loop import TrainOptions
from ragkit.finetune.lora import LoraOptions
from ragkit.finetune.sequences import Example, Pack, causal_logits, seq2seq_logits
from ragkit.finetune.soft_prompts import (
    N_VECTORS,
    SoftPrompts,
    check_style,
    prompt_templates,
    save_vectors,
    set_prompts,
)
from ragkit.llms.beams import CausalBeams, Seq2SeqBeams, load_beam_model
from ragkit.llms.local import LocalLLM
from ragkit.llms.soft_prompts import (
    PROMPTS,
    Prompts,
    model_inputs,
    nearest_template,
    read_prompts,
    split_vectors,
    vector_text,
)
from ragkit.retrievers.ngram import NgramRetriever
from ragkit.retrievers.rows import prompt_for
from ragkit.retrievers.title import TitleRetriever
from ragkit.types import Document

# peft asks transformers for a name that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

KINDS = ["llama", "bart", "t5"]
V = [vector_text(number) for number in range(40)]
VOCAB = len(VOCABULARY)
STYLES = ["discrete", "continuous", "hybrid", "none"]
TOLERANCE = 1e-5  # float32: a cache and a padded batch round differently from one pass


# What trains is tried with one kind of model in `make test`.
one_kind = pytest.mark.parametrize("model", smoke(KINDS, tier="models"), indirect=True)


@pytest.fixture(params=KINDS)
def model(request, tmp_path) -> Any:
    return tiny_model(request.param, tmp_path / "base")


def reader(model) -> Any:
    return model.module if isinstance(model, CausalBeams) else model.module.get_encoder()


def rows_of(model, words: list[str]) -> torch.Tensor:
    """What the first layer gets for words."""
    with torch.no_grad():
        tokens = torch.tensor([VOCABULARY[word] for word in words])
        return reader(model).get_input_embeddings()(tokens).clone()


def random_vectors(n: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def walk(beams, tokens: list[int]) -> np.ndarray:
    """Log-probabilities before each of some tokens."""
    found = []
    for token in tokens:
        found.append(beams.logprobs()[0])
        beams.advance([0], [token])
    return np.stack(found)


# --- reading


def test_vectors_that_are_set_to_embedding_rows_are_read_as_those_words(model):
    model.set_prompts(Prompts({"passage": "{query}"}, rows_of(model, ["w9", "w4", "w30"])))
    asked = f"{V[1]}w1 w2{V[0]}{V[2]}w3{V[1]}"
    found = walk(model.begin(asked), [5, 6, 7])
    expected = walk(model.begin("w4 w1 w2 w9 w30 w3 w4"), [5, 6, 7])
    np.testing.assert_array_equal(found, expected)
    other = walk(model.begin("w4 w1 w2 w9 w31 w3 w4"), [5, 6, 7])
    assert np.abs(found - other).max() > 1e-3  # the last vector but one counts


def test_vectors_of_a_model_that_scales_its_embeddings_are_read_as_its_layers_get_them(tmp_path):
    folder = tiny_bart(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "scale_embedding": True}))
    model = Seq2SeqBeams(folder)
    assert model.module.get_encoder().embed_tokens.embed_scale == 4.0  # √16
    model.set_prompts(Prompts({"passage": "{query}"}, rows_of(model, ["w9"])))
    found = model.begin(f"{V[0]}w1").logprobs()
    np.testing.assert_array_equal(found, model.begin("w9 w1").logprobs())


def test_tokens_of_a_vector_follow_the_vocabulary(model):
    found = model.encode_prompt(f"{V[3]}w1{V[0]}{V[1]} w2 w3")
    w1, w2, w3 = (VOCABULARY[word] for word in ("w1", "w2", "w3"))
    assert found == [VOCAB + 3, w1, VOCAB, VOCAB + 1, w2, w3]


def test_tokens_that_frame_a_text_frame_a_prompt_with_vectors_once(tmp_path):
    folder = tiny_bart(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<pad> $A </s>", special_tokens=[("<pad>", 0), ("</s>", END)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    model = Seq2SeqBeams(folder)
    w1 = VOCABULARY["w1"]
    assert model.encode_prompt("w1") == [0, w1, END]
    assert model.encode_prompt(f"{V[0]}w1{V[1]}") == [0, VOCAB, w1, VOCAB + 1, END]


def test_tokens_that_begin_a_text_of_a_causal_model_stand_before_the_vectors(tmp_path):
    folder = tiny_llama(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<pad> $A", special_tokens=[("<pad>", 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    model = CausalBeams(LocalLLM(str(folder), dtype="float32"))
    w1, w2 = VOCABULARY["w1"], VOCABULARY["w2"]
    assert model.encode_prompt(f"{V[0]}w1{V[1]}w2") == [0, VOCAB, w1, VOCAB + 1, w2]


@pytest.mark.parametrize(
    ("vectors", "what"),
    [
        (None, "trained vector 2, but the model has 0"),
        (random_vectors(2), "trained vector 2, but the model has 2"),
        (random_vectors(3, width=8), "3 vectors of width 8 for embeddings of width 16"),
    ],
)
def test_begin_and_training_when_a_vector_is_not_there_raise_model_error(model, vectors, what):
    model.set_prompts(Prompts({"passage": "{query}"}, vectors))
    with pytest.raises(ModelError, match=what):
        model.begin(f"{V[2]}w1")
    with pytest.raises(ModelError, match=what):
        logits_of(model, [Example((VOCAB + 2, 4), ((5,),))], vectors)


def test_model_inputs_without_a_vector_are_the_tokens_themselves(model):
    tokens = torch.tensor([[0, VOCAB - 1]])
    found = model_inputs(reader(model), tokens, random_vectors(3))
    assert list(found) == ["input_ids"]
    assert found["input_ids"] is tokens


# --- training reads what search reads


def logits_of(model, examples: list[Example], vectors) -> torch.Tensor:
    if isinstance(model, Seq2SeqBeams):
        return seq2seq_logits(model.module, examples, vectors)
    return causal_logits(model.module, [Pack.of(examples)], vectors)


def test_teacher_forced_logits_equal_the_steps_of_beams(model):
    model.module.set_attn_implementation("sdpa" if isinstance(model, CausalBeams) else "eager")
    model.set_prompts(Prompts(prompt_templates("hybrid", ["title", "passage"]), random_vectors(16)))
    asked = [prompt_for(u, q, model.prompts) for u, q in [("title", "w1 w2"), ("passage", "w3")]]
    targets = (((5, 6, 7), (8, 9)), ((5, 10, 11),))
    pairs = zip(asked, targets, strict=True)
    examples = [Example(tuple(model.encode_prompt(prompt)), each) for prompt, each in pairs]
    with torch.inference_mode():
        found = logits_of(model, examples, model.vectors).double().log_softmax(-1).numpy()
    expected = [
        walk(model.begin(prompt), list(target))
        for prompt, each in zip(asked, targets, strict=True)
        for target in each
    ]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=TOLERANCE)


def test_gradient_reaches_the_vectors_of_the_prompt_and_no_others(model):
    vectors = random_vectors(6).requires_grad_()
    prompt = tuple(model.encode_prompt(f"{V[4]}w1{V[1]}"))
    logits_of(model, [Example(prompt, ((5, 6),))], vectors).sigmoid().sum().backward()
    norms = vectors.grad.norm(dim=1)
    assert (norms > 0).tolist() == [False, True, False, False, True, False]


# --- templates


def test_templates_of_two_units_by_style_are_these():
    units = ["title", "passage"]
    eight, more = "".join(V[:8]), "".join(V[8:16])
    title, passage = "Query: {query}\nTitle:", "Query: {query}\nPassage:"
    assert [prompt_templates(style, units) for style in STYLES] == [
        {"title": title, "passage": passage},
        {"title": eight + "{query}", "passage": more + "{query}"},
        {"title": eight[:4] + title + eight[4:], "passage": more[:4] + passage + more[4:]},
        {"title": "{query}", "passage": "{query}"},
    ]
    assert prompt_templates("discrete") == PROMPTS


@pytest.mark.parametrize(
    ("style", "units"), [("soft", ["title"]), ("none", []), ("none", ["chapter"])]
)
def test_templates_when_style_or_units_are_unknown_raise_value_error(style, units):
    with pytest.raises(ValueError, match="expected"):
        prompt_templates(style, units)


def test_unit_that_was_not_trained_is_asked_for_as_the_nearest():
    trained = {"title": "t {query}", "document": "d {query}", "sentence": "s {query}"}
    found = [prompt_for(unit, "q", trained) for unit in PROMPTS]
    assert found == ["t q", "d q", "d q", "s q", "d q"]
    with pytest.raises(ValueError, match="the unit is 'chapter'"):
        nearest_template("chapter", trained)
    with pytest.raises(ValueError, match="no prompts"):
        nearest_template("title", {})


@given(
    unit=st.sampled_from(sorted(PROMPTS)),
    style=st.sampled_from(STYLES),
    query=st.lists(
        st.sampled_from([*V[:20], "\U000ffffd", "\U000fffff", "w", "1", " ", "{query}", "{"])
    ).map("".join),
)
def test_prompt_of_any_query_holds_the_vectors_of_its_template_and_no_others(unit, style, query):
    templates = prompt_templates(style)
    numbers = [n for n in split_vectors(templates[unit]) if isinstance(n, int)]
    found = split_vectors(prompt_for(unit, query, templates))
    assert [n for n in found if isinstance(n, int)] == numbers
    plain = "".join(c for c in query if not 0xF0000 <= ord(c) <= 0xFFFFF)
    assert prompt_for(unit, plain, templates) == prompt_for(unit, query, templates)


def test_query_with_vectors_is_read_as_the_query_without_them(model):
    set_prompts(model, "continuous", ["passage"])
    smuggled = prompt_for("passage", f"{V[0]}w1 w{V[9]}2 {V[39]}", model.prompts)
    tokens = model.encode_prompt(smuggled)
    assert tokens == [*range(VOCAB, VOCAB + 8), VOCABULARY["w1"], VOCABULARY["w2"]]
    assert max(model.encode(f"w1 {V[0]} w2")) < VOCAB  # texts of a corpus neither


# --- retrievers


def test_retrievers_ask_a_model_the_way_it_was_trained(tmp_path):
    asked: list[str] = []

    class Watched(CausalBeams):
        def begin(self, *prompts: str) -> Any:
            asked.extend(prompts)
            return super().begin(*prompts)

    model = Watched(LocalLLM(str(tiny_llama(tmp_path / "base")), dtype="float32"))
    templates = prompt_templates("hybrid", ["title", "document"])
    model.set_prompts(Prompts(templates, random_vectors(16)))
    with opened(tmp_path / "c.rag") as collection:
        collection.add([Document("a", "w1 w2 w3", "w4 w5"), Document("b", "w6 w7", "w8")])
        NgramRetriever(collection, model, granularity="sentence").retrieve([f"w1{V[3]}"], 1)
        TitleRetriever(collection, model).retrieve(["w2"], 1)
    body = templates["document"].replace("{query}", "w1")  # the nearest to a sentence of the two
    titles = [templates["title"].replace("{query}", query) for query in ("w1", "w2")]
    assert set(asked) == {body, *titles}


# --- the re-parameterisation


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, w: dict[str, np.ndarray], end: str) -> np.ndarray:
    """One direction of an LSTM over float64 (steps, width), gates in the order i, f, g, o."""
    half = w[f"weight_hh_l0{end}"].shape[1]
    h, c, found = np.zeros(half), np.zeros(half), []
    for row in x:
        z = w[f"weight_ih_l0{end}"] @ row + w[f"bias_ih_l0{end}"]
        z = z + w[f"weight_hh_l0{end}"] @ h + w[f"bias_hh_l0{end}"]
        i, f, g, o = (z[k * half : (k + 1) * half] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found)


@pytest.mark.parametrize("width", [16, 7])
def test_vectors_are_a_two_layer_relu_mlp_over_a_bilstm_unit_by_unit(width):
    templates = prompt_templates("hybrid", ["title", "passage", "entity"])
    soft = SoftPrompts(templates, torch.nn.Embedding(50, width), seed=3)
    w = {k.split(".", 1)[1]: v.detach().double().numpy() for k, v in soft.parameters().items()}
    gates = {k.removeprefix("lstm."): v for k, v in w.items() if k.startswith("lstm.")}
    expected = []
    for x in w["table"]:
        hidden = [lstm(x, gates, ""), lstm(x[::-1], gates, "_reverse")[::-1]]
        inner = np.concatenate(hidden, axis=1) @ w["mlp.0.weight"].T + w["mlp.0.bias"]
        expected.append(np.maximum(inner, 0) @ w["mlp.2.weight"].T + w["mlp.2.bias"])
    found = soft.vectors().detach().numpy()
    assert found.shape == (3 * N_VECTORS, width)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-5)
    assert len(w) == 1 + 8 + 4  # nothing else is trained


def test_vectors_begin_as_spread_as_embeddings_and_leave_the_random_state_alone():
    embedding = torch.nn.Embedding(500, 16)
    with torch.no_grad():
        embedding.weight *= 0.05
    before = torch.get_rng_state()
    made = [
        SoftPrompts(prompt_templates("continuous"), embedding, seed=seed).vectors().detach()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert made[0].std().item() == pytest.approx(embedding.weight.std().item(), rel=1e-4)


# --- stored


def trained(
    model, folder: Path, style: str, *, lora: bool, stop: int = 0, max_tokens: int = 200
) -> Path:
    """Train on two units of a style; with `stop`, be stopped after so many steps and go on."""
    set_prompts(model, style, ["passage", "title"])
    examples = [
        Example(tuple(model.encode_prompt(prompt_for(unit, query, model.prompts))), targets, unit)
        for unit, query, targets in [
            ("passage", "w1 w2", ((5, 6, 7), (8, 9, 10))),
            ("title", "w1 w2", ((20, 21, END),)),
            ("passage", "w3", ((11, 12),)),
            ("title", "w3", ((22, END),)),
        ]
    ]
    options = GenerativeOptions(
        train=TrainOptions(
            max_tokens=max_tokens, batch_tokens=40, learning_rate=1e-2, warmup_tokens=0,
            checkpoint_seconds=0, seed=5,
        ),
        lora=LoraOptions(rank=2, alpha=4) if lora else None,
        about={"licence": "none"},
        prompts=style,
    )  # fmt: skip
    targets, steps = FixedTargets(examples), 0

    def count(_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            raise StopIteration

    if stop:
        with pytest.raises(StopIteration):
            train_generative(model, targets, folder, options, on_progress=count)
        model = reloaded(model)
        set_prompts(model, style, ["passage", "title"])
    train_generative(model, targets, folder, options)
    return folder / ("adapter" if lora else "model")


def opened_model(kind: type, name: str) -> Any:
    return (
        Seq2SeqBeams(name) if kind is Seq2SeqBeams else CausalBeams(LocalLLM(name, dtype="float32"))
    )


def reloaded(model) -> Any:
    return opened_model(type(model), model.name)


def told(model, unit: str = "passage") -> bytes:
    return walk(model.begin(prompt_for(unit, "w1 w2", model.prompts)), [5, 6]).tobytes()


@one_kind
@pytest.mark.parametrize("style", smoke(["continuous", "hybrid"], tier="models"))
def test_adapter_with_prompts_loads_and_gives_the_same_bytes_twice(model, tmp_path, style):
    folder = trained(model, tmp_path / "run", style, lora=True)
    loaded = [load_beam_model(model.name, adapter=folder) for _ in range(2)]
    assert told(loaded[0]) == told(loaded[1])
    assert loaded[0].identity == loaded[1].identity
    stored = read_prompts(folder)
    assert stored.templates == prompt_templates(style, ["passage", "title"]) == loaded[0].prompts
    assert torch.equal(stored.vectors, loaded[0].vectors)
    assert stored.vectors.shape == (16, 16)
    about = json.loads((folder / "ragkit.json").read_text())
    assert (about["prompt_style"], about["licence"]) == (style, "none")

    stored_bytes = (folder / "prompts.safetensors").read_bytes()
    save_vectors(folder, stored.vectors * 1.5)  # other vectors, another model
    other = load_beam_model(model.name, adapter=folder)
    assert told(other) != told(loaded[0])
    assert other.identity != loaded[0].identity
    save_vectors(folder, stored.vectors)
    assert (folder / "prompts.safetensors").read_bytes() == stored_bytes


@one_kind
@pytest.mark.parametrize("style", smoke(STYLES, "hybrid", tier="models"))
def test_model_of_which_all_weights_were_trained_loads_with_its_prompts(model, tmp_path, style):
    attention = model.module.config._attn_implementation
    folder = trained(model, tmp_path / "run", style, lora=False)
    model.module.set_attn_implementation(attention)  # which training has changed
    stored = read_prompts(folder)
    assert (stored.vectors is not None) == (style in ("continuous", "hybrid"))
    model.set_prompts(stored)  # the weights are those in memory
    loaded = opened_model(type(model), str(folder))
    assert loaded.prompts == prompt_templates(style, ["passage", "title"])
    assert [told(loaded, unit) for unit in ("passage", "title")] == [
        told(model, unit) for unit in ("passage", "title")
    ]


@one_kind
@pytest.mark.parametrize("lora", smoke([True, False], tier="models"))
def test_run_that_was_stopped_goes_on_to_the_same_bytes(model, tmp_path, lora):
    whole = trained(model, tmp_path / "whole", "hybrid", lora=lora)
    parts = trained(reloaded(model), tmp_path / "parts", "hybrid", lora=lora, stop=4)
    names = ["prompts.safetensors", "adapter_model.safetensors" if lora else "model.safetensors"]
    for name in names:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    states = [next(each.parent.glob("run/checkpoint-*")) for each in (whole, parts)]
    assert states[0].name == states[1].name != "checkpoint-4"
    files = [(state / "parameters.safetensors").read_bytes() for state in states]
    assert files[0] == files[1]
    from safetensors.torch import load_file

    kept = load_file(states[0] / "parameters.safetensors")
    assert {"prompts.table", "prompts.lstm.weight_hh_l0", "prompts.mlp.2.bias"} <= set(kept)


@one_kind
def test_training_moves_the_vectors(model, tmp_path):
    folder = trained(model, tmp_path / "run", "continuous", lora=True)
    begun = SoftPrompts(
        read_prompts(folder).templates, reader(model).get_input_embeddings(), seed=5
    )
    moved = (read_prompts(folder).vectors - begun.vectors()).abs().max(dim=1).values
    assert (moved > 1e-3).all()


def test_run_that_goes_on_with_another_style_raises_model_error(tmp_path):
    model = tiny_model("llama", tmp_path / "base")
    trained(model, tmp_path / "run", "hybrid", lora=True)
    with pytest.raises(ModelError, match="other settings or data"):
        trained(reloaded(model), tmp_path / "run", "continuous", lora=True)


def test_training_when_the_model_is_asked_in_another_style_raises_value_error(tmp_path):
    model = tiny_model("llama", tmp_path / "base")
    examples = FixedTargets([Example((4, 5), ((6,),))])
    with pytest.raises(ValueError, match=r"set_prompts\(model, 'hybrid'\)"):
        train_generative(model, examples, tmp_path / "run", GenerativeOptions(prompts="hybrid"))
    for style in STYLES:
        for asked in STYLES:
            if style == asked:
                check_style(prompt_templates(asked, ["title"]), style)
            else:
                with pytest.raises(ValueError, match="prompts are in another one"):
                    check_style(prompt_templates(asked, ["title"]), style)


def test_identity_of_a_model_with_usual_prompts_is_its_name_and_numbers(model):
    assert model.identity == f"{model.name} float32"
    set_prompts(model, "none")
    assert model.identity.startswith(f"{model.name} float32 + prompts ")
    set_prompts(model, "discrete")
    assert model.identity == f"{model.name} float32"


TEMPLATES = {"passage": V[0] + V[1] + "{query}"}


@pytest.mark.parametrize(
    ("about", "vectors", "what"),
    [
        ("{", random_vectors(2), "Expecting"),
        ("[]", random_vectors(2), "not a JSON object"),
        ('{"prompts": []}', random_vectors(2), "not an object with a template by unit"),
        ('{"prompts": {}}', random_vectors(2), "not an object with a template by unit"),
        ('{"prompts": {"chapter": "{query}"}}', None, "'chapter'"),
        ('{"prompts": {"title": 7}}', None, "'title'"),
        ('{"prompts": {"title": "Title:"}}', None, "'title'"),
        ('{"prompts": {"title": "{query} {query}"}}', None, "'title'"),
        (json.dumps({"prompts": {"title": "w1 " * 3000 + "{query}"}}), None, "at most 2000"),
        (json.dumps({"prompts": TEMPLATES}), None, "No such file"),
        (json.dumps({"prompts": TEMPLATES}), bytes((1 << 26) + 1), "longer than"),
        (json.dumps({"prompts": TEMPLATES}), save({"vectors": torch.ones(2, 16).int()}), "int32"),
        (json.dumps({"prompts": TEMPLATES}), random_vectors(3), r"\(3, 16\); expected 2"),
        (json.dumps({"prompts": TEMPLATES}), random_vectors(2) / 0, "expected 2 vectors of finite"),
        (json.dumps({"prompts": TEMPLATES}), random_vectors(2)[0], "expected 2"),
        (json.dumps({"prompts": TEMPLATES}), b"no tensors", "prompts.safetensors: "),
    ],
)
def test_prompts_that_are_damaged_raise_model_error(tmp_path, about, vectors, what):
    (tmp_path / "ragkit.json").write_text(about)
    if isinstance(vectors, bytes):
        (tmp_path / "prompts.safetensors").write_bytes(vectors)
    elif vectors is not None:
        save_vectors(tmp_path, vectors)
    with pytest.raises(ModelError, match=what):
        read_prompts(tmp_path)


def test_folders_that_say_nothing_of_prompts_have_the_usual_ones(tmp_path):
    assert read_prompts(tmp_path / "none").templates == PROMPTS
    (tmp_path / "ragkit.json").write_text('{"format": 1}')
    found = read_prompts(tmp_path)
    assert (found.templates, found.vectors, found.identity) == (PROMPTS, None, "")


@pytest.mark.parametrize("number", [-1, 0xFFFE])
def test_vector_numbers_beyond_the_plane_raise_value_error(number):
    with pytest.raises(ValueError, match="expected 0 to 65533"):
        vector_text(number)
