"""The n answers to a prompt read its keys and values in one place, inside transformers' own `generate`.

transformers' cache holds a prompt once per answer, copies all of it for each new token, and attention reads every copy.
Here a layer's cache has one row per prompt, `[prompt | first tokens of its n answers | second tokens | ...]`, in a
buffer that grows, and attention takes the n answers as n queries of that row: each sees the prompt and its own tokens.
At t tokens an answer, L + n t keys are read instead of n (L + t).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import sdpa_mask

NAME = "shared_prompt"


class SharedPromptLayer(DynamicLayer):
    """One layer's cache for P n rows that share P prompts.

    Args:
        filled: The layer after the prompts: keys and values (P, H, L, D).
        n: Answers per prompt; those to one prompt are consecutive rows.
        longest: Most tokens of an answer, for which the buffer has room in the end.
    """

    def __init__(self, filled: DynamicLayer, n: int, longest: int) -> None:
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self.keys, self.values = self._buffers = [filled.keys, filled.values]
        self.n, self.prompt_length = n, filled.keys.shape[-2]
        self.most = self.prompt_length + n * longest

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add t tokens of each answer, (P n, H, t, D). Returns all keys and values, (P, H, L + n tokens, D)."""
        self.keys = self._append(0, self.keys, key_states)
        self.values = self._append(1, self.values, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions that one answer has seen."""
        return self.prompt_length + (self.keys.shape[-2] - self.prompt_length) // self.n

    def _append(self, place: int, shown: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        states = states.unflatten(0, (-1, self.n)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        start = shown.shape[-2]
        end = start + states.shape[-2]
        buffer = self._buffers[place]
        if end > buffer.shape[-2]:
            room = max(end, min(end + max(64 * self.n, end // 2), self.most))
            buffer = shown.new_empty(*shown.shape[:2], room, shown.shape[-1])
            buffer[:, :, :start] = shown
            self._buffers[place] = buffer
        buffer[:, :, start:end] = states
        return buffer[:, :, :end]


def share_prompts(cache: DynamicCache, n: int, longest: int) -> None:
    """Make the cache of P prompts one of their P n answers of up to `longest` tokens, in place."""
    cache.layers = [SharedPromptLayer(layer, n, longest) for layer in cache.layers]


@contextmanager
def attention_to_shared_prompts(language_model: PreTrainedModel) -> Iterator[None]:
    """Make a model read `SharedPromptLayer`s, one new token at a time."""
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA of queries (P n, H, 1, D), of which n consecutive ones share a row of keys (P, H, L + n t, D).

    The mask (P n, 1, 1, L + t) is that of answers on their own. Returns (P n, 1, H, D).
    """
    prompts, heads = len(key), key.shape[1]
    n, fold = len(query) // prompts, query.shape[1] // heads
    mask = attention_mask if n == 1 else _of_answers(attention_mask, prompts, n, key.shape[2])
    # The query heads that share a head of keys are further queries of it: nothing is copied to them.
    queries = query.reshape(prompts, n, heads, fold, -1).permute(0, 2, 3, 1, 4).flatten(2, 3)
    scale = kwargs.get("scaling")
    output = scaled_dot_product_attention(queries, key, value, mask.repeat(1, 1, fold, 1), scale=scale)
    output = output.unflatten(2, (fold, n)).permute(0, 3, 1, 2, 4)
    return output.reshape(len(query), 1, query.shape[1], -1), None


def _of_answers(attention_mask: torch.Tensor, prompts: int, n: int, keys: int) -> torch.Tensor:
    """(P, 1, n, L + n t) from the mask of answers on their own."""
    steps = (keys - attention_mask.shape[-1]) // (n - 1)
    prompt = attention_mask[:, 0, 0, : keys - n * steps].unflatten(0, (prompts, n))
    own = torch.eye(n, dtype=torch.bool, device=attention_mask.device).repeat(1, steps).expand(prompts, -1, -1)
    return torch.cat([prompt, own], dim=-1)[:, None]


def _mask(**kwargs: Any) -> torch.Tensor:
    """SDPA's, also where it could be left out: `_attention` takes lengths from it."""
    return sdpa_mask(**kwargs | {"allow_is_causal_skip": False})


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
