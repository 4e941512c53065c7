"""A growing cache and single-query attention, for fast decoding after a long prompt on a CPU.

transformers' dynamic cache copies all keys and values at every step, and torch's fused attention
is optimised for many queries. Replacing both, SmolLM2 in bf16 decodes 21 tokens/s instead of 14
after a prompt of 1400 tokens (2 cores, AVX-512), and is not slower after a short prompt.
"""

from __future__ import annotations

import functools
from typing import Any

_NAME = "ragkit_one_query"


def growing_cache(config: Any) -> Any:
    """Return transformers' dynamic cache with its plain layers replaced by growing buffers."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache, growing = DynamicCache(config=config), _growing_layer()
    cache.layers = [growing() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@functools.cache
def _growing_layer() -> Any:  # a function, because the base class is transformers'
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """A layer whose keys and values are views of two buffers, doubled when they are full."""

        keys: Any
        values: Any
        _buffers: tuple[Any, Any] | None = None

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            if self._buffers is None or end > self._buffers[0].shape[-2]:
                old = (self.keys, self.values) if start else ()
                self._buffers = _allocate(key_states, 2 * end), _allocate(value_states, 2 * end)
                for buffer, states in zip(self._buffers, old, strict=False):
                    buffer[:, :, :start] = states
            keys, values = self._buffers
            keys[:, :, start:end] = key_states
            values[:, :, start:end] = value_states
            self.keys, self.values = keys[:, :, :end], values[:, :, :end]
            return self.keys, self.values

    return GrowingLayer


def _allocate(like: Any, length: int) -> Any:
    batch, heads, _, width = like.shape
    return like.new_empty(batch, heads, length, width)


def use_one_query_attention(model: Any) -> None:
    """Make a model compute attention for a single query by plain matrix products."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[Any, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    extras = (attention_mask, options.get("position_bias"))
    if query.shape[2] > 1 or any(extra is not None for extra in extras):
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    batch, n_heads, _, width = query.shape
    scaling = options.get("scaling") or width**-0.5
    grouped = query.reshape(batch, key.shape[1], -1, width)  # queries that share a key head
    weights = (grouped @ key.transpose(2, 3) * scaling).float().softmax(-1).to(query.dtype)
    return (weights @ value).reshape(batch, 1, n_heads, width), None
