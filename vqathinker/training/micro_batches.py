"""A micro-batch computed in parts of at most so many tokens, whose gradients add up to those of the whole."""

from __future__ import annotations

import itertools
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
    """Trees in as few parts as have a cost of at most `limit` each, or a single group.

    All processes make as many parts, with as many groups in each: they wait for one another in every pass (ZeRO-3, DDP)
    and in TRL's metrics, which are gathered row by row.

    Args:
        trees: Of a batch.
        cost: Of a tree, or of a part of one.
        limit: For each part.
        accelerator: Its processes each have as many groups: collective.
    """
    groups = sum(len(tree.groups) for tree in trees)
    count = max(1, min(groups, -(-sum(map(cost, trees)) // limit)))
    while count < groups and max(sum(map(cost, part)) for part in spread(trees, cost, count)) > limit:
        count += 1
    if accelerator.num_processes > 1:
        counts = accelerator.gather(torch.tensor([count], device=accelerator.device))
        count = int(counts.max())
    return spread(trees, cost, count)


def spread(trees: Sequence[Tree], cost: Callable[[Tree], int], count: int) -> list[list[Tree]]:
    """Trees in `count` parts of about the same cost, each in the batch's order.

    How many groups a part has follows from their number and `count` alone. Where a tree lies in two parts, its groups
    in one of them no longer share their prompt with those in the other.
    """
    found: list[list[Tree]] = [[] for _ in range(count)]
    groups = [(tree, group) for tree in sorted(trees, key=cost, reverse=True) for group in tree.groups]
    left = [len(groups) // count + (number < len(groups) % count) for number in range(count)]
    places, costs = [], [0] * count
    whole = all(len(tree.groups) == 1 for tree in trees)
    for tree, _ in groups:  # one to the cheapest part; trees of several groups side by side, so that few are cut
        open_parts = [number for number in range(count) if left[number]]
        place = min(open_parts, key=lambda number: costs[number]) if whole else open_parts[0]
        costs[place] += cost(tree)
        left[place] -= 1
        places.append(place)
    for tree, own in itertools.groupby(zip(groups, places, strict=True), key=lambda item: item[0][0]):
        chosen: dict[int, list[int]] = {}
        for (_, group), place in own:
            chosen.setdefault(place, []).append(group)
        for place, members in chosen.items():
            found[place].append(Tree(tuple(members), tree.shared))
    return [sorted(part, key=lambda tree: tree.groups) for part in found]


def loss_in_parts(
    compute: Callable[[dict[str, Any]], torch.Tensor],
    parts: Sequence[dict[str, Any]],
    loss_type: str,
    accelerator: Accelerator,
    model: nn.Module,
) -> torch.Tensor:
    """The loss of a micro-batch, with the gradients of all parts but the last, which are left to the caller.

    Args:
        compute: TRL's loss of a part.
        parts: Of TRL's dicts.
        loss_type: TRL's.
        accelerator: Of the run.
        model: What is trained.
    """
    weights = shares(loss_type, [loss_mask(part) for part in parts])
    total = torch.zeros((), device=accelerator.device)
    for part, weight in zip(parts[:-1], weights, strict=False):
        with without_step(accelerator, model):
            loss = weight * compute(part)
            backward(accelerator, loss)
        total = total + loss.detach()
    return total + weights[-1] * compute(parts[-1])


def loss_mask(batch: dict[str, Any]) -> torch.Tensor:
    """(R, L) tokens that TRL's loss is over."""
    return batch["completion_mask"] * batch.get("tool_mask", 1)


def shares(loss_type: str, masks: Sequence[torch.Tensor]) -> list[float]:
    """What the parts' losses are weighed by, to add up to the whole's.

    Args:
        loss_type: TRL's.
        masks: (R_i, L) tokens that each part's loss is over.
    """
    if loss_type in BY_ROWS:
        counts = [float(len(mask)) for mask in masks]
    elif loss_type in BY_TOKENS:
        counts = [float(mask.sum()) for mask in masks]
    else:
        return [1.0] * len(masks)
    return [count / max(sum(counts), 1.0) for count in counts]


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


def merge(
    metrics: dict[str, list[float]], known: dict[str, int], tokens: Sequence[float], ratios: Sequence[float]
) -> None:
    """One entry for what the parts have logged: a weighted mean, or the least or largest where the name says so.

    Args:
        metrics: TRL's, by name.
        known: Entries that each had before.
        tokens: Weights of the parts: their tokens.
        ratios: For clip ratios, which may be those of whole answers.
    """
    for name, values in metrics.items():
        start = known.get(name, 0)
        if (new := values[start:]) and len(new) == len(tokens):
            values[start:] = [_merged(name, new, ratios if "clip_ratio" in name else tokens)]


def _merged(name: str, values: Sequence[float], weights: Sequence[float]) -> float:
    there = [(value, weight) for value, weight in zip(values, weights, strict=True) if value == value]  # not NaN
    if not there:
        return float("nan")
    if name.endswith(("_min", "_max")):
        return (min if name.endswith("_min") else max)(value for value, _ in there)
    total = sum(weight for _, weight in there)
    return sum(value * weight for value, weight in there) / (total or 1.0)
