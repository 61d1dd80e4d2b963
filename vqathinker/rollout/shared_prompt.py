"""The n answers to a prompt read its keys and values in one place.

transformers' cache holds a prompt once per answer, copies all of it for each new token, and attention reads every copy.
Here there is one row per prompt, `[prompt | first tokens of its n answers | second tokens | ...]`, in a buffer that
grows, and attention takes the n answers as n queries of that row: each sees the prompt and its own tokens. At t tokens
an answer, L + n t keys are read instead of n (L + t).

Answers that have ended leave the batch. What the cache holds for them goes as soon as a quarter of its places does, so
it is copied a few times in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

NAME = "shared_prompt"
FEW = 4
"""Of fewer queries to a prompt the CPU kernel rounds differently in each thread: they are asked more than once."""


class SharedPrompts:
    """Keys and values of P prompts and of the answers to them, in all layers.

    Inside `attention_to_shared_prompts` a model that is given it as `shared` takes one token of each answer; the rows
    of its batch are the answers that have not left.

    Args:
        parts: Caches of prompts of one length each, with the places of these prompts among the P. They are emptied.
        n: Answers per prompt; those to one prompt are consecutive rows.
        longest: Most tokens of an answer, which the buffers hold in the end.
        width: Prompts are padded on the left to so many keys; at least, to those of the longest.

    Attributes:
        prompt: Keys of a prompt, padding included.
        n: Places for the answers to a prompt.
        steps: Tokens that each answer has.
    """

    def __init__(
        self, parts: Sequence[tuple[Sequence[int], DynamicCache]], n: int, longest: int, width: int = 0
    ) -> None:
        lengths = {place: part.get_seq_length() for places, part in parts for place in places}
        self.prompt = max(width, *lengths.values())
        self.n, self.steps, self._longest = n, 0, longest
        self._buffers = [_joined(parts, layer, self.prompt) for layer in range(len(parts[0][1].layers))]
        device = self._buffers[0][0].device
        self._padding = torch.tensor([self.prompt - lengths[place] for place in sorted(lengths)], device=device)
        self._places = torch.arange(len(lengths) * n, device=device)  # of the rows among the P n answers
        self._mask = torch.empty(0)

    @property
    def keys(self) -> int:
        """Keys of a prompt and its answers."""
        return self.prompt + self.n * self.steps

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        """Add a token of each of R answers and attend from it; of the layers 0 comes first.

        Args:
            layer: Which.
            query: (R, H, 1, D).
            key, value: (R, H', 1, D).
            scale: Of the logits.

        Returns:
            (R, 1, H, D).
        """
        heads, fold = key.shape[1], query.shape[1] // key.shape[1]
        if layer == 0:
            self.steps += 1
            self._grow(fold)
        for buffer, states in zip(self._buffers[layer], (key, value), strict=True):
            buffer[:, :, self.keys - self.n : self.keys] = self._placed(states).transpose(1, 2)
        # The query heads that share a head of keys are further queries of it: nothing is copied to them.
        queries = self._placed(query).unflatten(2, (heads, fold)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        keys, values = (buffer[:, :, : self.keys] for buffer in self._buffers[layer])
        asked = queries.shape[2]
        if (times := _times(asked)) > 1:
            queries = queries.repeat(1, 1, times, 1)
        found = scaled_dot_product_attention(queries, keys, values, self._mask[..., : self.keys], scale=scale)
        found = found[:, :, :asked].unflatten(2, (fold, self.n)).permute(0, 3, 1, 2, 4)
        found = found.reshape(-1, 1, query.shape[1], query.shape[3])
        return found if len(found) == len(query) else found[self._places]

    def leave(self, going: torch.Tensor) -> None:
        """Of R answers only those go on that (R,) bool says, at least one."""
        self._places = self._places[going]
        live = torch.zeros(len(self._padding) * self.n, dtype=torch.bool, device=going.device)
        live = live.index_fill_(0, self._places, True).unflatten(0, (-1, self.n))
        most = int(live.sum(1).max())
        if 4 * int(live.any(1).sum()) * most <= 3 * live.numel():
            self._compact(live, most)

    def _placed(self, states: torch.Tensor) -> torch.Tensor:
        """(R, H, 1, D) to (P, n, H, D), with zeros for answers that have left."""
        states, places = states[:, :, 0], len(self._padding) * self.n
        if len(states) < places:
            states = states.new_zeros(places, *states.shape[1:]).index_copy_(0, self._places, states)
        return states.unflatten(0, (-1, self.n))

    def _grow(self, fold: int) -> None:
        """Buffers that hold the step's keys, and the mask to them that is added to logits, (P, 1, queries, keys)."""
        if self.keys <= self._mask.shape[-1]:
            return
        before = self.keys - self.n
        tokens = max(1, min(max(64, before // (2 * self.n)), self._longest - self.steps + 1))
        for buffers in self._buffers:
            buffers[:] = [_grown(buffer[:, :, :before], self.n * tokens) for buffer in buffers]
        dtype, places = self._buffers[0][0].dtype, self._buffers[0][0].shape[2] - self.prompt
        positions = torch.arange(self.prompt, device=self._padding.device)
        fold *= _times(fold * self.n)
        prompt = (positions >= self._padding[:, None])[:, None].expand(-1, fold * self.n, -1)
        own = torch.eye(self.n, dtype=torch.bool, device=positions.device).repeat(fold, places // self.n)
        seen = torch.cat([prompt, own.expand(len(prompt), -1, -1)], dim=-1)[:, None]
        self._mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)

    def _compact(self, live: torch.Tensor, most: int) -> None:
        """Let prompts without answers go, and all but `most` places of the others.

        Args:
            live: (P, n) which answers go on.
            most: How many of one prompt.
        """
        kept = live.any(1).nonzero()[:, 0]
        order = live[kept].int().argsort(dim=1, descending=True, stable=True)[:, :most]
        self._padding = self._padding[kept]
        cut = int(self._padding.min())
        for buffers in self._buffers:
            for i, buffer in enumerate(buffers):
                own = buffer[kept, :, self.prompt : self.keys].unflatten(2, (self.steps, self.n))
                own = own.take_along_dim(order[:, None, None, :, None], dim=3).flatten(2, 3)
                buffers[i] = torch.cat([buffer[kept, :, cut : self.prompt], own], dim=2)
        self._padding, self.prompt, self.n = self._padding - cut, self.prompt - cut, most
        self._places = live[kept].gather(1, order).flatten().nonzero()[:, 0]
        self._mask = torch.empty(0)  # made when the buffers grow next


def _times(queries: int) -> int:
    """How often so many queries to a prompt are asked, see `FEW`."""
    return math.ceil(FEW / queries)


def _joined(parts: Sequence[tuple[Sequence[int], DynamicCache]], number: int, longest: int) -> list[torch.Tensor]:
    """Keys and values of one layer, (P, H, longest, D), zeros where padded; those of the parts are let go."""
    layers = [(places, part.layers[number]) for places, part in parts]
    size = sum(len(places) for places, _ in parts)
    found = []
    for name in ("keys", "values"):
        example = getattr(layers[0][1], name)
        whole = example.new_zeros(size, example.shape[1], longest, example.shape[3])
        for places, layer in layers:
            states = getattr(layer, name)
            whole[places, :, longest - states.shape[2] :] = states
        found.append(whole)
    for _, part in parts:
        part.layers[number] = None
    return found


def _grown(states: torch.Tensor, more: int) -> torch.Tensor:
    """(P, H, L, D) with space behind it for so many more keys."""
    size = list(states.shape)
    size[2] += more
    buffer = states.new_empty(size)
    buffer[:, :, : states.shape[2]] = states
    return buffer


@contextmanager
def attention_to_shared_prompts(language_model: PreTrainedModel) -> Iterator[None]:
    """Make a model read the `SharedPrompts` that it is given as `shared`."""
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,  # transformers makes none where it knows no way to
    shared: SharedPrompts,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    return shared.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(NAME, _attention)
