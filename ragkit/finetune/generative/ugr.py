"""UGR's training data: the n-grams a BERT encoder looks at as targets, and four tasks in one.

Source: Chen et al. 2023, "A Unified Generative Retriever for Knowledge-Intensive Language Tasks via
Prompt Learning" (SYSTEMS A4). Ours differ: an n-gram is ten tokens of the model that will write it,
mapped to the encoder's by characters; and no task may have more than four times the examples of the
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

LARGEST = 4  # times the smallest task: what a task may have of a mixture


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A text in tokens of the model that is to write its n-grams.

    Attributes:
        text: Decoded.
        bounds: int64 (tokens + 1,): token i is the text from bounds[i] to bounds[i + 1].
    """

    text: str
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Context:
        """Where tokens lie in their text: each ends where decoding ends with it."""
        ends = [len(decode(tokens[:n])) for n in range(1, len(tokens) + 1)]
        bounds = np.maximum.accumulate(np.array([0, *ends], dtype=np.int64))
        return cls(decode(tokens), bounds)

    def n_ngrams(self, length: int) -> int:
        """N-grams of a length; a shorter text is one of its own, and an empty one none."""
        n = len(self.bounds) - 1
        return max(n - length + 1, min(n, 1))


class Attention:
    """A BERT encoder that reads `[CLS] query [SEP] context [SEP]`.

    Args:
        model: A name for `ragkit.models.resolve`: a folder with safetensors.
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
                # Eager: other kinds of attention do not say what they looked at.
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
        self._cut: set[str] = set()  # contexts whose loss was reported

    def weights(self, query: str, context: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What [CLS] pays to the context's tokens in the last layer, averaged over heads.

        Returns:
            float64 (tokens,), and int64 (tokens, 2): where each begins and ends in the context.
            What is beyond the encoder's window is left out.
        """
        import torch

        read = self._tokenizer(
            query, context, truncation="longest_first", max_length=self._max_tokens,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        offsets = read.pop("offset_mapping")[0].numpy()  # (all tokens, 2)
        own = np.array([each == 1 for each in read.sequence_ids(0)])  # (all tokens,)
        with torch.inference_mode():
            output = self._model(**read.to(self._model.device), output_attentions=True)
        paid = output.attentions[-1][0, :, 0].double().mean(0).cpu().numpy()  # (all tokens,)
        return paid[own], offsets[own].astype(np.int64)

    def importance(self, query: str, context: Context, length: int = 10) -> NDArray[np.float64]:
        """The mean weight of the encoder's tokens in each n-gram: float64 (n-grams,).

        N-grams beyond what the encoder reads are left out, with a `Loss` for each context.
        """
        weights, places = self.weights(query, context.text)
        n = context.n_ngrams(length)
        begins = context.bounds[:n]
        ends = context.bounds[np.minimum(np.arange(n) + length, len(context.bounds) - 1)]
        read = int(places[-1, 1]) if len(places) else 0
        if read < len(context.text.rstrip()):
            self._report(context.text, read)
            n = max(min(n, 1), int((ends <= read).sum()))
        first = np.searchsorted(places[:, 1], begins[:n], side="right")  # the first that ends later
        last = np.searchsorted(places[:, 0], ends[:n], side="left")  # and what begins too late
        sums = np.concatenate([[0.0], weights.cumsum()])
        means: NDArray[np.float64] = (sums[last] - sums[first]) / np.maximum(1, last - first)
        return means

    def _report(self, text: str, read: int) -> None:
        if text not in self._cut:
            self._cut.add(text)
            why = f"the encoder reads {self._max_tokens} tokens; targets are drawn from those"
            lost, kept = f"{len(text) - read} characters", f"{read} characters"
            report(Loss("training", repr(text[:60]), lost, kept, why))


def attention_spans(
    importance: NDArray[np.float64],
    n: int,
    random: np.random.Generator,
    *,
    temperature: float = 1.0,
) -> list[int]:
    """N-grams drawn without replacement, by a softmax over importance / temperature.

    Drawn as the largest of importance / temperature + Gumbel noise (Vieira 2014), which is the
    same. Attention is a share of 1 among all tokens, so that at UGR's temperature of 1 all n-grams
    are about equally likely: a difference of 0.01 makes one 1 % likelier.

    Args:
        importance: float64 (n-grams,), as `Attention.importance` gives it.
        n: How many (UGR: 10); fewer if there are fewer.
        random: For the draws.
        temperature: Above 0; see above.
    """
    noisy = importance / temperature + random.gumbel(size=len(importance))  # (n-grams,)
    return [int(i) for i in np.argsort(-noisy, kind="stable")[:n]]


def mixed(tasks: Mapping[str, Sequence[Example]], seed: int | Sequence[int]) -> list[Example]:
    """The examples of all tasks in a drawn order; of a task at most 4 times the smallest one's.

    So tasks are mixed in proportion to their sizes, and each example is there once. What is over
    the cap is drawn anew with another seed.

    Args:
        tasks: Examples by task, none empty.
        seed: Of what is drawn and of the order.

    Raises:
        ValueError: There is no task, or one is empty.
    """
    empty = [name for name, examples in tasks.items() if not examples]
    if not tasks or empty:
        raise ValueError(
            f"tasks without examples: {', '.join(empty) or 'all'}; expected at least one of each"
        )
    random = np.random.default_rng(seed)
    most = LARGEST * min(map(len, tasks.values()))
    chosen: list[Example] = []
    for name in sorted(tasks):
        drawn = random.permutation(len(tasks[name]))[:most]
        chosen += [tasks[name][i] for i in drawn]
    return [chosen[i] for i in random.permutation(len(chosen))]


class MixedTargets:
    """Several tasks' targets, mixed in every epoch; see `mixed`.

    Args:
        tasks: By name, as a rule one for each granularity.
        seed: Of what is drawn.
    """

    def __init__(self, tasks: Mapping[str, Targets], *, seed: int = 0) -> None:
        self._tasks: dict[str, Targets] = dict(tasks)
        self._seed = seed

    @cached_property
    def digest(self) -> str:
        """Of the tasks and the seed."""
        known: dict[str, Any] = {name: each.digest for name, each in self._tasks.items()}
        return text_digest(json.dumps([self._seed, LARGEST, known], sort_keys=True))

    def epoch(self, number: int) -> list[Example]:
        """The examples of an epoch in the order they are trained in."""
        tasks = {name: each.epoch(number) for name, each in self._tasks.items()}
        return mixed(tasks, (self._seed, number))
