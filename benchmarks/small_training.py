"""How the systems of `generative_small.py` train: tiny models, and what a system works with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from small_wiki import CHUNK_TOKENS, UNITS, Sizes, Wiki

from ragkit.collection import Collection
from ragkit.collection.description import Settings
from ragkit.durable import replace_folder
from ragkit.finetune import TrainOptions
from ragkit.finetune.generative import FixedTargets, GenerativeOptions, Targets, train_generative
from ragkit.finetune.sequences import Example
from ragkit.finetune.soft_prompts import PromptStyle, set_prompts
from ragkit.llms.beams import BeamModel, Seq2SeqBeams, load_beam_model
from ragkit.retrievers.rows import RowFormat, prompt_for
from ragkit.testing import HashEmbedder
from ragkit.types import Document

DROPOUT, SPREAD = 0.0, 0.1  # of the weights as they begin


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained.

    Attributes:
        max_tokens: The budget, in batches of 512; 0 where epochs are given.
        epochs: The budget as epochs of 100 steps, the same for prompts of any length.
        rate: The learning rate.
        base: The model that it begins with; None for random weights.
        prompts: How it is asked.
    """

    max_tokens: int = 0
    epochs: int = 0
    rate: float = 2e-3
    base: Path | None = None
    prompts: PromptStyle = "discrete"

    def options(self, targets: Targets, seed: int) -> TrainOptions:
        n_tokens = sum(each.n_tokens for each in targets.epoch(0)) if self.epochs else 0
        budget = self.max_tokens or self.epochs * n_tokens
        return TrainOptions(
            max_tokens=budget, batch_tokens=n_tokens // 100 or 512, learning_rate=self.rate,
            warmup_tokens=min(20_000, budget // 10), decay_share=0.5, seed=seed,
        )  # fmt: skip


@dataclass(slots=True)
class Part:
    """A system on a seed: what it is given, and what was found."""

    wiki: Wiki
    sizes: Sizes
    seed: int
    folder: Path
    scores: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.cpu_s[name] = round(self.cpu_s.get(name, 0.0) + time.process_time() - began, 1)
        print(
            f"seed {self.seed}: {name}, {self.cpu_s[name]:.0f} CPU s", file=sys.stderr, flush=True
        )

    @property
    def base(self) -> Path:
        """The model with random weights."""
        folder = self.folder / "base"
        if not folder.exists():
            write_model(folder, self.wiki.words(), self.sizes.width, self.seed)
        return folder

    def collection(self, name: str = "wiki", more: Sequence[Document] = ()) -> Collection:
        settings = Settings(chunk_tokens=CHUNK_TOKENS, language="none")
        found = Collection(self.folder / f"{name}.rag", embedder=HashEmbedder(), settings=settings)
        found.add([*self.wiki.documents(), *more])
        known = {text for page in self.wiki.pages for text in page.paragraphs}
        if not known <= {chunk.text for chunk in found.chunks()}:
            raise RuntimeError("the chunks are not the paragraphs; look at CHUNK_TOKENS")
        return found

    def trained(
        self, name: str, targets: Callable[[Seq2SeqBeams], Targets], how: Training
    ) -> BeamModel:
        """A model after all its training; what was trained before is not trained again."""
        with self.timed(f"train {name}"):
            model = Seq2SeqBeams(how.base or self.base)
            if how.prompts != "discrete":
                set_prompts(model, how.prompts, UNITS)
            made = targets(model)
            options = GenerativeOptions(
                train=how.options(made, self.seed), lora=None, prompts=how.prompts
            )
            train_generative(model, made, self.folder / name, options)
            return load_beam_model(str(self.folder / name / "model"))

    def learn_titles(
        self, name: str, pairs: Sequence[tuple[str, str]], max_tokens: int, base: Path | None = None
    ) -> BeamModel:
        """A model that learned questions' titles."""

        def targets(model: Seq2SeqBeams) -> Targets:
            rows = RowFormat(model)
            return FixedTargets(
                [
                    Example(
                        tuple(model.encode_prompt(prompt_for("title", text, model.prompts))),
                        (rows.title(title),),
                    )
                    for text, title in pairs
                ],
                seed=self.seed,
            )

        rate = 2e-3 if base is None else 1e-3
        return self.trained(name, targets, Training(max_tokens, rate=rate, base=base))

    def shuffled(self, n: int) -> list[int]:
        return np.random.default_rng([self.seed, n]).permutation(n).tolist()


def write_model(folder: Path, words: Sequence[str], width: int, seed: int) -> None:
    """A BART with random weights and a tokenizer of whole words."""
    import tokenizers
    import torch
    import transformers

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "\n", *words])}
    config = transformers.BartConfig(
        vocab_size=len(vocabulary), d_model=width, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width, max_position_embeddings=160, dropout=DROPOUT, init_std=SPREAD,
        bos_token_id=1, eos_token_id=1, pad_token_id=0, decoder_start_token_id=1,
        forced_eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.BartForConditionalGeneration(config)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    pattern = tokenizers.Regex(r"\n|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "removed", invert=True)
    with replace_folder(folder) as temporary:
        model.save_pretrained(temporary)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
            model_max_length=160,
        ).save_pretrained(temporary)  # fmt: skip
