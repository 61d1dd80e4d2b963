"""Attention of packed rows `[prompt | answer 1 | answer 2 | ...]` without a mask over all pairs of tokens.

A row is a tree of segments: a token sees the earlier ones of its own segment and all of the segments above. Each part
is one pass of flash attention, over a segment itself or over one above it, and the parts are put together by their
log-sum-exps, as ring attention does (Liu et al., 2023): P^2 / 2 + K (P + L / 2) L pairs instead of (P + K L)^2, no mask
and no copy of the prompt's keys. The numbers are those of one row per answer, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed_rows"
ALIKE = 0.75
"""Segments are computed together, the shorter ones padded, if they have this share of the longest one's tokens."""
aten = torch.ops.aten


@dataclass(frozen=True)
class Segment:
    """Tokens [start, stop) of a packed row.

    Attributes:
        start: First token.
        stop: Behind the last one.
        end: Behind the last one of the segments below it, which follow it; `stop` if there are none.
    """

    start: int
    stop: int
    end: int


@dataclass(frozen=True)
class PackedLayout:
    """Which tokens of a packed row see each other.

    Attributes:
        segments: In their order; they cover the row.
        form: One of `FORMS`; `None` chooses by device and precision.
    """

    segments: tuple[Segment, ...]
    form: str | None = None
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def length(self) -> int:
        """S, tokens of the row."""
        return self.segments[-1].stop

    @property
    def pairs(self) -> list[tuple[slice, slice]]:
        """Segments that others go on from, and all that is below them."""
        inner = [segment for segment in self.segments if segment.stop < segment.end]
        return [(slice(one.start, one.stop), slice(one.stop, one.end)) for one in inner]

    def once(self, make: Callable[[PackedLayout, torch.device], Any], device: torch.device) -> Any:
        """What is made of the layout for all layers."""
        if (make, device) not in self._made:
            self._made[make, device] = make(self, device)
        return self._made[make, device]


def sees(layout: PackedLayout, device: torch.device) -> Callable[..., torch.Tensor]:
    """FlexAttention's `mask_mod`: may query q see key k?"""
    end = torch.empty(layout.length, dtype=torch.long, device=device)
    for segment in layout.segments:
        end[segment.start : segment.stop] = segment.end

    def mask_mod(batch: Any, head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) & (q < end[k])

    return mask_mod


# ---------------------------------------------------------------------- parts of flash attention


@dataclass(frozen=True)
class _Bucket:
    """N segments of nearly the same length.

    Attributes:
        shape: (N, W), W the longest one's.
        tokens: (N, W) where they stand in the row, the shorter ones filled with their first token; or a slice, if all
            are equally long and follow one another.
        known: (N, W) what is not filled, where something is.
    """

    shape: tuple[int, int]
    tokens: torch.Tensor | slice
    known: torch.Tensor | None

    def take(self, states: torch.Tensor) -> torch.Tensor:
        """(S, H, ...) to (N, H, W, ...)."""
        taken = states[self.tokens]
        return (taken.unflatten(0, self.shape) if isinstance(self.tokens, slice) else taken).transpose(1, 2)

    def put(self, states: torch.Tensor, values: torch.Tensor) -> None:
        """Values (N, H, W, ...) into their places in (S, H, ...)."""
        rows = values.transpose(1, 2)
        if isinstance(self.tokens, slice):
            states[self.tokens] = rows.flatten(0, 1)
        elif self.known is None:
            states[self.tokens] = rows
        else:
            states[self.tokens[self.known]] = rows[self.known]


def _buckets(layout: PackedLayout, device: torch.device) -> list[_Bucket]:
    """All segments by length."""
    left = sorted(layout.segments, key=lambda segment: segment.start - segment.stop)
    found = []
    while left:
        width = left[0].stop - left[0].start
        size = next((i for i, one in enumerate(left) if one.stop - one.start < ALIKE * width), len(left))
        chosen, left = left[:size], left[size:]
        first = chosen[0].start
        starts = torch.tensor([[segment.start] for segment in chosen], device=device)
        lengths = torch.tensor([[segment.stop - segment.start] for segment in chosen], device=device)
        place = torch.arange(width, device=device)
        if all((one.start, one.stop) == (first + i * width, first + (i + 1) * width) for i, one in enumerate(chosen)):
            found.append(_Bucket((size, width), slice(first, first + size * width), None))
        else:
            known = place < lengths
            filled = bool((lengths < width).any())
            tokens = torch.where(known, starts + place, starts)
            found.append(_Bucket((size, width), tokens, known if filled else None))
    return found


