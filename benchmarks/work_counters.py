"""What each way computes in one optimizer step, counted by hooks on real steps and compared with `benchmarks.work`.

Counted: tokens and passes of the language model, frames through the vision tower, clips through SlowFast, video files
opened; at toy size also floating-point operations, as torch counts them. How many tokens, frames and files a step takes
does not depend on how wide the policy is: with the paper's frames, answers and clips a thin one is counted.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure, work
from benchmarks.arms import Arm, Shape, make_arms
from benchmarks.full_step import TASKS
from benchmarks.group_update import WAYS
from benchmarks.models import THIN, TOY, make_clips
from vqathinker import clips
from vqathinker.policy.streams import visual_tokens
from vqathinker.training import budget

PAPER = Shape(clips=2, answers=4, frames=6, tokens=200, micro_steps=2)
"""What one of the paper's processes does in a step, with answers of 200 tokens."""
QUICK = Shape(clips=2, answers=3, frames=2, tokens=4, micro_steps=2)
SIZES, LENGTHS = ("2B", "8B"), (200, 1024, 2048)
"""InternVL3's sizes and tokens of an answer for which operations are foretold."""
CLOSE = 0.001
"""Largest share by which the formula may miss torch's count of operations."""


def measured(quick: bool) -> list[dict[str, Any]]:
    """Rows of what was counted, at toy size with operations, and of what is foretold.

    Raises:
        ValueError: If formula and count differ.
    """
    rows = []
    sizes = [(TOY, QUICK)] if quick else [(TOY, QUICK), (THIN, PAPER)]
    for (size, shape), (task, method) in itertools.product(sizes, TASKS.items()):
        with tempfile.TemporaryDirectory() as name:
            clips = make_clips(Path(name), size, shape.clips * shape.micro_steps)
            arms = make_arms(Path(name), size, clips, shape, method)
            rows.append({"task": task, **counted(arms, shape, method, operations=size is TOY)})
    cases = itertools.product(SIZES, TASKS, LENGTHS)
    return [*rows, *(foretold(size, task, tokens) for size, task, tokens in cases)]


def counted(arms: Sequence[Arm], shape: Shape, method: bool, operations: bool) -> dict[str, Any]:
    """A real step of each way, the first of a run: later ones know the motion features of clips seen before.

    Args:
        arms: The ways.
        shape, method: What they were made for.
        operations: Count floating-point operations too, which takes kernels that are slow and need much memory.
    """
    prompt, config = len(arms[0].processor.prompt_ids(shape.frames)), arms[0].policy.config
    found, flops = {}, {}
    for arm in arms:
        found[arm.name], known = counts_of(arm, operations)
        if found[arm.name] != (expected := work.counts(arm.name, shape, prompt, method)):
            raise ValueError(f"{arm.name}: counted {found[arm.name]}, by formula {expected}.")
        formula = sum(work.flops(arm.name, shape, prompt, method, config).values())
        flops[arm.name] = {"torch": known, "formula": formula}
        if operations and abs(formula / known - 1) > CLOSE:
            raise ValueError(f"{arm.name}: {flops[arm.name]} differ by more than {CLOSE:.1%}.")
    totals = {name: {counter: sum(own[counter].values()) for counter in own} for name, own in found.items()}
    shown = asdict(shape) | {"prompt": prompt}
    row = {"shape": shown, "counts": found, "totals": totals, "ratios": ratios_of(totals)}
    return row | ({"flops": flops} if operations else {})


