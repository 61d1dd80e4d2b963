"""Ours, stock TRL and the published way in one run, in turns.

make bench                          # the headline shapes; prints tables, writes runs/bench.json and runs/bench.png
python -m benchmarks --quick        # seconds, at toy size: says nothing of speed
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import data_path, full_step, group_update, measure, rollout, score, work_counters

PARTS: dict[str, ModuleType] = {
    "work_counters": work_counters,
    "group_update": group_update,
    "rollout": rollout,
    "data_path": data_path,
    "full_step": full_step,
    "score": score,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy size")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"))
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"quick": options.quick}
    for name, part in PARTS.items():
        start = time.perf_counter()
        rows = part.measured(options.quick)
        found[name] = {"rows": rows, "elapsed": time.perf_counter() - start}
        part.show(rows)
        measure.save(found, options.out)  # what is known so far, should a later part fail
    plot(found, options.out.with_suffix(".png"))


def plot(found: dict[str, Any], path: Path) -> None:
    """How many times ours the others take."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [
        *((f"update, L={row['shape']['tokens']}", row["update"]["ratios"]) for row in found["group_update"]["rows"]),
        *((f"sampling, K={row['shape']['answers']}", row["rollout"]["ratios"]) for row in found["rollout"]["rows"]),
        *((f"step, {row['task']}", row["step"]["ratios"]) for row in found["full_step"]["rows"]),
    ]
    figure, axis = pyplot.subplots(figsize=(8, 0.6 * len(bars) + 1), layout="constrained")
    for place, way in enumerate(("stock TRL", "published way")):
        known = [(i, ratios[way]) for i, (_, ratios) in enumerate(bars) if way in ratios]
        axis.barh([i + 0.35 * place for i, _ in known], [ratio for _, ratio in known], 0.35, label=way)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks([i + 0.175 for i in range(len(bars))], [name for name, _ in bars])
    axis.invert_yaxis()
    axis.set_xlabel("time over ours")
    axis.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    measure.quiet()
    main()
