"""Low-rank adapters: added to a model for training, saved for `ragkit.llms.adapters` to load.

Source: Hu et al. 2022, LoRA. The format is peft's (`adapter_config.json` and
`adapter_model.safetensors`), so peft can read it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import replace_folder
from ragkit.errors import ModelError, require
from ragkit.finetune.checkpoints import save_tensors
from ragkit.finetune.soft_prompts import save_vectors
from ragkit.llms.adapters import MAX_RANK, write_metadata

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """Size of an adapter.

    Attributes:
        rank: Rank of the two factors.
        alpha: The product of the factors is scaled by alpha / rank.
        dropout: Dropout on the adapter's input during training.
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
    """An adapter on all linear layers of a model except its output layer.

    Args:
        model: A transformers model; its own weights are frozen.
        options: See `LoraOptions`.
        seed: Seed of the initial values.
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
            # peft 0.21 reads it from transformers 5 under its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.model = peft.get_peft_model(model, config)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Return the parameters to train, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def load(self, folder: Path) -> None:
        """Load the values of a saved adapter of the same size.

        Raises:
            ModelError: The saved adapter has another size or base, or cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            saved = load_file(folder / "adapter_model.safetensors")
            own = self._peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
            if {n: t.shape for n, t in saved.items()} != {n: t.shape for n, t in own.items()}:
                raise ValueError("its tensors have other names or shapes than this adapter's")
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"cannot load the adapter {str(folder)!r}: {error}") from error
        self._peft.set_peft_model_state_dict(
            self.model, {name: tensor.float() for name, tensor in saved.items()}
        )

    def save(
        self, folder: Path, about: Mapping[str, Any], vectors: torch.Tensor | None = None
    ) -> None:
        """Write the adapter in bf16, atomically, with `ragkit.json` beside it.

        Args:
            folder: Folder to write; replaced if it exists.
            about: Entries of `ragkit.json`.
            vectors: Vectors of trained prompts, (vectors, width); written in float32.
        """
        import torch

        # Embeddings are never trained; peft would query the hub to see whether they were resized.
        state = self._peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
        with replace_folder(folder) as temporary:
            save_tensors(tensors, temporary / "adapter_model.safetensors")
            if vectors is not None:
                save_vectors(temporary, vectors)
            config = self.model.peft_config["default"]
            # Write the model's name: a local path means nothing on another machine.
            config.base_model_name_or_path = about.get("base", "")
            config.save_pretrained(str(temporary))
            write_metadata(temporary, about)
