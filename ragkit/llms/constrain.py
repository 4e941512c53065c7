"""Replies that must be JSON of a schema: which tokens may come next, which must.

The grammar is llguidance's. Every string, number and list is given a limit where the schema names
none, so that a constrained reply always ends, whatever the model's weights are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError, require

_MAX_LENGTH, _MAX_ITEMS, _MAX_NAMES = 200, 16, 8
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
        self._tokenizer = tokenizer
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

    def allowed(self, *, closing: bool = False) -> NDArray[np.bool_]:
        """Which tokens may come next, bool (vocab_size,).

        Args:
            closing: Only those that end a list, an object or a text, where there are such: so a
                reply that is about to be cut off comes to its end instead.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        flags = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(np.bool_)
        for ends in _ends(self._tokenizer) if closing else ():
            narrowed = np.zeros_like(flags)
            narrowed[list(ends)] = flags[list(ends)]
            if narrowed.any():
                return narrowed
        return flags

    def accept(self, tokens: Sequence[int]) -> None:
        """Go on by these tokens."""
        self._matcher.consume_tokens(list(tokens))
        self._check()


def _ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens that end texts; and such that end lists and objects, which within a text are text."""
    tails = ["".join(each) for n in range(4) for each in product("}]", repeat=n)]

    def single(texts: Sequence[str]) -> list[int]:
        return [tokens[0] for tokens in map(tokenizer.tokenize_str, texts) if len(tokens) == 1]

    return single([f'"{tail}' for tail in tails]), single(tails[1:])


def vocabulary(tokenizer: str, vocab_size: int, end_token: int) -> Any:
    """What llguidance knows of a tokenizer; takes a third of a second, so keep it.

    Args:
        tokenizer: In the format of `tokenizer.json`.
        vocab_size: The width of the logits.
        end_token: What ends a text.
    """
    guidance = require("llguidance", extra="local")
    return guidance.LLTokenizer(tokenizer, n_vocab=vocab_size, eos_token=end_token)


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with a limit on every string, number and list, and one way to write white space.

    Where the schema does not say otherwise, strings get 200 characters and no control characters,
    lists 16 items and numbers 9 digits before and 6 after the point. An object has the properties
    that are named, or 8 of any name. A value of any type is a text, a number, a flag or null. That
    items differ cannot be asked of a grammar.

    >>> bounded({"type": "integer"})["maximum"]
    1000000000
    """
    spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return _bounded(schema) | {"x-guidance": spaces}


def _bounded(node: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in node.items() if key != "uniqueItems"}
    for key in ("properties", "patternProperties", "$defs"):
        if key in kept:
            kept[key] = {name: _bounded(each) for name, each in kept[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in kept:
            kept[key] = [_bounded(each) for each in kept[key]]
    if kept.get("items") is True:
        kept["items"] = {}
    if isinstance(kept.get("items"), Mapping):
        kept["items"] = _bounded(kept["items"])
    if not _DECIDES & kept.keys():
        kept["anyOf"] = [_bounded({"type": each}) for each in _ANY]
    if {"enum", "const"} & kept.keys():
        return kept
    named = kept.get("type", ())
    for each in [named] if isinstance(named, str) else named:
        kept = _with_limits(kept, each)
    return kept


def _with_limits(node: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "object":
        return _with_bounded_names(node)
    if kind == "array" and "items" not in node and "prefixItems" not in node:
        node = node | {"items": _bounded({})}
    limits = dict(_LIMITS.get(kind, {}))
    for least, most in _RANGES:
        if most in limits and node.get(least, 0) > limits[most]:
            limits[most] = 2 * node[least]
        if least in limits and node.get(most, 0) < limits[least]:
            limits[least] = 2 * node[most]
    return limits | node


def _with_bounded_names(node: dict[str, Any]) -> dict[str, Any]:
    """An object without free names; or, where it names none itself, with few and short ones."""
    others = node.get("additionalProperties", True)
    closed = node | {"additionalProperties": False}
    if others is False or node.get("properties") or node.get("patternProperties"):
        return closed
    values = _bounded(others if isinstance(others, Mapping) else {})
    return {"maxProperties": _MAX_NAMES} | closed | {"patternProperties": {_FREE_NAME: values}}


_DECIDES = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
_ANY = ("string", "number", "boolean", "null")
# Characters that have no place in a line of text: control, direction, invisible ones.
_NOT_TEXT = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_FREE_NAME = "^[A-Za-z0-9_ -]{1,40}$"
_RANGES = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minimum", "maximum"),
    ("exclusiveMinimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
)
_LIMITS: Mapping[str, dict[str, Any]] = {
    "string": {"maxLength": _MAX_LENGTH, "pattern": f"^[^{_NOT_TEXT}]*$"},
    "array": {"maxItems": _MAX_ITEMS},
    "integer": {"minimum": -int(_LARGEST), "maximum": int(_LARGEST)},
    "number": {"minimum": -_LARGEST, "maximum": _LARGEST, "multipleOf": _FINEST},
}
