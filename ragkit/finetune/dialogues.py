"""Conversations as examples: what the assistant writes is learned, the rest is read."""

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

_EXAMPLE_TOKENS = 1024  # dialogues that share one reading of their system message, together


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation to learn from.

    Attributes:
        messages: The first is the system message, the last one the assistant's.
        task: What it teaches, for mixing and reports.
    """

    messages: tuple[Message, ...]
    task: str = ""

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        if len(roles) < 3 or roles[0] != "system" or roles[-1] != "assistant":
            raise ValueError(
                f"a dialogue has the roles {', '.join(roles)}; expected a system message first and "
                "the assistant's last"
            )

    @property
    def system(self) -> str:
        """The system message."""
        return self.messages[0].content


def dialogue_tokens(llm: LocalLLM, dialogue: Dialogue) -> tuple[list[int], list[int], list[bool]]:
    """(the system message's tokens, the tokens after it, which of these are learned).

    Learned are the assistant's messages and the token that ends each.

    Raises:
        ValueError: The model's template does not lay messages end to end, so that what is read in
            a conversation would differ from what was learned.
    """
    messages = dialogue.messages
    system = llm.tokens(messages[:1], reply=False)
    whole = llm.tokens(messages, reply=False)
    learned = [False] * len(whole)
    for i, message in enumerate(messages):
        if message.role == "assistant":
            before = llm.tokens(messages[:i], reply=True)
            after = llm.tokens(messages[: i + 1], reply=False)
            if whole[: len(before)] != before or whole[: len(after)] != after:
                raise ValueError(
                    f"the chat template of {llm.name!r} changes earlier turns when one is added; "
                    "take a model whose template does not"
                )
            end = next(n for n in range(len(after), 0, -1) if after[n - 1] in llm.end_tokens)
            learned[len(before) : end] = [True] * (end - len(before))
    if whole[: len(system)] != system:
        raise ValueError(f"the chat template of {llm.name!r} puts something before the system turn")
    last = max(n for n, flag in enumerate(learned) if flag) + 1  # what follows is never read
    return system, whole[len(system) : last], learned[len(system) : last]


class DialogueTargets:
    """Dialogues as the examples of each epoch; those with one system message share its reading.

    Args:
        llm: Whose template and tokens they are in.
        dialogues: At least one.
        max_tokens: Longer ones are left out, with a `Loss`; at most 1,024.
        seed: Of the order.

    Raises:
        ValueError: None is left.
    """

    def __init__(
        self, llm: LocalLLM, dialogues: Sequence[Dialogue], *, max_tokens: int = 1024, seed: int = 0
    ) -> None:
        self._seed = seed
        self._of: dict[tuple[int, ...], list[tuple[tuple[int, ...], tuple[bool, ...]]]] = {}
        n_long = 0
        for each in dialogues:
            system, tokens, learned = dialogue_tokens(llm, each)
            if len(system) + len(tokens) > max_tokens:
                n_long += 1
                continue
            self._of.setdefault(tuple(system), []).append((tuple(tokens), tuple(learned)))
        if n_long:
            what = f"{n_long} dialogues of more than {max_tokens} tokens"
            report(Loss("training", what, str(n_long), str(len(dialogues) - n_long), "too long"))
        if not self._of:
            raise ValueError(f"none of {len(dialogues)} dialogues is left; expected at least one")

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    @property
    def n_tokens(self) -> int:
        """What an epoch reads."""
        return sum(each.n_tokens for each in self.epoch(0))

    @property
    def digest(self) -> str:
        """Of everything the examples depend on."""
        return text_digest(repr((self._seed, sorted(self._of.items()))))

    def epoch(self, number: int) -> list[Example]:
        """The examples of an epoch, the same whenever they are asked for."""
        random = np.random.default_rng([self._seed, number])
        found = list(self._examples(random))
        return [found[i] for i in random.permutation(len(found))]

    def _examples(self, random: np.random.Generator) -> Iterator[Example]:
        for system, given in self._of.items():
            together: list[tuple[tuple[int, ...], tuple[bool, ...]]] = []
            used = len(system)
            for i in random.permutation(len(given)).tolist():
                if together and used + len(given[i][0]) > _EXAMPLE_TOKENS:
                    yield _example(system, together)
                    together, used = [], len(system)
                together.append(given[i])
                used += len(given[i][0])
            yield _example(system, together)


def _example(
    system: tuple[int, ...], given: Sequence[tuple[tuple[int, ...], tuple[bool, ...]]]
) -> Example:
    targets, learned = zip(*given, strict=True)
    return Example(system, targets, "", learned)
