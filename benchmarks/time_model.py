"""Whether the model of a step's time behind `vqathinker budget` holds: two rates from short parts foretell whole steps.

python -m benchmarks.time_model    # after `make bench`; prints a table, writes docs/results/time_model.json

Of what `make bench` measured of our way, the first update with its reference and the sampling give the operations and
the bytes that this machine does in a second; the other update and the whole steps are foretold with them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks import measure
from benchmarks.full_step import TASKS
from benchmarks.group_update import label
from benchmarks.models import LARGE, TOY, config_of
from vqathinker.training.budget import Shape, parameter_counts
from vqathinker.training.step_time import Step, Work, step_work

RESULTS = Path(__file__).resolve().parents[1] / "docs/results"


class Part(NamedTuple):
    """Something that was measured.

    Attributes:
        name: In words.
        works: What it computes.
        seconds: That it took.
        fitted: Whether the rates are taken from it.
    """

    name: str
    works: list[Work]
    seconds: float
    fitted: bool


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS / "bench.json", help="written by `make bench`")
    parser.add_argument("--out", type=Path, default=RESULTS / "time_model.json")
    options = parser.parse_args(argv)
    bench = json.loads(options.file.read_text(encoding="utf-8"))
    found = foretold(bench)
    show(found)
    sections = {"environment": bench["environment"], "quick": bench["quick"], "time_model": found}
    measure.save(sections, options.out)


def foretold(bench: dict[str, Any]) -> dict[str, Any]:
    """`rates`: operations and bytes a second; `rows`: seconds, foretold and measured."""
    parts = list(measured_parts(bench))
    flops, bandwidth = rates([part for part in parts if part.fitted])
    rows = [
        {
            "name": part.name,
            "fitted": part.fitted,
            "foretold": sum(work.seconds(flops, bandwidth) for work in part.works),
            "measured": part.seconds,
        }
        for part in parts
    ]
    return {"rates": {"flops": flops, "bytes": bandwidth}, "rows": rows}


def rates(parts: Sequence[Part]) -> tuple[float, float]:
    """Those with the least relative errors."""
    work = np.array([[sum(w.flops for w in part.works), sum(w.bytes for w in part.works)] for part in parts])
    inverse, _ = nnls(work / [[part.seconds] for part in parts], np.ones(len(parts)))
    return tuple(float(1 / each) if each else float("inf") for each in inverse)  # type: ignore[return-value]  # two


def measured_parts(bench: dict[str, Any]) -> Iterator[Part]:
    """Of our way, from the file that `make bench` writes."""
    size = TOY if bench["quick"] else LARGE
    configs = {method: config_of(size, method, video_side=112 if size is LARGE else 64) for method in TASKS.values()}
    plain = configs[False]
    for number, row in enumerate(bench["group_update"]["rows"]):
        works = step_work(plain, step_of(row["shape"]))
        for part in ("update", "reference"):
            yield Part(f"{part}, {label(row)}", [works[part]], row[part]["arms"]["ours"]["median"], number == 0)
    for row in bench["rollout"]["rows"]:
        works = step_work(plain, step_of(row["shape"]))
        yield Part(f"sampling, {label(row)}", [works["rollouts"]], row["rollout"]["arms"]["ours"]["median"], True)
    for row in bench["full_step"]["rows"]:
        config = configs[TASKS[row["task"]]]
        step = step_of(row["shape"], copies=TASKS[row["task"]], updated=parameter_counts(config)["trained"])
        name = f"whole step, {row['task']}, {label(row)}"
        yield Part(name, list(step_work(config, step).values()), row["step"]["arms"]["ours"]["median"], False)


def step_of(shape: dict[str, int], copies: bool = False, updated: int = 0) -> Step:
    """Our way's step on a CPU, in float32."""
    one = Shape(shape["clips"], shape["answers"], shape["prompt"], shape["tokens"], shape["frames"])
    clips = shape["clips"] * shape["micro_steps"]
    prompts = clips * (2 if copies else 1)
    return Step(one, prompts, prompts - clips, shape["micro_steps"], updated=updated)


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{found['rates']['flops'] / 1e9:.0f} GFLOP/s, {found['rates']['bytes'] / 1e9:.1f} GB/s")
    table = [
        [
            row["name"],
            "fitted" if row["fitted"] else "",
            row["foretold"],
            row["measured"],
            row["foretold"] / row["measured"],
        ]
        for row in found["rows"]
    ]
    measure.show("Foretold", ["what", "", "foretold (s)", "measured (s)", "foretold / measured"], table)


if __name__ == "__main__":
    main()
