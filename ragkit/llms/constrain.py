"""Constrained decoding of JSON replies with llguidance.

Every string, number and list gets a default limit where the schema sets none, so that a constrained
reply always ends, whatever the model's weights are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ModelError, require

_MAX_LENGTH, _MAX_ITEMS, _MAX_PROPERTIES = 200, 16, 8
_MAX_NUMBER, _NUMBER_STEP = 1e9, 1e-6


class JsonConstraint:
    """The grammar state of one reply: accepts tokens and computes the mask of allowed ones.

    Args:
        tokenizer: The result of `vocabulary`.
        schema: A JSON schema; `bounded` is applied to it.
        vocab_size: Width of the logits.

    Raises:
        ModelError: llguidance does not support the schema.
    """

    def __init__(self, tokenizer: Any, schema: Mapping[str, Any], vocab_size: int) -> None:
        guidance = require("llguidance", extra="agent")
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
        """True if the reply is complete and no token can follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Accept and return the tokens that the grammar forces next, without running the model."""
        tokens = list(self._matcher.compute_ff_tokens())
        if tokens:
            self.accept(tokens)
        return tokens

    def allowed(self, *, closing: bool = False) -> NDArray[np.bool_]:
        """Return the mask of allowed next tokens, bool (vocab_size,).

        Args:
            closing: Allow only tokens that close a list, an object or a string, if there are any,
                so that a reply near its token limit is completed instead of cut off.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        flags = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(np.bool_)
        for tokens in _closing_tokens(self._tokenizer) if closing else ():
            closing_only = np.zeros_like(flags)
            closing_only[list(tokens)] = flags[list(tokens)]
            if closing_only.any():
                return closing_only
        return flags

    def accept(self, tokens: Sequence[int]) -> None:
        """Advance the grammar by these tokens."""
        self._matcher.consume_tokens(list(tokens))
        self._check()


def _closing_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that close a string, and those that close a list or an object.

    They are tried in this order, because a bracket inside a string does not close anything.
    """
    brackets = ["".join(chars) for n in range(4) for chars in product("}]", repeat=n)]

    def single_tokens(texts: Sequence[str]) -> list[int]:
        return [tokens[0] for tokens in map(tokenizer.tokenize_str, texts) if len(tokens) == 1]

    return single_tokens([f'"{text}' for text in brackets]), single_tokens(brackets[1:])


def vocabulary(tokenizer: str, vocab_size: int, end_token: int) -> Any:
    """Build llguidance's tokenizer; takes a third of a second, so callers should cache it.

    Args:
        tokenizer: The tokenizer in the format of `tokenizer.json`.
        vocab_size: Width of the logits.
        end_token: Id of the end-of-text token.
    """
    guidance = require("llguidance", extra="agent")
    return guidance.LLTokenizer(tokenizer, n_vocab=vocab_size, eos_token=end_token)


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Limit every string, number and list of a schema, and fix the white space.

    Defaults where the schema sets no limit: strings have at most 200 characters and no control
    characters, lists at most 16 items, and numbers at most 9 digits before and 6 after the decimal
    point. An object has its named properties, or at most 8 properties with free names. A value of
    unspecified type is a string, a number, a boolean or null. `uniqueItems` is dropped, because a
    grammar cannot express it.

    >>> bounded({"type": "integer"})["maximum"]
    1000000000
    """
    spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return _bounded(schema) | {"x-guidance": spaces}


def _bounded(node: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in node.items() if key != "uniqueItems"}
    for key in ("properties", "patternProperties", "$defs"):
        if key in schema:
            schema[key] = {name: _bounded(child) for name, child in schema[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in schema:
            schema[key] = [_bounded(child) for child in schema[key]]
    if schema.get("items") is True:
        schema["items"] = {}
    if isinstance(schema.get("items"), Mapping):
        schema["items"] = _bounded(schema["items"])
    if not _TYPE_KEYWORDS & schema.keys():
        schema["anyOf"] = [_bounded({"type": name}) for name in _ANY_TYPE]
    if {"enum", "const"} & schema.keys():
        return schema
    types = schema.get("type", ())
    for name in [types] if isinstance(types, str) else types:
        schema = _with_limits(schema, name)
    return schema


def _with_limits(node: dict[str, Any], type_name: str) -> dict[str, Any]:
    if type_name == "object":
        return _with_limited_properties(node)
    if type_name == "array" and "items" not in node and "prefixItems" not in node:
        node = node | {"items": _bounded({})}
    limits = dict(_LIMITS.get(type_name, {}))
    for lower, upper in _RANGES:  # widen a default that contradicts the schema's own limit
        if upper in limits and node.get(lower, 0) > limits[upper]:
            limits[upper] = 2 * node[lower]
        if lower in limits and node.get(upper, 0) < limits[lower]:
            limits[lower] = 2 * node[upper]
    return limits | node


def _with_limited_properties(node: dict[str, Any]) -> dict[str, Any]:
    """Forbid additional properties, or limit them if the object names no properties."""
    additional = node.get("additionalProperties", True)
    closed = node | {"additionalProperties": False}
    if additional is False or node.get("properties") or node.get("patternProperties"):
        return closed
    values = _bounded(additional if isinstance(additional, Mapping) else {})
    return {"maxProperties": _MAX_PROPERTIES} | closed | {"patternProperties": {_FREE_NAME: values}}


_TYPE_KEYWORDS = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
_ANY_TYPE = ("string", "number", "boolean", "null")
# Control, bidirectional and invisible characters, excluded from strings.
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
    "integer": {"minimum": -int(_MAX_NUMBER), "maximum": int(_MAX_NUMBER)},
    "number": {"minimum": -_MAX_NUMBER, "maximum": _MAX_NUMBER, "multipleOf": _NUMBER_STEP},
}
