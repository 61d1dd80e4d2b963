"""A micro-batch computed in parts of at most so many tokens, whose gradients add up to those of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from vqathinker.training.groups import Tree

BY_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""Losses of TRL's that are a mean over answers."""
BY_TOKENS = ("bnpo",)
"""Over the tokens of the micro-batch. The others are over those of the generation batch: their parts add up."""


def parts_of(
    trees: Sequence[Tree], cost: Callable[[Tree], int], limit: int, accelerator: Accelerator
) -> list[list[Tree]]:
    """Trees in as few parts of a cost of at most `limit` as are found, as many in every process. A clip whose answers
    cost more is a part of its own.

    Args:
        trees: Of a batch.
        cost: Of a tree.
        limit: For each part.
        accelerator: Its processes each have as many groups: collective.
    """
    groups = sum(len(tree.groups) for tree in trees)
    count = max(1, min(groups, -(-sum(map(cost, trees)) // limit)))
    while count < groups and _heaviest(spread(trees, cost, count), cost) > limit:
        count += 1
    if accelerator.num_processes > 1:  # ZeRO-3 and DDP wait for one another in every pass
        counts = accelerator.gather(torch.tensor([count], device=accelerator.device))
        count = int(counts.max())
    return spread(trees, cost, count)


def _heaviest(parts: Sequence[Sequence[Tree]], cost: Callable[[Tree], int]) -> int:
    return max(sum(map(cost, part)) for part in parts)


def spread(trees: Sequence[Tree], cost: Callable[[Tree], int], count: int) -> list[list[Tree]]:
    """Trees in `count` parts of about the same cost, each in the batch's order. Where there are fewer trees, the groups
    of some no longer share their prompt."""
    trees = list(trees)
    while len(trees) < count:
        place = max(range(len(trees)), key=lambda i: len(trees[i].groups))
        tree = trees[place]
        half = len(tree.groups) // 2
        trees[place : place + 1] = [Tree(tree.groups[:half], tree.shared), Tree(tree.groups[half:], tree.shared)]
    parts: list[list[Tree]] = [[] for _ in range(count)]
    for tree in sorted(trees, key=cost, reverse=True):
        min(parts, key=lambda part: (sum(map(cost, part)), len(part))).append(tree)
    return sorted((sorted(part, key=lambda tree: tree.groups) for part in parts), key=lambda part: part[0].groups)


def shares(loss_type: str, mask: torch.Tensor, parts: Sequence[Sequence[int]]) -> list[float]:
    """What the parts' losses are weighed by, to add up to the whole's.

    Args:
        loss_type: TRL's.
        mask: (R, L) tokens that the loss is over.
        parts: Rows of each.
    """
    if loss_type in BY_ROWS:
        return [len(rows) / len(mask) for rows in parts]
    if loss_type in BY_TOKENS:
        total = float(mask.sum().clamp(min=1))
        return [float(mask[rows].sum()) / total for rows in parts]
    return [1.0] * len(parts)


@contextmanager
def without_step(accelerator: Accelerator, model: nn.Module) -> Iterator[None]:
    """Gradients are added up: neither shared among processes nor, with DeepSpeed, followed by a step."""
    state = accelerator.gradient_state
    before = state.sync_gradients
    with accelerator.no_sync(model) if before else nullcontext():
        state._set_sync_gradients(False)
        try:
            yield
        finally:
            state._set_sync_gradients(before)


def backward(accelerator: Accelerator, loss: torch.Tensor) -> None:
    """As transformers' trainer does it."""
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    accelerator.backward(loss, **({"scale_wrt_gas": False} if deepspeed else {}))


def merge(metrics: dict[str, list[float]], known: dict[str, int], weights: Sequence[float]) -> None:
    """One entry for what the parts have logged: a mean, or the least or largest where the name says so.

    Args:
        metrics: TRL's, by name.
        known: Entries that each had before.
        weights: One per part.
    """
    for name, values in metrics.items():
        start = known.get(name, 0)
        if (new := values[start:]) and len(new) == len(weights):
            values[start:] = [_merged(name, new, weights)]


def _merged(name: str, values: Sequence[float], weights: Sequence[float]) -> float:
    there = [(value, weight) for value, weight in zip(values, weights, strict=True) if value == value]  # not NaN
    if not there:
        return float("nan")
    if name.endswith(("_min", "_max")):
        return (min if name.endswith("_min") else max)(value for value, _ in there)
    total = sum(weight for _, weight in there)
    return sum(value * weight for value, weight in there) / (total or 1.0)


def part_of(batch: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Rows of a micro-batch; what has none is handed on."""
    size = len(batch["completion_ids"])
    return {
        key: value[rows] if isinstance(value, torch.Tensor) and value.dim() and len(value) == size else value
        for key, value in batch.items()
        if key != "clips"
    }
