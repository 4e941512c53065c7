"""Adapters mean to us what they mean to peft, and training writes ones that help their model."""

from __future__ import annotations

import json
import os
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tiers import smoke
from tiny_models import needs_peft, tiny_bart, tiny_llama, tiny_t5, torch, transformers

from ragkit.errors import CollectionError, FormatMismatch, ModelError
from ragkit.finetune import TrainOptions
from ragkit.finetune.generative import GenerativeOptions, train_generative
from ragkit.finetune.lora import Lora, LoraOptions
from ragkit.finetune.sequences import Example, Pack, causal_logits, seq2seq_logits, target_labels
from ragkit.finetune.supervised import FixedTargets
from ragkit.llms import adapters
from ragkit.llms.beams import ADAPTER_TASK, CausalBeams, Seq2SeqBeams, load_beam_model
from ragkit.llms.local import LocalLLM

pytestmark = needs_peft

# peft 0.21 asks transformers 5 for it by its old name; ours filters that, PeftModel does not.
PEFTS_OWN = "ignore:`is_gradient_checkpointing`:FutureWarning"

TOLERANCE = 1e-4  # float32 of logits up to 30: merged weights add in another order
PROMPT = (5, 9, 13, 7)
MODELS = {
    "llama": (tiny_llama, transformers.AutoModelForCausalLM),
    "bart": (tiny_bart, transformers.AutoModelForSeq2SeqLM),
    "t5": (tiny_t5, transformers.AutoModelForSeq2SeqLM),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By architecture: a base, and an adapter with random factors for it."""
    found = {}
    for name, (make, _) in MODELS.items():
        base = make(tmp_path_factory.mktemp(name) / "base")
        adapter = base.with_name("adapter")
        made = Lora(loaded(name, base), LoraOptions(rank=3, alpha=5), seed=1)
        random = torch.Generator().manual_seed(2)
        for parameter in made.parameters().values():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=random)
        made.save(adapter, about(base))
        found[name] = base, adapter
    return found


@pytest.fixture
def adapter(folders, tmp_path):
    """A copy of llama's adapter, to be damaged."""
    shutil.copytree(folders["llama"][1], tmp_path / "adapter")
    return tmp_path / "adapter"


def loaded(name, base):
    return MODELS[name][1].from_pretrained(base).eval()


def about(base):
    fingerprint = adapters.base_fingerprint(str(base))
    return {"task": ADAPTER_TASK, "base": str(base), "base_fingerprint": fingerprint}


def logits_of(model):
    inputs = {"input_ids": torch.tensor([PROMPT])}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[1, 4, 8]])
    with torch.inference_mode():
        return model(**inputs).logits


def numbers(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model, before):
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.filterwarnings(PEFTS_OWN)
@pytest.mark.parametrize("name", MODELS)
def test_merged_adapter_says_what_peft_says_with_it_beside_and_merged(folders, name):
    base, adapter = folders[name]
    ours = loaded(name, base)
    before = logits_of(ours)
    adapters.merge_adapter(ours, adapter)
    import peft

    beside = peft.PeftModel.from_pretrained(loaded(name, base), str(adapter)).eval()
    expected = logits_of(beside)
    assert (expected - before).abs().max() > 100 * TOLERANCE
    torch.testing.assert_close(logits_of(ours), expected, rtol=0, atol=TOLERANCE)
    merged = beside.merge_and_unload()
    torch.testing.assert_close(logits_of(ours), logits_of(merged), rtol=0, atol=TOLERANCE)
    theirs = merged.state_dict()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=1e-6)


def test_merge_into_bfloat16_rounds_once(folders):
    base, adapter = folders["llama"]
    exact, small = loaded("llama", base), loaded("llama", base).to(torch.bfloat16)
    wide = replace_dtype(small)
    adapters.merge_adapter(small, adapter)
    adapters.merge_adapter(wide, adapter)
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, wide.state_dict()[name].to(torch.bfloat16)), name
    assert exact.dtype == torch.float32


def replace_dtype(model):
    """The same rounded numbers in float32."""
    other = type(model)(model.config).float()
    other.load_state_dict({name: tensor.float() for name, tensor in model.state_dict().items()})
    return other


