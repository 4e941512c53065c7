"""Low-rank adapters: added to a model for training, written for `ragkit.llms.adapters` to read.

Source: Hu et al. 2022, LoRA. The format is peft's (`adapter_config.json` and
`adapter_model.safetensors`), so that peft reads it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import replaced
from ragkit.errors import ModelError, require
from ragkit.finetune.checkpoints import save_tensors
from ragkit.finetune.soft_prompts import save_vectors
from ragkit.llms.adapters import MAX_RANK, write_about

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """How large an adapter is.

    Attributes:
        rank: Of the two factors.
        alpha: The product is scaled by alpha / rank.
        dropout: Of what enters it, while training.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"rank is {self.rank}, alpha {self.alpha} and dropout {self.dropout}; expected 1 "
                f"to {MAX_RANK}, above 0, and from 0 to below 1"
            )


class Lora:
    """An adapter on all linear layers of a model but its output layer.

    Args:
        model: A transformers model; its own weights are frozen.
        options: See `LoraOptions`.
        seed: Of the initial values.
    """

    def __init__(self, model: Any, options: LoraOptions, *, seed: int = 0) -> None:
        peft = require("peft", extra="train")
        import torch

        self._peft: Any = peft
        config = peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules="all-linear",
            bias="none",
        )
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5 for it by its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.model = peft.get_peft_model(model, config)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What is trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def load(self, folder: Path) -> None:
        """Begin with an adapter's values, of the same size.

        Raises:
            ModelError: They are of another size or model, or cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            given = load_file(folder / "adapter_model.safetensors")
            own = self._peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
            if {n: t.shape for n, t in given.items()} != {n: t.shape for n, t in own.items()}:
                raise ValueError("its parts are others than this adapter's")
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"cannot go on with the adapter {str(folder)!r}: {error}") from error
        self._peft.set_peft_model_state_dict(
            self.model, {name: tensor.float() for name, tensor in given.items()}
        )

    def save(
        self, folder: Path, about: Mapping[str, Any], vectors: torch.Tensor | None = None
    ) -> None:
        """Write the adapter in bf16, in one step, with what it is for as `ragkit.json`.

        Args:
            folder: Is replaced.
            about: For `ragkit.json`.
            vectors: Of trained prompts, (vectors, width); written in float32.
        """
        import torch

        # Embeddings are never trained; peft would ask the hub whether they are another model's.
        state = self._peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        small = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
        with replaced(folder) as temporary:
            save_tensors(small, temporary / "adapter_model.safetensors")
            if vectors is not None:
                save_vectors(temporary, vectors)
            config = self.model.peft_config["default"]
            # The model's name: a path on this machine would say nothing elsewhere.
            config.base_model_name_or_path = about.get("base", "")
            config.save_pretrained(str(temporary))
            write_about(temporary, about)
