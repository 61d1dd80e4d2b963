"""How the cost of an update grows with K, frames, answers and clips of a batch.

python -m benchmarks.scaling             # hours; prints a table, writes runs/bench_scaling.json and a plot beside it
python -m benchmarks.scaling --rounds 1  # each update timed once, after one that counts memory
python -m benchmarks.scaling --quick     # seconds, at toy size

Ours and stock TRL: the published way's update has the same rows as stock TRL's. Their gradients are compared at every
shape. Small shapes come first, and what is known is saved after each: a run that was ended goes on from its file.
Shapes that would not fit into memory are named and left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import group_update, measure
from benchmarks.arms import Shape
from benchmarks.models import LARGE, TOY

ROUNDS = 3
GRID = [Shape(answers=answers, tokens=tokens) for answers in (2, 4, 8, 16) for tokens in (64, 256, 1024, 2048)]
LINES = [*(Shape(frames=frames) for frames in (6, 12, 24)), *(Shape(clips=clips) for clips in (1, 2, 4))]
QUICK = [Shape(answers=answers, frames=2, tokens=tokens) for answers in (2, 3) for tokens in (4, 8)]
FILL = 0.7
"""Share of the free memory that a shape may take."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy size")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_scaling.json"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed updates of each way (default: {ROUNDS})")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    rows, before = known(options.out, options.quick)
    for row in measured(options.quick, options.rounds, [row["shape"] for row in rows]):
        rows.append(row)
        scaling = {"rows": rows, "elapsed": before + time.perf_counter() - start}
        measure.save({"quick": options.quick, "scaling": scaling}, options.out)
    group_update.show([row for row in rows if "update" in row])
    plot(rows, options.out.with_suffix(".png"))


def known(file: Path, quick: bool) -> tuple[list[dict[str, Any]], float]:
    """Rows of a run that was ended, on this machine with these versions, and the seconds that they took."""
    if not file.exists():
        return [], 0.0
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["environment"] != measure.environment() or found["quick"] != quick:
        return [], 0.0
    return [row for row in found["scaling"]["rows"] if "update" in row], found["scaling"]["elapsed"]


def measured(quick: bool, rounds: int, done: Sequence[dict[str, int]] = ()) -> Iterator[dict[str, Any]]:
    """A row per shape that is not done; of one left out with `needs_bytes` and nothing measured."""
    size, shapes = (TOY, QUICK) if quick else (LARGE, [*GRID, *LINES])
    with tempfile.TemporaryDirectory() as folder:
        arms = group_update.update_arms(Path(folder), size)[:2]
        prompt = {shape: len(arms[0].processor.prompt_ids(shape.frames)) for shape in shapes}
        for shape in sorted(set(shapes), key=lambda one: one.clips * one.answers * (prompt[one] + one.tokens)):
            if asdict(shape) | {"prompt": prompt[shape]} in done:
                continue
            needed = needed_bytes(shape, prompt[shape], size.text[0], size.text[1])
            if needed > FILL * free_bytes():
                row = {"shape": asdict(shape) | {"prompt": prompt[shape]}, "needs_bytes": needed}
                print(f"{group_update.label(row)}: left out, needs {needed / 2**30:.1f} GiB", flush=True)
            else:
                row = group_update.compared(arms, shape, rounds)
                print(f"{group_update.label(row)}: {row['update']['ratios']}", flush=True)
            yield row


def needed_bytes(shape: Shape, prompt: int, width: int, layers: int) -> int:
    """Roughly what one row per answer needs: its activations."""
    rows = shape.clips * shape.answers * (prompt + shape.tokens)
    return 4 * rows * layers * 24 * width + 4 * rows * 12 * width


def free_bytes() -> int:
    """What the system could give."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds of an update against K and answer length, of each way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    grid = [row for row in rows if "update" in row and row["shape"]["clips"] == 1]
    grid = [row for row in grid if row["shape"]["frames"] == grid[0]["shape"]["frames"]]
    counts = Counter(row["shape"]["tokens"] for row in grid)
    lengths = sorted(tokens for tokens, number in counts.items() if number > 1)
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for tokens, color in zip(lengths, pyplot.cm.viridis([i / len(lengths) for i in range(len(lengths))]), strict=True):
        line = sorted((row for row in grid if row["shape"]["tokens"] == tokens), key=lambda r: r["shape"]["answers"])
        answers = [row["shape"]["answers"] for row in line]
        for way, style in zip(group_update.WAYS[:2], ("-o", "--s"), strict=True):
            seconds = [row["update"]["arms"][way]["median"] for row in line]
            axes[0].plot(answers, seconds, style, color=color, label=f"{way}, L={tokens}")
        axes[1].plot(answers, [row["update"]["ratios"]["stock TRL"] for row in line], "-o", color=color)
        axes[1].plot(answers, [row["allowed"] for row in line], ":", color=color, label=f"allowed, L={tokens}")
    axes[0].set(xlabel="answers to a clip, K", ylabel="seconds of an update", yscale="log")
    axes[1].set(xlabel="answers to a clip, K", ylabel="stock TRL / ours")
    for axis in axes:
        axis.set_xticks(sorted({row["shape"]["answers"] for row in grid}))
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    measure.quiet()
    main()