@pytest.mark.parametrize("name", MODELS)
def test_adapter_changes_every_linear_layer_but_the_output(folders, name):
    base, adapter = folders[name]
    model, config = loaded(name, base), json.loads((adapter / "adapter_config.json").read_text())
    assert (
        config["base_model_name_or_path"]
        == json.loads((adapter / "ragkit.json").read_text())["base"]
    )
    before = numbers(model)
    adapters.merge_adapter(model, adapter)
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {f"{n}.weight" for n in linear}
    assert config["r"] == 3


def test_adapter_for_another_base_is_refused_by_its_fingerprint(folders, tmp_path):
    base, adapter = folders["llama"]
    assert adapters.check_adapter(adapter, str(base), ADAPTER_TASK)["base"] == str(base)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    model = loaded("llama", other)
    model.get_input_embeddings().weight.data[3, 3] += 1
    model.save_pretrained(other)
    with pytest.raises(ModelError, match=r"was trained on .*base.* other weights.*train it again"):
        load_beam_model(str(other), adapter=adapter)
    shutil.copytree(base, tmp_path / "same")
    assert load_beam_model(str(tmp_path / "same"), adapter=adapter).vocab_size > 0


def test_adapter_for_another_task_is_refused(folders):
    base, adapter = folders["llama"]
    with pytest.raises(ModelError, match="was trained for 'generative retrieval', not for 'chat'"):
        adapters.check_adapter(adapter, str(base), "chat")


def wider(tmp_path):
    config = transformers.AutoConfig.from_pretrained(tiny_llama(tmp_path / "narrow"))
    config.hidden_size, config.head_dim = 32, 16
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("which", ["bart", "wider"])
def test_adapter_when_the_model_has_another_shape_is_refused_and_changes_nothing(
    folders, tmp_path, which
):
    model = wider(tmp_path) if which == "wider" else loaded(which, folders[which][0])
    before = numbers(model)
    with pytest.raises(ModelError, match=r"changes .* with factors .* do not fit the model"):
        adapters.merge_adapter(model, folders["llama"][1])
    assert_unchanged(model, before)


