"""UGR's training data: the n-grams a BERT encoder attends to as targets, and four tasks in one.

Source: Chen et al. 2023, "A Unified Generative Retriever for Knowledge-Intensive Language Tasks via
Prompt Learning". Deviations: an n-gram is ten tokens of the model that will write it, mapped to the
encoder's tokens by characters; and no task may have more than four times the examples of the
smallest. For UGR's prompts see `ragkit.finetune.soft_prompts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit import models
from ragkit.digests import text_digest
from ragkit.errors import ModelError, require
from ragkit.finetune.sequences import Example
from ragkit.finetune.supervised import Targets
from ragkit.llms.local import _no_progress_bars
from ragkit.losses import report
from ragkit.types import Loss

MAX_TASK_RATIO = 4  # largest size of a task in a mixture, as a multiple of the smallest task


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A text in tokens of the model that is to write its n-grams.

    Attributes:
        text: The decoded text.
        bounds: int64 (tokens + 1,): token i covers text[bounds[i]:bounds[i + 1]].
    """

    text: str
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Context:
        """Decode tokens and locate each in the text: it ends where the decoding up to it ends."""
        ends = [len(decode(tokens[:n])) for n in range(1, len(tokens) + 1)]
        bounds = np.maximum.accumulate(np.array([0, *ends], dtype=np.int64))
        return cls(decode(tokens), bounds)

    def n_ngrams(self, length: int) -> int:
        """Return the number of n-grams of a length; a shorter text is one, an empty one is none."""
        n = len(self.bounds) - 1
        return max(n - length + 1, min(n, 1))