def _flash(seen: Sequence[torch.Tensor], causal: bool, scale: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Of (N, H, W, D) queries and (N, H', W', D) keys and values: (N, H, W, D) and log-sum-exps (N, H, W)."""
    if seen[0].device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(*seen, 0.0, causal, scale=scale)
    return aten._scaled_dot_product_flash_attention(*seen, 0.0, causal, scale=scale)[:2]


def _flash_backward(seen: Sequence[torch.Tensor], causal: bool, scale: float | None) -> tuple[torch.Tensor, ...]:
    """Gradients of queries, keys and values from the output's gradient, queries, keys, values, output and log-sum-exps,
    where these keys are a part of those that the two last are over."""
    if seen[0].device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(*seen, 0.0, causal, scale=scale)
    gradient, q, k, v, out, sums = seen
    unused = torch.empty(2, dtype=torch.uint64, device=q.device)  # the state of a dropout that there is not
    size = q.shape[2], k.shape[2]
    return aten._scaled_dot_product_flash_attention_backward(
        gradient, q, k, v, out, sums.contiguous(), None, None, *size, 0.0, causal, unused, unused[0], scale=scale
    )


class _Parts(torch.autograd.Function):
    """Attention of (S, H, D) queries to (S, H', D) keys and values."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: PackedLayout, scale: float | None
    ) -> torch.Tensor:
        out, sums = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        for bucket in layout.once(_buckets, q.device):
            for whole, part in zip((out, sums), _flash([bucket.take(x) for x in (q, k, v)], True, scale), strict=True):
                bucket.put(whole, part)
        for above, below in layout.pairs:
            seen = [_heads_first(x) for x in (q[below], k[above], v[above])]
            found, new = (x[0].transpose(0, 1) for x in _flash(seen, False, scale))
            both = torch.logaddexp(sums[below], new)
            mixed = out[below] * _share(sums[below], both) + found * _share(new, both)
            out[below], sums[below] = mixed.to(out.dtype), both
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, sums = ctx.saved_tensors
        found = [torch.empty_like(x) for x in (q, k, v)]
        for bucket in ctx.layout.once(_buckets, q.device):
            own = [bucket.take(x) for x in (gradient, q, k, v, out, sums)]
            if bucket.known is not None:  # fillers teach nothing, and do not overflow under another token's sum
                filled = ~bucket.known[:, None]
                own[0], own[5] = own[0].masked_fill(filled[..., None], 0), own[5].masked_fill(filled, torch.inf)
            for whole, part in zip(found, _flash_backward(own, True, ctx.scale), strict=True):
                bucket.put(whole, part)
        for above, below in ctx.layout.pairs:
            seen = (gradient[below], q[below], k[above], v[above], out[below], sums[below])
            more = _flash_backward([_heads_first(x) for x in seen], False, ctx.scale)
            for whole, part, there in zip(found, more, (below, above, above), strict=True):
                whole[there] += part[0].transpose(0, 1)
        return *found, None, None


def _heads_first(states: torch.Tensor) -> torch.Tensor:
    """(S, H, ...) to (1, H, S, ...)."""
    return states.transpose(0, 1)[None]


def _share(sums: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """(S, H, 1) the weight of a part with these log-sum-exps."""
    return (sums - both).exp()[..., None]


# ---------------------------------------------------------------------- forms of the same


def _by_parts(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: PackedLayout, scale: float | None
) -> torch.Tensor:
    device = q.device.type
    if torch.is_autocast_enabled(device):  # which knows SDPA, not what it consists of
        q, k, v = (x.to(torch.get_autocast_dtype(device)) for x in (q, k, v))
    return _Parts.apply(*(x[0].transpose(0, 1) for x in (q, k, v)), layout, scale).transpose(0, 1)[None]


def _flex(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: PackedLayout, scale: float | None) -> torch.Tensor:
    """FlexAttention, which skips blocks of keys that no query of a block sees. On a CPU it has no backward."""
    grouped = q.shape[1] != k.shape[1]
    return _compiled_flex()(q, k, v, block_mask=layout.once(_block_mask, q.device), scale=scale, enable_gqa=grouped)


@cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _block_mask(layout: PackedLayout, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    length = layout.length
    return create_block_mask(sees(layout, device), None, None, length, length, device=device)


def _dense(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: PackedLayout, scale: float | None
) -> torch.Tensor:
    """SDPA of each tree under a mask over all pairs of its tokens: on every device, in every precision."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    found = []
    for tree, mask in layout.once(_dense_masks, q.device):
        own = q[:, :, tree], k[:, :, tree], v[:, :, tree]
        found.append(scaled_dot_product_attention(*own, attn_mask=mask, scale=scale))
    return torch.cat(found, dim=2)


def _dense_masks(layout: PackedLayout, device: torch.device) -> list[tuple[slice, torch.Tensor]]:
    found, seen, end = [], sees(layout, device), 0
    for segment in layout.segments:
        if segment.start == end:  # the first of a tree
            end = segment.end
            token = torch.arange(segment.start, end, device=device)
            found.append((slice(segment.start, end), seen(None, None, token[:, None], token[None])))
    return found


FORMS: dict[str, Callable[..., torch.Tensor]] = {"parts": _by_parts, "flex": _flex, "dense": _dense}
"""Name -> attention of (1, H, S, D) queries and (1, H', S, D) keys and values of a `PackedLayout`."""


def form_for(query: torch.Tensor) -> str:
    """By parts where there is flash attention: on a CPU, and in 16 bits on CUDA devices since Ampere."""
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    if device != "cuda":
        return "parts" if device == "cpu" else "dense"
    there = torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability() >= (8, 0)
    fits = dtype in (torch.float16, torch.bfloat16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256
    return "parts" if there and fits else "dense"


# ---------------------------------------------------------------------- inside the language model


def read_packed_rows(language_model: PreTrainedModel) -> torch.Tensor:
    """Make a model take a `PackedLayout` as `packed`; all else it does as before.

    Returns:
        The attention mask to give it: of four dimensions, which transformers hands on instead of making one, and empty.

    Raises:
        ValueError: If its attention is another one than SDPA.
    """
    found = language_model.config._attn_implementation
    if found not in (NAME, "sdpa"):
        raise ValueError(f"attn_implementation={found!r} with packed rows: load the policy with 'sdpa'.")
    if found != NAME:
        language_model.set_attn_implementation(NAME)
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=language_model.device)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed: PackedLayout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Of queries (1, H, S, D), keys and values (1, H', S, D). Returns (1, S, H, D)."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    attend = FORMS[packed.form or form_for(query)]
    return attend(query, key, value, packed, kwargs.get("scaling")).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
