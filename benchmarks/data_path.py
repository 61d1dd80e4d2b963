"""From MP4 files to what the model takes, per clip of a step.

Ours reads a clip once for its K answers, its perturbed copy and all micro-batches; cold: without the cache of decoded
frames, warm: with it. The published way reads it for every answer, and again for the answers to its copy. With stock
TRL the data set's rows are fetched K times in every micro-batch, and InternVL's processor runs over them for the
sampling and again for the loss. All read files that the system has in memory, with one decoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from trl.data_utils import apply_chat_template, prepare_multimodal_messages

from benchmarks import measure
from benchmarks.arms import Ours, Published, Shape, Stock, make_arms
from benchmarks.models import LARGE, TOY, make_clips
from vqathinker.data import LabelRow

HEADLINE, ROUNDS = Shape(clips=1, micro_steps=2), 3
QUICK = Shape(clips=1, answers=3, frames=4, tokens=8, micro_steps=2)
WAYS = ("ours", "ours, warm", "stock TRL", "published way", "published way, no copies")


def measured(quick: bool) -> list[dict[str, Any]]:
    """One row."""
    size, shape, rounds = (TOY, QUICK, 1) if quick else (LARGE, HEADLINE, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder, size, shape.clips * shape.micro_steps)
        ours, stock, published = make_arms(folder, size, clips, shape)
        found = measure.in_turns(ways(ours, stock, published, clips, folder / "cache"), rounds)
    for arm in found["arms"].values():
        arm["per_clip"] = arm["median"] / len(clips)
    warm = found["arms"]["ours, warm"]["median"]
    found["warm_ratios"] = {name: arm["median"] / warm for name, arm in found["arms"].items() if name not in WAYS[:2]}
    return [{"shape": asdict(shape), "video": {"side": size.video[0], "frames": size.video[1]}, "load": found}]


def ways(
    ours: Ours, stock: Stock, published: Published, clips: Sequence[LabelRow], cache: Path
) -> dict[str, Callable[[], object]]:
    """All clips of a step."""

    def load(folder: Path | None) -> None:
        ours.processor.use_cache(folder)
        for row in clips:
            ours.processor.load_clip(row.video)

    def load_rows(copies: bool) -> None:
        published.load(clips)
        if copies:
            published.load(clips, perturbed=True)

    return {
        "ours": partial(load, None),
        "ours, warm": partial(load, cache),
        "stock TRL": partial(stock_inputs, stock),
        "published way": partial(load_rows, True),
        "published way, no copies": partial(load_rows, False),
    }


def stock_inputs(stock: Stock) -> None:
    """What `GRPOTrainer` does with the rows of one step, in its own words, before and after it samples."""
    trainer = stock.trainer
    batches = list(islice(trainer.get_train_dataloader(), trainer.args.gradient_accumulation_steps))
    rows, processor = batches[0], trainer.processing_class
    prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in rows]
    trainer._tokenize_prompts(prompts)
    texts = [apply_chat_template({"prompt": prompt}, processor)["prompt"] for prompt in prompts]
    processor(images=[row["images"] for row in rows], text=texts, padding=True, return_tensors="pt")


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = [
        [name, arm["per_clip"], row["load"]["ratios"].get(name, ""), row["load"]["warm_ratios"].get(name, "")]
        for row in rows
        for name, arm in row["load"]["arms"].items()
    ]
    measure.show("From MP4 to model input", ["way", "seconds a clip", "/ ours", "/ ours, warm"], table)
