"""One update on the K answers to a clip: loss and gradients, and the reference's log-probabilities.

Before anything is timed, all ways must give the same gradients and log-probabilities. The pass that shows it counts
memory: what the update holds at its peak beyond weights, gradients and what it is given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from benchmarks.arms import Arm, Batch, Shape, make_arms
from benchmarks.models import LARGE, TOY, Size, rows_of

HEADLINE = {Shape(tokens=200): 3, Shape(tokens=1024): 2}
"""Shape -> rounds."""
QUICK = {Shape(clips=2, answers=3, frames=4, tokens=8): 1}
SAME = 1e-4
"""Largest difference between two ways, of all gradients together, relative to their size (float32)."""
WAYS = ("ours", "stock TRL", "published way")


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per shape, with the share of the update's time that is no arithmetic (at toy size all of it: left out)."""
    size, shapes = (TOY, QUICK) if quick else (LARGE, HEADLINE)
    with tempfile.TemporaryDirectory() as folder:
        arms = update_arms(Path(folder), size)
        rows = [compared(arms, shape, rounds) for shape, rounds in shapes.items()]
    if quick:
        return rows
    overhead = python_seconds(size)
    for row in rows:
        row["python_share"] = {name: overhead[name] / row["update"]["arms"][name]["median"] for name in WAYS}
    return rows


def update_arms(folder: Path, size: Size) -> list[Arm]:
    """The ways, ours first, which are given their batches by hand: clips and shape of their own do not count."""
    return make_arms(folder, size, rows_of(["a.mp4", "b.mp4"]), Shape(clips=2))


def compared(arms: Sequence[Arm], shape: Shape, rounds: int) -> dict[str, Any]:
    """All ways on one batch."""
    batch = Batch(arms[0].processor, shape)
    peaks = {arm.name: peak_of_update(arm, batch) for arm in arms}
    apart = differences(arms, batch)
    update = measure.in_turns({arm.name: partial(arm.update, batch) for arm in arms}, rounds, warm_up=False)
    reference = measure.in_turns({arm.name: partial(arm.reference, batch) for arm in arms}, rounds, warm_up=False)
    ours = peaks[measure.OURS]
    return {
        "shape": asdict(shape) | {"prompt": len(batch.prompt.ids)},
        "update": update,
        "reference": reference,
        "allowed": allowed(shape, len(batch.prompt.ids)),
        "peak_bytes": peaks,
        "peak_ratios": {name: peak / ours for name, peak in peaks.items() if name != measure.OURS},
        "differences": apart,
    }


def peak_of_update(arm: Arm, batch: Batch) -> int:
    """Peak memory with the gradients allocated beforehand; leaves the gradients of one update."""
    for weight in arm.policy.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    return measure.peak_bytes(lambda: arm.update(batch))


def differences(arms: Sequence[Arm], batch: Batch) -> dict[str, dict[str, float]]:
    """How far the others' gradients and reference are from ours, relative to their size.

    Raises:
        ValueError: If they are not the same up to rounding.
    """
    own, logps = gradients(arms[0]), arms[0].reference(batch)
    found = {}
    for arm in arms[1:]:
        found[arm.name] = {
            "gradients": relative(gradients(arm), own),
            "reference": relative({"": arm.reference(batch)}, {"": logps}),
        }
        if max(found[arm.name].values()) > SAME:
            raise ValueError(f"{arm.name} differs from ours by {found[arm.name]}: the ways must compute the same.")
    return found


def gradients(arm: Arm) -> dict[str, torch.Tensor]:
    """Of the last update, by name."""
    return {name: weight.grad for name, weight in arm.policy.named_parameters() if weight.grad is not None}


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Norm of all differences over the norm of all that is wanted."""
    if found.keys() != wanted.keys():
        raise ValueError(f"gradients of other weights: {sorted(found.keys() ^ wanted.keys())}.")
    apart = sum((found[name] - wanted[name]).double().square().sum() for name in wanted)
    whole = sum(wanted[name].double().square().sum() for name in wanted)
    return float((torch.as_tensor(apart) / torch.as_tensor(whole)).sqrt())


def allowed(shape: Shape, prompt: int) -> float:
    """What the numbers of tokens allow: those of one row per answer over those of packed rows."""
    answers, tokens = shape.answers, shape.tokens
    return answers * (prompt + tokens) / (prompt - 1 + answers * (tokens + 1))


def python_seconds(size: Size) -> dict[str, float]:
    """An update on a policy of as many layers with next to no arithmetic: what is not arithmetic."""
    thin = replace(size, image=28, vision=(32, size.vision[1]), text=(32, size.text[1]), mlp=32, vocabulary=640)
    with tempfile.TemporaryDirectory() as folder:
        arms = update_arms(Path(folder), thin)
        batch = Batch(arms[0].processor, Shape(tokens=2))
        found = measure.in_turns({arm.name: partial(arm.update, batch) for arm in arms}, 5)
    return {name: arm["median"] for name, arm in found["arms"].items()}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print tables."""
    named = {"update": "Update of one group", "reference": "Reference's log-probabilities"}
    ways = [way for way in WAYS if way in rows[0]["peak_bytes"]]
    for part, title in named.items():
        table = [[label(row), *measure.time_columns(row[part], ways), row["allowed"]] for row in rows]
        measure.show(title, ["shape", *measure.time_header(ways), "tokens allow"], table)
    table = [
        [label(row), *(row["peak_bytes"][name] / 2**20 for name in ways), *row["peak_ratios"].values()] for row in rows
    ]
    header = [*(f"{name} (MiB)" for name in ways), *(f"{name} / ours" for name in ways[1:])]
    measure.show("Peak memory of the update", ["shape", *header], table)
    if all("python_share" in row for row in rows):
        table = [[label(row), *(100 * row["python_share"][name] for name in ways)] for row in rows]
        measure.show("Of the update's time not arithmetic, %", ["shape", *ways], table)


def label(row: dict[str, Any]) -> str:
    """A shape in words."""
    shape = row["shape"]
    clips = f"{shape['clips']} clips, " if shape["clips"] > 1 else ""
    return f"{clips}K={shape['answers']}, {shape['frames']} frames, P={shape['prompt']}, L={shape['tokens']}"
