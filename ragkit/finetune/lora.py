"""Low-rank adapters: added to a model for training, written for `ragkit.llms.adapters` to read.

Source: Hu et al. 2022, LoRA. The format is peft's (`adapter_config.json` and
`adapter_model.safetensors`), so that peft reads it too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.durable import disk_errors, make_folder, sync_path
from ragkit.errors import require
from ragkit.llms.adapters import FORMAT

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
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"rank is {self.rank}, alpha {self.alpha} and dropout {self.dropout}; expected at "
                "least 1, above 0, and from 0 to below 1"
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
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules="all-linear",
            bias="none",
        )
        self.model = peft.get_peft_model(model, config)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What is trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write the adapter in bf16, in one step, with what it is for as `ragkit.json`."""
        import torch
        from safetensors.torch import save_file

        state = self._peft.get_peft_model_state_dict(self.model)
        small = {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in state.items()}
        temporary = folder.with_name(f"{folder.name}.writing")
        with disk_errors(folder):
            make_folder(folder.parent)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            save_file(small, temporary / "adapter_model.safetensors")
            self.model.peft_config["default"].save_pretrained(str(temporary))
            text = json.dumps({"format": FORMAT, **about}, indent=1, sort_keys=True)
            (temporary / "ragkit.json").write_text(text + "\n", encoding="utf-8")
            for file in [*temporary.iterdir(), temporary]:
                sync_path(file)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
            sync_path(folder.parent)
