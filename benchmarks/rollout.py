"""Sampling the answers to a clip that is in memory, encoding included."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.arms import Batch, Shape, make_arms
from benchmarks.group_update import WAYS, label
from benchmarks.models import LARGE, TOY, rows_of

HEADLINE = {Shape(answers=8, tokens=48): 2}
"""Shape -> rounds."""
QUICK = {Shape(answers=3, frames=4, tokens=8): 1}


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per shape."""
    size, shapes = (TOY, QUICK) if quick else (LARGE, HEADLINE)
    rows = []
    for shape, rounds in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            arms = make_arms(Path(folder), size, rows_of(["a.mp4", "b.mp4"]), Shape(2, shape.answers, 6, shape.tokens))
            batch = Batch(arms[0].processor, shape)
            lengths = {arm.name: [len(answer) for answer in arm.sample(batch)] for arm in arms}
            wanted = [shape.tokens] * shape.clips * shape.answers
            if any(found != wanted for found in lengths.values()):
                raise ValueError(f"answers of {lengths} tokens: all must have {shape.tokens}.")
            found = measure.in_turns({arm.name: partial(arm.sample, batch) for arm in arms}, rounds, warm_up=False)
        tokens = len(wanted) * shape.tokens
        found["tokens_per_second"] = {name: tokens / arm["median"] for name, arm in found["arms"].items()}
        rows.append({"shape": asdict(shape) | {"prompt": len(batch.prompt.ids)}, "rollout": found})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = [[label(row), *measure.time_columns(row["rollout"], WAYS)] for row in rows]
    measure.show("Sampling", ["shape", *measure.time_header(WAYS)], table)
