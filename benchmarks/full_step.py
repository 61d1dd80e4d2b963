"""One optimizer step from video files on: decode, sample, reward, reference, update.

Twice: of InternVL alone, with the rewards that need no perturbed copies, which all ways can do; and of the whole
method, with motion branch and perturbed copies, which stock TRL knows not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.arms import Shape, make_arms
from benchmarks.group_update import WAYS, label
from benchmarks.models import LARGE, TOY, make_clips

HEADLINE, ROUNDS = Shape(clips=2), 1
QUICK = Shape(clips=2, answers=3, frames=2, tokens=4)
TASKS = {"InternVL, no copies": False, "motion and copies": True}
"""What is trained -> whether it is the whole method."""


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row per task."""
    size, shape, rounds = (TOY, QUICK, 1) if quick else (LARGE, HEADLINE, ROUNDS)
    rows = []
    for task, method in TASKS.items():
        with tempfile.TemporaryDirectory() as name:
            clips = make_clips(Path(name), size, shape.clips * shape.micro_steps)
            arms = make_arms(Path(name), size, clips, shape, method)
            prompt = len(arms[0].processor.prompt_ids(shape.frames))
            found = measure.in_turns({arm.name: arm.step for arm in arms}, rounds, warm_up=False)
        rows.append({"task": task, "shape": asdict(shape) | {"prompt": prompt}, "step": found})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    table = [[row["task"], label(row), *measure.time_columns(row["step"], WAYS)] for row in rows]
    measure.show("Whole step", ["task", "shape", *measure.time_header(WAYS)], table)