def configured(**values):
    def damage(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return damage


def tensors_edited(change):
    def damage(folder):
        from safetensors.torch import load, save

        file = folder / "adapter_model.safetensors"
        tensors = load(file.read_bytes())
        change(tensors, sorted(tensors))
        file.write_bytes(save(tensors))

    return damage


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def piped(name):
    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def cut(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FACTORS = {
    "no factor": lambda tensors, names: tensors.clear(),
    "one factor without the other": lambda tensors, names: tensors.pop(names[-1]),
    "a factor of another rank": lambda tensors, names: tensors.update(
        {names[0]: torch.ones(4, tensors[names[0]].shape[1])}
    ),
    "a factor of no rank": lambda tensors, names: tensors.update({names[0]: torch.ones(3)}),
    "numbers that are whole": lambda tensors, names: tensors.update(
        {name: tensors[name].to(torch.int32) for name in names}
    ),
    "numbers that are complex": lambda tensors, names: tensors.update(
        {name: tensors[name].to(torch.complex64) for name in names}
    ),
    "a bias": lambda tensors, names: tensors.update({"base_model.model.x.bias": torch.ones(3)}),
    "a magnitude": lambda tensors, names: tensors.update(
        {names[0].replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(3)}
    ),
}
DAMAGES = {
    "use_dora": (configured(use_dora=True), "use_dora; only plain LoRA"),
    "use_rslora": (configured(use_rslora=True), "use_rslora; only plain LoRA"),
    "bias": (configured(bias="all"), "bias; only plain LoRA"),
    "lora_bias": (configured(lora_bias=True), "lora_bias; only plain LoRA"),
    "rank_pattern": (configured(rank_pattern={"q": 2}), "rank_pattern"),
    "alpha_pattern": (configured(alpha_pattern={"q": 2}), "alpha_pattern"),
    "modules_to_save": (configured(modules_to_save=["lm_head"]), "modules_to_save"),
    "fan_in_fan_out": (configured(fan_in_fan_out=True), "fan_in_fan_out"),
    "target_parameters": (configured(target_parameters=["x"]), "target_parameters"),
    "PiSSA": (configured(init_lora_weights="pissa"), "init_lora_weights='pissa'"),
    "another kind": (configured(peft_type="IA3"), "peft_type is 'IA3'"),
    "rank 0": (configured(r=0), "expected a finite number, and 1 to 1024"),
    "another rank": (configured(r=6), "expected rank 6"),
    "alpha that is none": (configured(lora_alpha=float("nan")), "lora_alpha is nan"),
    "alpha that is a text": (configured(lora_alpha="much"), "cannot be read"),
    "a list": (written(CONFIG, b"[]"), "cannot be read"),
    "no JSON": (written(CONFIG, b"\xff{"), "cannot be read"),
    "JSON too deep": (written(CONFIG, b"[" * 200_000), "cannot be read"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "cannot be read"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "cannot be read"),
    "weights that are a pickle": (written(WEIGHTS, b"\x80\x04K\x01."), "cannot be read"),
    "weights that are a pipe": (piped(WEIGHTS), "not a regular file"),
    "a configuration that is a pipe": (piped(CONFIG), "not a regular file"),
    "weights cut short": (cut, "cannot be read"),
    **{name: (tensors_edited(change), "cannot be read") for name, change in FACTORS.items()},
}


def larger(name, factor):
    """A change of a damaged adapter's factors: one number of the last one."""

    def change(tensors, names):
        tensors[names[-1]][0, 0] = factor

    return name, (tensors_edited(change), "by NaN or by values too large")


DAMAGES |= dict(larger(str(each), each) for each in (float("nan"), float("inf"), 3e38))
DAMAGES["an alpha that is too much"] = (
    configured(lora_alpha=1e300),
    "by NaN or by values too large",
)


@pytest.mark.parametrize("what", DAMAGES)
def test_adapter_when_it_holds_what_we_do_not_read_is_refused_whole(folders, adapter, what):
    damage, words = DAMAGES[what]
    damage(adapter)
    model = loaded("llama", folders["llama"][0])
    before = numbers(model)
    with pytest.raises(ModelError, match=words) as caught:
        adapters.merge_adapter(model, adapter)
    assert str(adapter) in str(caught.value)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[]", b"{}", b"\xff", b'{"format": 1, "base": 3}', b"[" * 200_000, b"null"],
)
def test_adapter_when_ragkit_json_is_missing_or_none_is_refused(folders, adapter, content):
    if content is None:
        (adapter / "ragkit.json").unlink()
    else:
        (adapter / "ragkit.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a ragkit adapter.*ragkit\.json"):
        load_beam_model(str(folders["llama"][0]), adapter=adapter)


def test_adapter_when_of_another_format_is_refused(folders, adapter):
    (adapter / "ragkit.json").write_text('{"format": 2}')
    with pytest.raises(FormatMismatch, match="has format 2; this version reads 1"):
        load_beam_model(str(folders["llama"][0]), adapter=adapter)


@contextmanager
def files_of_at_most(n_bytes):
    """The nearest to a full disk: writing beyond the limit fails in the operating system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("limit", [100, 8_000])
def test_adapter_when_the_disk_is_full_stays_what_it_was(folders, adapter, limit):
    before = contents(adapter)
    made = Lora(loaded("llama", folders["llama"][0]), LoraOptions(rank=3))
    assert len(before[WEIGHTS]) < 8_000  # the second limit is reached by what `about` holds
    with (
        files_of_at_most(limit),
        pytest.raises(CollectionError, match=r"cannot be written: File too large.*free space"),
    ):
        made.save(adapter, {"long": "x" * 10_000})
    assert contents(adapter) == before
    made.save(adapter, {"long": "x" * 10_000})
    assert contents(adapter).keys() == before.keys()
    assert contents(adapter) != before
    assert [path.name for path in adapter.parent.iterdir()] == ["adapter"]


def test_lora_begins_as_the_model_it_is_added_to_and_trains_nothing_else(folders):
    base = folders["llama"][0]
    model = loaded("llama", base)
    expected = logits_of(model)
    made = Lora(model, LoraOptions(rank=3))
    assert torch.equal(logits_of(model), expected)
    assert all("lora_" in name for name in made.parameters())
    with pytest.raises(ValueError, match=r"rank is 0.*expected 1 to 1024"):
        LoraOptions(rank=0)


def test_lora_writes_the_factors_it_has_in_bfloat16(folders, tmp_path):
    from safetensors.torch import load

    made = Lora(loaded("llama", folders["llama"][0]), LoraOptions(rank=3))
    for parameter in made.parameters().values():
        torch.nn.init.normal_(parameter)
    made.save(tmp_path / "adapter", {})
    found = load((tmp_path / "adapter" / WEIGHTS).read_bytes())
    expected = {name.replace(".default", ""): p for name, p in made.parameters().items()}
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        assert torch.equal(found[name], parameter.to(torch.bfloat16)), name


# Training as a whole.

EXAMPLES = [Example((3 + i, 20, 4 + i), ((30 - i, 25, 1), (31 - i,)), "toy") for i in range(8)]
OPTIONS = TrainOptions(
    max_tokens=1_600,
    batch_tokens=64,
    learning_rate=0.02,
    warmup_tokens=0,
    evaluate_tokens=800,
    seed=3,
)
LORA = LoraOptions(rank=4, alpha=8, dropout=0.1)


def opened(name, base):
    if name == "llama":
        return CausalBeams(LocalLLM(str(base), dtype="float32"))
    return Seq2SeqBeams(str(base))


def loss_of(model):
    """Nats a token of the examples."""
    with torch.inference_mode():
        if isinstance(model, Seq2SeqBeams):
            logits = seq2seq_logits(model.module, EXAMPLES)
        else:
            model.module.set_attn_implementation("sdpa")
            logits = causal_logits(model.module, [Pack.of(EXAMPLES)])
        labels = torch.from_numpy(target_labels(EXAMPLES))
        return torch.nn.functional.cross_entropy(logits, labels).item()


def trained(name, base, folder, lora, options=OPTIONS, on_progress=None):
    model = opened(name, base)
    how = GenerativeOptions(train=options, lora=lora, about={"data": "toy"})
    targets = FixedTargets(EXAMPLES)
    return train_generative(model, targets, folder, how, dev=EXAMPLES, on_progress=on_progress)


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "all weights"])
@pytest.mark.parametrize("name", smoke(["llama", "bart"], tier="models"))
def test_training_lowers_the_loss_and_writes_what_says_so(folders, tmp_path, name, lora):
    base = folders[name][0]
    began = loss_of(opened(name, base))
    report = trained(name, base, tmp_path, lora)
    assert report.stopped == "budget"
    assert report.best is not None
    assert report.best < 0.7 * began
    if lora is None:
        found = load_beam_model(str(tmp_path / "model"))
    else:
        found = load_beam_model(str(base), adapter=tmp_path / "adapter")
        assert json.loads((tmp_path / "adapter" / "ragkit.json").read_text())["data"] == "toy"
    assert found.begin("w1 w2").logprobs().shape == (1, found.vocab_size)
    # bf16: of the adapter, and of the causal model's numbers.
    assert loss_of(found) == pytest.approx(report.best, rel=0.05, abs=0.02)


@pytest.mark.models
@pytest.mark.parametrize("name", ["llama", "bart"])
def test_training_when_stopped_and_called_again_writes_the_same_adapter(folders, tmp_path, name):
    base, often = folders[name][0], {"evaluate_tokens": 150, "checkpoint_seconds": 0}
    options = replace(OPTIONS, max_tokens=300, **often)
    expected = trained(name, base, tmp_path / "whole", LORA, options)

    def stop(now):
        if now.tokens >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(name, base, tmp_path / "stopped", LORA, options, stop)
    report = trained(name, base, tmp_path / "stopped", LORA, options)
    assert replace(report, seconds=0) == replace(expected, seconds=0)
    assert contents(tmp_path / "stopped" / "adapter") == contents(tmp_path / "whole" / "adapter")


def test_training_leaves_the_model_to_be_evaluated_whatever_happens(folders, tmp_path):
    model = opened("bart", folders["bart"][0])
    how = GenerativeOptions(train=OPTIONS, lora=LORA)

    def stop(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generative(model, FixedTargets(EXAMPLES), tmp_path, how, on_progress=stop)
    assert not model.module.training


def test_training_when_the_folder_holds_other_examples_is_refused(folders, tmp_path):
    base, options = folders["llama"][0], replace(OPTIONS, max_tokens=100)
    trained("llama", base, tmp_path, LORA, options)
    how = GenerativeOptions(train=options, lora=LORA)
    for targets, size in ((FixedTargets(EXAMPLES[:4]), LORA), (FixedTargets(EXAMPLES), None)):
        model = opened("llama", base)
        with pytest.raises(ModelError, match="other settings or data"):
            train_generative(model, targets, tmp_path, replace(how, lora=size))


def test_training_all_weights_in_bfloat16_is_refused(folders, tmp_path):
    model = CausalBeams(LocalLLM(str(folders["llama"][0]), dtype="bfloat16"))
    with pytest.raises(ModelError, match="rounds small steps away; load it in float32"):
        train_generative(model, FixedTargets(EXAMPLES), tmp_path, GenerativeOptions(lora=None))


def test_adapter_when_it_claims_an_endless_rank_takes_no_memory(folders, adapter):
    rank, layer = 50_000_000, "base_model.model.model.layers.0.self_attn.q_proj"
    n_bytes = 2 * 16 * rank
    shapes = {"lora_A": [rank, 16], "lora_B": [16, rank]}
    header = json.dumps(
        {
            f"{layer}.{name}.weight": {
                "dtype": "F16", "shape": shape, "data_offsets": [i * n_bytes, (i + 1) * n_bytes],
            }
            for i, (name, shape) in enumerate(shapes.items())
        }
    ).encode()  # fmt: skip
    with (adapter / WEIGHTS).open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 2 * n_bytes)  # of holes: nothing is on the disk
    configured(r=rank)(adapter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=f"r is {rank}; expected a finite number, and 1 to 1024"):
        adapters.merge_adapter(loaded("llama", folders["llama"][0]), adapter)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_model_when_its_prompts_are_damaged_is_not_changed(folders, adapter):
    llm = LocalLLM(str(folders["llama"][0]), dtype="float32")
    before = numbers(llm.model)
    about = json.loads((adapter / "ragkit.json").read_text())
    (adapter / "ragkit.json").write_text(json.dumps({**about, "prompts": {"title": 5}}))
    with pytest.raises(ModelError, match="prompts"):
        CausalBeams(llm, adapter)
    assert_unchanged(llm.model, before)


def test_adapter_for_another_base_is_refused_in_few_and_printable_words(folders, adapter):
    about = json.loads((adapter / "ragkit.json").read_text())
    other = {"base": "x" * 100_000, "base_fingerprint": "\x1b]0;title\x07"}
    (adapter / "ragkit.json").write_text(json.dumps({**about, **other}))
    with pytest.raises(ModelError, match="has other weights") as caught:
        load_beam_model(str(folders["llama"][0]), adapter=adapter)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("missing", ["adapter_config.json", WEIGHTS, "ragkit.json"])
def test_install_of_a_part_of_an_adapter_leaves_what_is_there(folders, adapter, tmp_path, missing):
    target = tmp_path / "installed"
    adapters.install(adapter, target)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    (adapter / missing).unlink()
    with pytest.raises(ModelError, match=missing.replace(".", r"\.")):
        adapters.install(adapter, target)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before


@pytest.mark.parametrize("lora", [LoraOptions(rank=2), None])
def test_training_when_its_place_holds_other_things_is_refused_before_it_begins(
    folders, tmp_path, lora
):
    work = tmp_path / "project" / ("model" if lora is None else "adapter")
    work.mkdir(parents=True)
    (work / "code.py").write_text("mine")
    model = CausalBeams(LocalLLM(str(folders["llama"][0]), dtype="float32"))
    targets = FixedTargets([Example(PROMPT, ((4, 5),))])
    with pytest.raises(ModelError, match="files that training did not write"):
        train_generative(model, targets, work.parent, GenerativeOptions(lora=lora))
    assert [path.name for path in work.parent.iterdir()] == [work.name]
    assert (work / "code.py").read_text() == "mine"
