"""Attention of packed rows `[prompt | answer 1 | answer 2 | ...]` without a mask over all pairs of tokens.

The prompt attends to itself, causally. The answers are taken apart into a batch, in which each attends to the prompt
and, causally, to itself: P^2 + K (P + L) L pairs instead of (P + K L)^2, under one small mask. The numbers are those of
one row per answer, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed_groups"


@dataclass(frozen=True)
class PackedLayout:
    """Where C packed rows of S tokens hold a prompt and K answers.

    Attributes:
        known: (C, P) bool, the prompt's tokens, without its padding on the left.
        slots: (C, K, W) where token w of answer k stands among the S - P last tokens; of answers with fewer than W
            tokens the rest stands anywhere.
        back: (C, S - P) which of the K W slots a token is; padding is any.
    """

    known: torch.Tensor
    slots: torch.Tensor
    back: torch.Tensor
    _masks: dict[torch.dtype, tuple[torch.Tensor | None, torch.Tensor]] = field(default_factory=dict, repr=False)

    def masks(self, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What is added to the logits, once for all layers: (C, 1, P, P) of the prompts, `None` without padding, then
        plainly causal; and (C K or 1, 1, W, P + W) of the answers."""
        if dtype not in self._masks:
            self._masks[dtype] = self._make_masks(dtype)
        return self._masks[dtype]

    def _make_masks(self, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor]:
        (clips, prompt), (answers, width) = self.known.shape, self.slots.shape[1:]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.known.device).tril()
        if bool(self.known.all()):
            seen = torch.cat([causal.new_ones(width, prompt), causal], dim=1)
            return None, _additive(seen[None, None], dtype)
        prompts = self.known[:, None] & causal.new_ones(prompt, prompt).tril()
        prompts |= torch.eye(prompt, dtype=torch.bool, device=self.known.device)  # padding must see something
        shown = self.known[:, None, None].expand(-1, answers, width, -1)
        own = torch.cat([shown, causal.expand(clips, answers, -1, -1)], dim=-1).flatten(0, 1)
        return _additive(prompts[:, None], dtype), _additive(own[:, None], dtype)


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where something is seen, else minus infinity."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def read_packed_rows(language_model: PreTrainedModel) -> None:
    """Make a model take a `PackedLayout` as `packed`; all else it does as before.

    Raises:
        ValueError: If its attention is another one than SDPA.
    """
    config = language_model.config
    if config._attn_implementation not in (NAME, "sdpa"):
        raise ValueError(
            f"attn_implementation={config._attn_implementation!r} with packed rows: load the policy with 'sdpa'."
        )
    if config._attn_implementation != NAME:
        language_model.set_attn_implementation(NAME)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed: PackedLayout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA of queries (C, H, S, D), keys and values (C, H', S, D). Returns (C, S, H, D)."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    attend = partial(
        scaled_dot_product_attention,
        dropout_p=kwargs.get("dropout", 0.0),
        scale=kwargs.get("scaling"),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    prompt, answers = packed.known.shape[1], packed.slots.shape[1]
    of_prompts, of_answers = packed.masks(query.dtype)
    q, k, v = (states[:, :, :prompt] for states in (query, key, value))
    first = attend(q, k, v, attn_mask=of_prompts, is_causal=of_prompts is None)
    own = [_taken_apart(states[:, :, prompt:], packed.slots) for states in (query, key, value)]
    shared = [states[:, None].expand(-1, answers, -1, -1, -1).flatten(0, 1) for states in (k, v)]
    keys, values = (torch.cat(parts, dim=2) for parts in zip(shared, own[1:], strict=True))
    found = attend(own[0], keys, values, attn_mask=of_answers)
    slots = found.unflatten(0, (-1, answers)).permute(0, 1, 3, 2, 4).flatten(1, 2)  # (C, K W, H, D)
    index = packed.back[:, :, None, None].expand(-1, -1, *slots.shape[2:])
    return torch.cat([first.transpose(1, 2), slots.gather(1, index)], dim=1), None


def _taken_apart(states: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """(C, H, S - P, D) to (C K, H, W, D)."""
    answers, width = slots.shape[1:]
    index = slots.flatten(1)[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    parts = states.gather(2, index).unflatten(2, (answers, width))
    return parts.transpose(1, 2).flatten(0, 1)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