class Attention:
    """A BERT encoder that reads `[CLS] query [SEP] context [SEP]`.

    Args:
        model: Name for `ragkit.models.resolve`: a folder with safetensors.
        device: "cpu" or "cuda".

    Raises:
        ModelError: There is no such encoder, or its tokenizer has no [CLS] or no offsets.
        MissingExtra: torch or transformers is not installed.
    """

    def __init__(self, model: str = "minilm", *, device: str = "cpu") -> None:
        transformers = require("transformers", extra="local")
        path = models.resolve(model)
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _no_progress_bars():
                # Only eager attention returns its weights.
                self._model = transformers.AutoModel.from_pretrained(
                    path, attn_implementation="eager", use_safetensors=True, **local
                )
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the encoder in {str(path)!r} cannot be loaded ({error}); expected config.json, "
                "tokenizer.json and *.safetensors in the format of transformers"
            ) from error
        if not self._tokenizer.is_fast or self._tokenizer.cls_token_id is None:
            raise ModelError(f"the tokenizer of {model!r} has no [CLS] or no offsets; take a BERT")
        self._model.eval().to(device)
        limits = self._tokenizer.model_max_length, self._model.config.max_position_embeddings
        self._max_tokens = int(min(limits))
        self._reported: set[str] = set()  # contexts whose loss was reported

    def weights(self, query: str, context: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return how much [CLS] attends to the context in the last layer, averaged over heads.

        Returns:
            float64 (tokens,), and int64 (tokens, 2): start and end of each token in the context.
            Tokens beyond the encoder's window are left out.
        """
        import torch

        inputs = self._tokenizer(
            query, context, truncation="longest_first", max_length=self._max_tokens,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        offsets = inputs.pop("offset_mapping")[0].numpy()  # (all tokens, 2)
        in_context = np.array(
            [sequence == 1 for sequence in inputs.sequence_ids(0)]
        )  # (all tokens,)
        with torch.inference_mode():
            output = self._model(**inputs.to(self._model.device), output_attentions=True)
        attention = output.attentions[-1][0, :, 0].double().mean(0).cpu().numpy()  # (all tokens,)
        return attention[in_context], offsets[in_context].astype(np.int64)

    def importance(self, query: str, context: Context, length: int = 10) -> NDArray[np.float64]:
        """Return the mean attention to the encoder's tokens in each n-gram: float64 (n-grams,).

        N-grams beyond the encoder's window are left out, with one `Loss` per context.
        """
        weights, offsets = self.weights(query, context.text)
        n = context.n_ngrams(length)
        starts = context.bounds[:n]
        ends = context.bounds[np.minimum(np.arange(n) + length, len(context.bounds) - 1)]
        n_read = int(offsets[-1, 1]) if len(offsets) else 0
        if n_read < len(context.text.rstrip()):
            self._report(context.text, n_read)
            n = max(min(n, 1), int((ends <= n_read).sum()))
        first = np.searchsorted(
            offsets[:, 1], starts[:n], side="right"
        )  # first token that ends after the start
        last = np.searchsorted(
            offsets[:, 0], ends[:n], side="left"
        )  # first token at or after the end
        sums = np.concatenate([[0.0], weights.cumsum()])
        means: NDArray[np.float64] = (sums[last] - sums[first]) / np.maximum(1, last - first)
        return means

    def _report(self, text: str, n_read: int) -> None:
        if text not in self._reported:
            self._reported.add(text)
            why = f"the encoder reads {self._max_tokens} tokens; targets are drawn from those"
            lost, kept = f"{len(text) - n_read} characters", f"{n_read} characters"
            report(Loss("training", repr(text[:60]), lost, kept, why))


def attention_spans(
    importance: NDArray[np.float64],
    n: int,
    random: np.random.Generator,
    *,
    temperature: float = 1.0,
) -> list[int]:
    """Draw n-grams without replacement, by a softmax over importance / temperature.

    Drawing the largest of importance / temperature + Gumbel noise (Vieira 2014) is equivalent.
    Attention weights sum to 1 over all tokens, so at UGR's temperature of 1 all n-grams are almost
    equally likely: a difference of 0.01 makes an n-gram 1 % more likely.

    Args:
        importance: float64 (n-grams,), from `Attention.importance`.
        n: Number of n-grams to draw (UGR: 10); fewer if there are fewer.
        random: Generator for the draws.
        temperature: Above 0.
    """
    noisy = importance / temperature + random.gumbel(size=len(importance))  # (n-grams,)
    return [int(i) for i in np.argsort(-noisy, kind="stable")[:n]]


def mix_tasks(tasks: Mapping[str, Sequence[Example]], seed: int | Sequence[int]) -> list[Example]:
    """Mix the examples of all tasks in random order, each task capped at 4 times the smallest one.

    So tasks are mixed in proportion to their sizes, and each example occurs once. Which examples of
    a task over the cap are used depends on the seed.

    Args:
        tasks: Examples by task, none empty.
        seed: Seed of the draws and of the order.

    Raises:
        ValueError: There are no tasks, or one is empty.
    """
    empty = [name for name, examples in tasks.items() if not examples]
    if not tasks or empty:
        raise ValueError(
            f"tasks without examples: {', '.join(empty) or 'all'}; expected at least one of each"
        )
    random = np.random.default_rng(seed)
    limit = MAX_TASK_RATIO * min(map(len, tasks.values()))
    chosen: list[Example] = []
    for name in sorted(tasks):
        drawn = random.permutation(len(tasks[name]))[:limit]
        chosen += [tasks[name][i] for i in drawn]
    return [chosen[i] for i in random.permutation(len(chosen))]


class MixedTargets:
    """The targets of several tasks, mixed in every epoch; see `mix_tasks`.

    Args:
        tasks: Targets by name, usually one for each granularity.
        seed: Seed of the draws.
    """

    def __init__(self, tasks: Mapping[str, Targets], *, seed: int = 0) -> None:
        self._tasks: dict[str, Targets] = dict(tasks)
        self._seed = seed

    @cached_property
    def digest(self) -> str:
        """Digest of the tasks and the seed."""
        digests: dict[str, Any] = {name: task.digest for name, task in self._tasks.items()}
        return text_digest(json.dumps([self._seed, MAX_TASK_RATIO, digests], sort_keys=True))

    def epoch(self, number: int) -> list[Example]:
        """Return the examples of an epoch, in training order."""
        tasks = {name: task.epoch(number) for name, task in self._tasks.items()}
        return mix_tasks(tasks, (self._seed, number))
