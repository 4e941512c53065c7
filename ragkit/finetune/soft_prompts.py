"""Prompts that are trained: words, vectors, or both; see `ragkit.llms.soft_prompts` for their use.

Source: UGR (Chen et al. 2023) for the three kinds, P-tuning (Liu et al. 2021, GPT Understands, Too)
for vectors that come out of a BiLSTM and an MLP while they are trained.
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
"""An instruction; vectors before the query; vectors around the instruction; the query alone."""

N_VECTORS = 8  # a unit; half before and half behind the instruction of a hybrid prompt


def prompt_templates(style: PromptStyle, units: Sequence[str] = tuple(PROMPTS)) -> dict[str, str]:
    """The prompts of units in a style, each with `{query}`; every unit has vectors of its own.

    Args:
        style: See `PromptStyle`.
        units: Those that will be trained; at search others are asked for as the nearest one is.

    Source: UGR, the kinds; ours are the numbers (8 vectors a unit, 4 and 4 around words), and that
    a hybrid's words are the whole instruction, with the query in it.

    Raises:
        ValueError: The style or a unit is unknown, or there is no unit.

    >>> prompt_templates("none", ["passage"])
    {'passage': '{query}'}
    """
    if style not in get_args(PromptStyle):
        raise ValueError(
            f"the style of prompts is {style!r}; expected one of {', '.join(get_args(PromptStyle))}"
        )
    if not units or not set(units) <= set(PROMPTS):
        raise ValueError(f"units are {list(units)}; expected some of {', '.join(PROMPTS)}")
    templates: dict[str, str] = {}
    for at, unit in enumerate(dict.fromkeys(units)):
        numbers = range(at * N_VECTORS, (at + 1) * N_VECTORS)
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
    """Ask a model in a style from now on: before examples are made that it is to be trained on.

    Vectors it had are gone; new ones come with training.

    Raises:
        ValueError: As `prompt_templates`.
    """
    model.ask_with(Prompts(prompt_templates(style, units)))


def check_style(templates: Mapping[str, str], style: PromptStyle) -> None:
    """Whether a model is asked in a style.

    Raises:
        ValueError: It is not, so that examples made for it are others.
    """
    if dict(templates) != prompt_templates(style, tuple(templates)):
        raise ValueError(
            f"prompts are to be {style!r}, and the model asks otherwise; call set_prompts(model, "
            f"{style!r}) before making its examples"
        )


class SoftPrompts:
    """Vectors of prompts while they are trained: an MLP over a BiLSTM over a table.

    Args:
        templates: As `prompt_templates` makes them; the units' vectors follow each other.
        embedding: The model's, for width, place and spread: the vectors begin with the standard
            deviation that token embeddings have (ours; otherwise they would begin some ten times
            as large).
        seed: Of the initial values.
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
            some = torch.arange(0, n_tokens, 1 + n_tokens // 1000, device=embedding.weight.device)
            wanted = embedding(some).float().std().cpu()
            ratio = wanted / self.vectors().std()
            last.weight *= ratio
            last.bias *= ratio
        self._layers.to(embedding.weight.device)
        self._table.data = self._table.data.to(embedding.weight.device)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What is trained, by name."""
        layers = {f"prompts.{name}": each for name, each in self._layers.named_parameters()}
        return {"prompts.table": self._table, **layers}

    def vectors(self) -> torch.Tensor:
        """The vectors as they are now: float32 (vectors, width)."""
        hidden, _ = self._lstm(self._table)  # (units, vectors a unit, 2 * half)
        vectors: torch.Tensor = self._mlp(hidden).flatten(0, 1)  # (vectors, width)
        return vectors


def save_vectors(folder: Path, vectors: torch.Tensor) -> None:
    """Write plain vectors as `ragkit.llms.soft_prompts.read_prompts` reads them."""
    save_tensors({"vectors": vectors.float()}, folder / VECTORS_FILE)
