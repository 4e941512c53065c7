"""Learning from pairs: the loss is the formula's, and what is chosen becomes likelier."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tiny_models import tiny_llama, torch

from ragkit.errors import ModelError
from ragkit.finetune import LoraOptions, TrainOptions
from ragkit.finetune.lora import Lora
from ragkit.finetune.preferences import (
    Preference,
    PreferenceBatch,
    PreferenceOptions,
    preference_loss,
    train_preferences,
)
from ragkit.finetune.supervised import AdapterOptions
from ragkit.llms.local import LocalLLM

PAIRS = [
    Preference((3, 4, 5), (6, 7), (8, 9, 10)),
    Preference((11,), (12, 13, 14, 15), (12, 16)),
    Preference((20, 21), (22,), (23,)),
]
SIZE = LoraOptions(rank=3)


@pytest.fixture
def base(tmp_path):
    return tiny_llama(tmp_path / "base")


def opened(base):
    return LocalLLM(str(base), dtype="float32")


def adapter_of(base, folder):
    adapter = Lora(opened(base).model, SIZE, seed=1)
    adapter.save(folder, {"base": str(base), "base_fingerprint": "x", "task": "t"})
    return folder


def logprob(model, prompt, reply):
    """The sum of the reply's log-probabilities, in a pass of its own."""
    tokens = torch.tensor([[*prompt, *reply]])
    with torch.inference_mode():
        logps = model(input_ids=tokens).logits[0].float().log_softmax(-1)
    return sum(float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(reply))


@pytest.mark.parametrize("supervised", [0.0, 0.2])
def test_loss_is_the_formula(base, supervised):
    model = opened(base).model
    how = PreferenceOptions(beta=0.7, supervised=supervised)
    found = preference_loss(model, how)(PreferenceBatch(tuple(PAIRS))).item()
    expected = 0.0
    for pair in PAIRS:
        chosen = logprob(model, pair.prompt, pair.chosen)
        rejected = logprob(model, pair.prompt, pair.rejected)
        expected += math.log1p(math.exp(-0.7 * (chosen - rejected)))
        expected -= supervised * chosen / len(pair.chosen)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.models
def test_training_on_pairs_makes_what_is_chosen_likelier_and_resumes(base, tmp_path):
    start = adapter_of(base, tmp_path / "start")
    how = PreferenceOptions(
        AdapterOptions(
            TrainOptions(max_tokens=1500, batch_tokens=30, learning_rate=1e-2, warmup_tokens=0,
                         checkpoint_seconds=0),
            SIZE, {"task": "agent"},
        )
    )  # fmt: skip

    def stop(now):
        if now.tokens > 400:
            raise KeyboardInterrupt

    to = tmp_path / "to"
    with pytest.raises(KeyboardInterrupt):
        train_preferences(opened(base), PAIRS, to, how, start=start, on_progress=stop)
    report = train_preferences(opened(base), PAIRS, to, how, start=start)
    assert report.tokens >= 1500
    before = opened(base).model
    after = LocalLLM(str(base), dtype="float32", adapter=to / "adapter").model

    def margins(model):
        return np.array(
            [
                logprob(model, p.prompt, p.chosen) - logprob(model, p.prompt, p.rejected)
                for p in PAIRS
            ]
        )

    assert (margins(after) > margins(before) + 1).all()
    assert json.loads((to / "adapter" / "ragkit.json").read_text())["task"] == "agent"
    whole = train_preferences(opened(base), PAIRS, tmp_path / "whole", how, start=start)
    weights = [(folder / "adapter" / "adapter_model.safetensors").read_bytes()
               for folder in (to, tmp_path / "whole")]  # fmt: skip
    assert weights[0] == weights[1]
    assert whole.steps == report.steps


def test_going_on_begins_where_the_adapter_was(base, tmp_path):
    start = adapter_of(base, tmp_path / "start")
    adapter = Lora(opened(base).model, SIZE, seed=2)
    values = {name: p.detach().clone() for name, p in adapter.parameters().items()}
    adapter.load(start)
    other = Lora(opened(base).model, SIZE, seed=1).parameters()
    for name, parameter in adapter.parameters().items():
        torch.testing.assert_close(parameter, other[name].bfloat16().float())
        if "lora_A" in name:
            assert not torch.equal(parameter, values[name])


def test_an_adapter_of_another_size_is_refused(base, tmp_path):
    start = adapter_of(base, tmp_path / "start")
    with pytest.raises(ModelError, match="its tensors have other names or shapes"):
        Lora(opened(base).model, LoraOptions(rank=5)).load(start)
    with pytest.raises(ModelError, match="cannot load the adapter"):
        Lora(opened(base).model, SIZE).load(tmp_path / "nowhere")


@pytest.mark.parametrize("parts", [((), (1,), (2,)), ((1,), (), (2,)), ((1,), (2,), (2,))])
def test_a_pair_that_teaches_nothing_is_refused(parts):
    with pytest.raises(ValueError, match=r"expected (tokens in all three|two different)"):
        Preference(*parts)


@pytest.mark.parametrize("options", [{"beta": 0}, {"supervised": -1}, {"beta": math.nan}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected beta above 0"):
        PreferenceOptions(**options)
