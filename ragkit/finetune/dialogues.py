"""Conversations as training examples: the loss is on what the assistant writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.digests import text_digest
from ragkit.finetune.sequences import Example
from ragkit.losses import report
from ragkit.types import Loss, Message

if TYPE_CHECKING:
    from ragkit.llms.local import LocalLLM

_EXAMPLE_TOKENS = 1024  # limit for dialogues that share one system message in an example


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation to train on.

    Attributes:
        messages: The first is the system message, the last one the assistant's.
        task: Name of the task, for mixing and reports.
    """

    messages: tuple[Message, ...]
    task: str = ""

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        if len(roles) < 3 or roles[0] != "system" or roles[-1] != "assistant":
            raise ValueError(
                f"a dialogue has the roles {', '.join(roles)}; expected a system message first and "
                "an assistant message last"
            )

    @property
    def system(self) -> str:
        """Text of the system message."""
        return self.messages[0].content


def dialogue_tokens(llm: LocalLLM, dialogue: Dialogue) -> tuple[list[int], list[int], list[bool]]:
    """Tokenize a dialogue.

    Learned are the assistant's messages and the token that ends each.

    Returns:
        Tokens of the system message, the tokens after it, and a flag for each of the latter: True
        if it is learned.

    Raises:
        ValueError: The model's chat template does not concatenate messages, so a conversation would
            be tokenized differently in use.
    """
    messages = dialogue.messages
    system = llm.tokens(messages[:1], reply=False)
    tokens = llm.tokens(messages, reply=False)
    learned = [False] * len(tokens)
    for i, message in enumerate(messages):
        if message.role == "assistant":
            before = llm.tokens(messages[:i], reply=True)
            after = llm.tokens(messages[: i + 1], reply=False)
            if tokens[: len(before)] != before or tokens[: len(after)] != after:
                raise ValueError(
                    f"the chat template of {llm.name!r} changes earlier turns when one is added; "
                    "use a model whose template does not"
                )
            end = next(n for n in range(len(after), 0, -1) if after[n - 1] in llm.end_tokens)
            learned[len(before) : end] = [True] * (end - len(before))
    if tokens[: len(system)] != system:
        raise ValueError(
            f"the chat template of {llm.name!r} puts text before the system message; use a model "
            "whose template does not"
        )
    last = max(n for n, flag in enumerate(learned) if flag) + 1  # the rest is never predicted
    return system, tokens[len(system) : last], learned[len(system) : last]


class DialogueTargets:
    """Dialogues as the examples of each epoch; dialogues with the same system message are packed.

    Args:
        llm: Model whose chat template and tokenizer are used.
        dialogues: At least one.
        max_tokens: Longer dialogues are dropped, with a `Loss`; at most 1,024.
        seed: Seed of the order.

    Raises:
        ValueError: All dialogues were dropped.
    """

    def __init__(
        self, llm: LocalLLM, dialogues: Sequence[Dialogue], *, max_tokens: int = 1024, seed: int = 0
    ) -> None:
        self._seed = seed
        self._by_system: dict[tuple[int, ...], list[tuple[tuple[int, ...], tuple[bool, ...]]]] = {}
        n_long = 0
        for dialogue in dialogues:
            system, tokens, learned = dialogue_tokens(llm, dialogue)
            if len(system) + len(tokens) > max_tokens:
                n_long += 1
                continue
            self._by_system.setdefault(tuple(system), []).append((tuple(tokens), tuple(learned)))
        if n_long:
            what = f"{n_long} dialogues of more than {max_tokens} tokens"
            report(Loss("training", what, str(n_long), str(len(dialogues) - n_long), "too long"))
        if not self._by_system:
            raise ValueError(
                f"none of the {len(dialogues)} dialogues fits {max_tokens} tokens; expected at "
                "least one"
            )

    def __len__(self) -> int:
        return sum(map(len, self._by_system.values()))

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the model reads in an epoch."""
        return sum(example.n_tokens for example in self.epoch(0))

    @property
    def digest(self) -> str:
        """Digest of everything the examples depend on."""
        return text_digest(repr((self._seed, sorted(self._by_system.items()))))

    def epoch(self, number: int) -> list[Example]:
        """Return the examples of an epoch, always the same for the same epoch."""
        random = np.random.default_rng([self._seed, number])
        examples = list(self._examples(random))
        return [examples[i] for i in random.permutation(len(examples))]

    def _examples(self, random: np.random.Generator) -> Iterator[Example]:
        for system, dialogues in self._by_system.items():
            group: list[tuple[tuple[int, ...], tuple[bool, ...]]] = []
            used = len(system)
            for i in random.permutation(len(dialogues)).tolist():
                if group and used + len(dialogues[i][0]) > _EXAMPLE_TOKENS:
                    yield _example(system, group)
                    group, used = [], len(system)
                group.append(dialogues[i])
                used += len(dialogues[i][0])
            yield _example(system, group)


def _example(
    system: tuple[int, ...], dialogues: Sequence[tuple[tuple[int, ...], tuple[bool, ...]]]
) -> Example:
    targets, learned = zip(*dialogues, strict=True)
    return Example(system, targets, "", learned)
