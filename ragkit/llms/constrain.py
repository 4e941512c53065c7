"""Replies that must be JSON of a schema: which tokens may come next, which must.

The grammar is llguidance's. Every string, number and list is given a limit where the schema names
none, so that a constrained reply always ends, whatever the model's weights are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError, require

_MAX_LENGTH, _MAX_ITEMS = 200, 16
_LARGEST, _FINEST = 1e9, 1e-6


class JsonConstraint:
    """The state of one reply: tokens go in, what may follow comes out.

    Args:
        tokenizer: From `vocabulary`.
        schema: A JSON schema; `bounded` is applied to it.
        vocab_size: The width of the logits.

    Raises:
        ModelError: llguidance does not understand the schema.
    """

    def __init__(self, tokenizer: Any, schema: Mapping[str, Any], vocab_size: int) -> None:
        guidance = require("llguidance", extra="local")
        grammar = guidance.LLMatcher.grammar_from_json_schema(json.dumps(bounded(schema)))
        self._matcher = guidance.LLMatcher(tokenizer, grammar)
        self._vocab_size = vocab_size
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().splitlines()[0]
            raise ModelError(f"the reply's grammar failed: {reason}")

    @property
    def finished(self) -> bool:
        """Whether the reply is complete: nothing can be added."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """The tokens that must come next, without asking the model; they are accepted."""
        tokens = list(self._matcher.compute_ff_tokens())
        if tokens:
            self.accept(tokens)
        return tokens

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, bool (vocab_size,)."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        flags = np.unpackbits(bits, bitorder="little")[: self._vocab_size]
        return flags.astype(np.bool_)

    def accept(self, tokens: Sequence[int]) -> None:
        """Go on by these tokens."""
        self._matcher.consume_tokens(list(tokens))
        self._check()


def vocabulary(tokenizer: Any, vocab_size: int) -> Any:
    """What llguidance knows of a transformers tokenizer; takes a third of a second, so keep it."""
    require("llguidance", extra="local")
    from llguidance import hf

    return hf.from_tokenizer(tokenizer, n_vocab=vocab_size)


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with a limit on every string, number and list, and one way to write white space.

    Strings without `maxLength`, `pattern`, `enum` or `const` get 200 characters, lists 16 items,
    numbers 9 digits before and 6 after the point.

    >>> bounded({"type": "integer"})["maximum"]
    1000000000
    """
    spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return _bounded(schema) | {"x-guidance": spaces}


def _bounded(node: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(node)
    for key in ("properties", "$defs"):
        if key in kept:
            kept[key] = {name: _bounded(each) for name, each in kept[key].items()}
    for key in ("anyOf", "oneOf", "allOf"):
        if key in kept:
            kept[key] = [_bounded(each) for each in kept[key]]
    if isinstance(kept.get("items"), Mapping):
        kept["items"] = _bounded(kept["items"])
    return _LIMITS.get(str(kept.get("type")), {}) | kept if _is_open(kept) else kept


def _is_open(node: Mapping[str, Any]) -> bool:
    return not {"enum", "const", "pattern", "format"} & node.keys()


_LIMITS: Mapping[str, dict[str, Any]] = {
    "string": {"maxLength": _MAX_LENGTH},
    "array": {"maxItems": _MAX_ITEMS},
    "integer": {"minimum": -int(_LARGEST), "maximum": int(_LARGEST)},
    "number": {"minimum": -_LARGEST, "maximum": _LARGEST, "multipleOf": _FINEST},
}
