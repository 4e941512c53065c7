"""Trained prompts: words, vectors, or both; `ragkit.llms.soft_prompts` applies them.

Source: UGR (Chen et al. 2023) for the three kinds; P-tuning (Liu et al. 2021, "GPT Understands,
Too") for vectors that are the output of a BiLSTM and an MLP during training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ragkit.finetune.checkpoints import save_tensors
from ragkit.llms.beams import CausalBeams, Seq2SeqBeams
from ragkit.llms.soft_prompts import (
    PROMPTS,
    QUERY,
    VECTORS_FILE,
    Prompts,
    count_vectors,
    vector_text,
)

if TYPE_CHECKING:
    import torch

PromptStyle = Literal["discrete", "continuous", "hybrid", "none"]
"""The words of an instruction; vectors before the query; vectors around the instruction; the query
alone."""

N_VECTORS = 8  # per unit; a hybrid prompt has half before and half after the instruction


def prompt_templates(style: PromptStyle, units: Sequence[str] = tuple(PROMPTS)) -> dict[str, str]:
    """Return the prompt template of each unit in a style, with the placeholder `{query}`.

    Every unit has its own vectors.

    Args:
        style: See `PromptStyle`.
        units: Units to train; at search time other units use the prompt of the nearest one.

    Source: UGR, for the kinds. Ours are the number of vectors (8 per unit, 4 on each side of the
    words), and that the words of a hybrid prompt are the whole instruction including the query.

    Raises:
        ValueError: The style or a unit is unknown, or there are no units.

    >>> prompt_templates("none", ["passage"])
    {'passage': '{query}'}
    """
    if style not in get_args(PromptStyle):
        raise ValueError(
            f"prompt style is {style!r}; expected one of {', '.join(get_args(PromptStyle))}"
        )
    if not units or not set(units) <= set(PROMPTS):
        raise ValueError(f"units are {list(units)}; expected some of {', '.join(PROMPTS)}")
    templates: dict[str, str] = {}
    for index, unit in enumerate(dict.fromkeys(units)):
        numbers = range(index * N_VECTORS, (index + 1) * N_VECTORS)
        vectors = "".join(vector_text(number) for number in numbers)
        half = N_VECTORS // 2
        templates[unit] = {
            "discrete": PROMPTS[unit],
            "continuous": vectors + QUERY,
            "hybrid": vectors[:half] + PROMPTS[unit] + vectors[half:],
            "none": QUERY,
        }[style]
    return templates


def set_prompts(
    model: CausalBeams | Seq2SeqBeams, style: PromptStyle, units: Sequence[str] = tuple(PROMPTS)
) -> None:
    """Set the style of a model's prompts; call this before making its training examples.

    Vectors that the model already has are dropped; training makes new ones.

    Raises:
        ValueError: As `prompt_templates`.
    """
    model.set_prompts(Prompts(prompt_templates(style, units)))


def check_style(templates: Mapping[str, str], style: PromptStyle) -> None:
    """Check that a model's prompts are in a style.

    Raises:
        ValueError: They are not, so its examples would be made with other prompts.
    """
    if dict(templates) != prompt_templates(style, tuple(templates)):
        raise ValueError(
            f"expected prompts of the style {style!r}, but the model's prompts are in another one; "
            f"call set_prompts(model, {style!r}) before making its examples"
        )


class SoftPrompts:
    """Prompt vectors during training: an MLP over a BiLSTM over a table of embeddings.

    Args:
        templates: Templates from `prompt_templates`; vectors are numbered unit by unit.
        embedding: The model's input embedding, for width, device and scale: the initial vectors
            have the standard deviation of token embeddings (ours; otherwise they would be about
            ten times as large).
        seed: Seed of the initial values.
    """

    def __init__(self, templates: Mapping[str, str], embedding: Any, *, seed: int = 0) -> None:
        import torch

        nn = torch.nn
        n_tokens, width = embedding.weight.shape
        half = max(1, width // 2)
        n_units = count_vectors(templates) // N_VECTORS
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self._table = nn.Parameter(torch.randn(n_units, N_VECTORS, width))
            self._lstm: Any = nn.LSTM(width, half, bidirectional=True, batch_first=True)
            last = nn.Linear(width, width)
            self._mlp: Any = nn.Sequential(nn.Linear(2 * half, width), nn.ReLU(), last)
        self._layers = nn.ModuleDict({"lstm": self._lstm, "mlp": self._mlp})
        with torch.no_grad():
            sample = torch.arange(0, n_tokens, 1 + n_tokens // 1000, device=embedding.weight.device)
            target_std = embedding(sample).float().std().cpu()
            ratio = target_std / self.vectors().std()
            last.weight *= ratio
            last.bias *= ratio
        self._layers.to(embedding.weight.device)
        self._table.data = self._table.data.to(embedding.weight.device)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Return the parameters to train, by name."""
        layers = {f"prompts.{name}": layer for name, layer in self._layers.named_parameters()}
        return {"prompts.table": self._table, **layers}

    def vectors(self) -> torch.Tensor:
        """Return the current vectors: float32 (vectors, width)."""
        hidden, _ = self._lstm(self._table)  # (units, vectors a unit, 2 * half)
        vectors: torch.Tensor = self._mlp(hidden).flatten(0, 1)  # (vectors, width)
        return vectors


def save_vectors(folder: Path, vectors: torch.Tensor) -> None:
    """Write vectors in the format that `ragkit.llms.soft_prompts.read_prompts` reads."""
    save_tensors({"vectors": vectors.float()}, folder / VECTORS_FILE)