def ratios_of(totals: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """What the others compute over what ours does."""
    ours = totals[measure.OURS]
    return {
        name: {counter: number / ours[counter] for counter, number in own.items() if ours[counter]}
        for name, own in totals.items()
        if name != measure.OURS
    }


def counts_of(arm: Arm, operations: bool) -> tuple[work.Counts, int]:
    """All counters of one step, and its operations as torch counts them, if wanted."""
    found: work.Counts = {counter: {} for counter in work.COUNTERS}
    with hooks(arm, found), counted_opens(found):
        if not operations:
            arm.step()
            return found, 0
        counter = FlopCounterMode(display=False, custom_mapping=UNKNOWN)
        with sdpa_kernel(SDPBackend.MATH), counter:  # of fused kernels of CPUs it knows none
            arm.step()
    return found, counter.get_total_flops()


@contextmanager
def hooks(arm: Arm, found: work.Counts) -> Iterator[None]:
    """Count what policy and reference compute."""

    def count(phase: str | None, counters: dict[str, str], module: Any, args: tuple, kwargs: dict) -> None:
        phase = phase or ("update" if torch.is_grad_enabled() else "sampling")
        for counter, argument in counters.items():
            shown = kwargs[argument] if argument in kwargs else args[0]
            number = {"language passes": 1, "language tokens": shown.shape[:2].numel()}.get(counter, len(shown))
            found[counter][phase] = found[counter].get(phase, 0) + number

    handles = []
    for model, phase in ((arm.policy.model, None), (arm.reference_policy.model, "reference")):
        hooked = {
            model.language_model: {"language tokens": "inputs_embeds", "language passes": "inputs_embeds"},
            model.vision_tower: {"vision frames": "pixel_values"},
        }
        if hasattr(model, "motion_encoder"):
            hooked[model.motion_encoder] = {"motion clips": "frames"}
        for module, counters in hooked.items():
            handles.append(module.register_forward_pre_hook(partial(count, phase, counters), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def counted_opens(found: work.Counts) -> Iterator[None]:
    """Count the video files that are opened."""
    real = clips.open_clip

    def opened(path: str | Path) -> clips.Clip:
        found["opens"]["data"] = found["opens"].get("data", 0) + 1
        return real(path)

    clips.open_clip = opened
    try:
        yield
    finally:
        del clips.open_clip  # looked up anew


def added_product(target: torch.Size, left: torch.Size, right: torch.Size, **_: Any) -> int:
    """Operations of `addmm_`, in which TRL's head sums its gradients."""
    return 2 * left.numel() * right[1]


def attended(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of flash attention, of all pairs also where it is causal."""
    return 4 * math.prod(query) * key[2]


def attended_backward(gradient: torch.Size, query: torch.Size, key: torch.Size, *_: Any, **__: Any) -> int:
    """Of its backward pass, without the scores, which it computes again."""
    return 8 * math.prod(query) * key[2]


UNKNOWN = {
    torch.ops.aten.addmm_: added_product,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attended,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attended_backward,
}
"""What torch's counter passes over."""


def foretold(size: str, task: str, tokens: int) -> dict[str, Any]:
    """Counts and operations at one of InternVL3's sizes, with Triton's head."""
    config, method = budget.published_config(size), TASKS[task]
    shape = replace(PAPER, tokens=tokens)
    config.motion_tokens = int(method)
    prompt = visual_tokens(config, shape.frames) + budget.TEXT_TOKENS
    ways = [way for way in WAYS if not (method and way == "stock TRL")]
    totals = {}
    for way in ways:
        totals[way] = {name: sum(own.values()) for name, own in work.counts(way, shape, prompt, method).items()}
        totals[way]["flops"] = sum(work.flops(way, shape, prompt, method, config, compact=True).values())
    shown = asdict(shape) | {"prompt": prompt}
    return {"model": size, "task": task, "shape": shown, "totals": totals, "ratios": ratios_of(totals)}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print tables."""

    def columns(row: dict[str, Any], counter: str, unit: int = 1) -> list[Any]:
        numbers = [f"{row['totals'][way][counter] / unit:,.0f}" if way in row["totals"] else "" for way in WAYS]
        return [*numbers, *(row["ratios"].get(way, {}).get(counter, "") for way in WAYS[1:])]

    others = [f"{way} / ours" for way in WAYS[1:]]
    table = [
        [row["task"], row["shape"]["prompt"], counter, *columns(row, counter)]
        for row in rows
        if "model" not in row
        for counter in work.COUNTERS
    ]
    measure.show("Counted", ["task", "P", "of one step", *WAYS, *others], table)
    table = [
        [row["model"], row["task"], row["shape"]["tokens"], *columns(row, "flops", 10**12)]
        for row in rows
        if "model" in row
    ]
    measure.show("Operations of one step by formula, TFLOP", ["InternVL3", "task", "L", *WAYS, *others], table)
