"""The pair model in torch, for training: a BERT trunk and its three heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.errors import require

TABLE = "embeddings.word_embeddings.weight"
"""The token embeddings; they are frozen, and not saved with the model."""
HEADS = ("span.weight", "span.bias", "pooler.weight", "pooler.bias", "judge.weight", "judge.bias")


@dataclass(frozen=True, slots=True)
class PairOutputs:
    """Outputs for a batch.

    Attributes:
        spans: float32 (pairs, tokens, 2): logits of the first and the last token of the answer;
            those of the first token, [CLS], stand for no answer.
        relevance: float32 (pairs,): logit of the passage answering the question.
        support: float32 (pairs, 3): logits of supported, contradicted, unknown.
    """

    spans: Any
    relevance: Any
    support: Any


class PairModule:
    """A BERT encoder over pairs with a span head, a relevance head and a support head.

    Args:
        folder: Model folder of the encoder; its token embeddings are frozen.
        dropout: Dropout of the hidden states. Attention has none: with it the fused kernel of
            the CPU cannot be used, and training takes twice as long.
        seed: Seed of the heads' initial values.
    """

    def __init__(self, folder: Path, *, dropout: float = 0.1, seed: int = 0) -> None:
        torch: Any = require("torch", extra="local")
        transformers: Any = require("transformers", extra="local")
        self._torch = torch
        self.trunk = transformers.BertModel.from_pretrained(
            str(folder),
            add_pooling_layer=False,
            attn_implementation="sdpa",
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
            local_files_only=True,
        )
        width = self.trunk.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = torch.nn.ModuleDict(
                {
                    "span": torch.nn.Linear(width, 2),
                    "pooler": torch.nn.Linear(width, width),
                    "judge": torch.nn.Linear(width, 4),
                }
            )
            for head in self.heads.values():
                torch.nn.init.normal_(head.weight, std=0.02)
                torch.nn.init.zeros_(head.bias)
        self.dropout = torch.nn.Dropout(dropout)
        self.trunk.embeddings.word_embeddings.weight.requires_grad = False

    def parameters(self) -> dict[str, Any]:
        """Return the trained parameters by name."""
        named = {**dict(self.trunk.named_parameters()), **dict(self.heads.named_parameters())}
        return {name: value for name, value in named.items() if name != TABLE}

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        for part in (self.trunk, self.heads, self.dropout):
            part.train(mode)

    def __call__(self, ids: Any, segments: Any, mask: Any) -> PairOutputs:
        """Run a batch: int64 (pairs, tokens) each; the mask is 1 for tokens and 0 for padding."""
        hidden = self.trunk(
            input_ids=ids, token_type_ids=segments, attention_mask=mask
        ).last_hidden_state
        hidden = self.dropout(hidden.float())
        pooled = self.dropout(self._torch.tanh(self.heads["pooler"](hidden[:, 0])))
        judged = self.heads["judge"](pooled)
        return PairOutputs(self.heads["span"](hidden), judged[:, 0], judged[:, 1:])

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write the trained parameters as float32 `model.safetensors`, and `ragkit.json`."""
        safetensors = require("safetensors.numpy", extra="local")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            name: np.ascontiguousarray(value.detach().numpy())
            for name, value in self.parameters().items()
        }
        safetensors.save_file(arrays, folder / "model.safetensors")
        (folder / "ragkit.json").write_text(json.dumps(dict(about), indent=1) + "\n")

    def load(self, folder: Path) -> None:
        """Read parameters that `save` wrote."""
        safetensors = require("safetensors.numpy", extra="local")
        arrays = safetensors.load_file(folder / "model.safetensors")
        for name, value in self.parameters().items():
            value.data.copy_(self._torch.from_numpy(arrays[name]))
