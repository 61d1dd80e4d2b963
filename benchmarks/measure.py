"""Times taken in turns, peak memory, tables, plots, and one file for all that was found."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile

OURS = "ours"
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets", "av", "pillow", "numpy")


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> dict[str, Any]:
    """Seconds of each way, taken in turns, so that a slow minute slows all; every round starts with another way.

    Args:
        ways: Name -> what is measured; one of them is `OURS`.
        rounds: How often.
        warm_up: Run each once before, unmeasured.

    Returns:
        `arms`: name -> `seconds` of all rounds and their `median`; `ratios`: name -> median over the rounds of its time
        over ours.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-int(warm_up), rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            taken = clock(ways[name])
            if number >= 0:
                seconds[name].append(taken)
    return {
        "arms": {name: {"seconds": own, "median": statistics.median(own)} for name, own in seconds.items()},
        "ratios": {
            name: statistics.median(b / a for a, b in zip(seconds[OURS], own, strict=True))
            for name, own in seconds.items()
            if name != OURS
        },
    }


def clock(way: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def peak_bytes(way: Callable[[], object]) -> int:
    """Most bytes of CPU tensors at one time, beyond those from before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        way()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def quiet() -> None:
    """Nothing of transformers between the tables."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def environment(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """What the numbers depend on."""
    spec = sys.modules["__main__"].__spec__
    name = (spec.name if spec else Path(sys.argv[0]).name).removesuffix(".__main__")
    return {
        "command": " ".join([f"python -m {name}", *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def save(sections: Mapping[str, Any], path: Path) -> None:
    """Write all sections, with the environment where they have none, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = dict(sections) if "environment" in sections else {"environment": environment(), **sections}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table."""
    from tabulate import tabulate  # all else here works without it

    print(f"\n{title}\n{tabulate(rows, header, floatfmt='.3g')}", flush=True)


def time_columns(found: Mapping[str, Any], ways: Sequence[str]) -> list[Any]:
    """Median seconds of each way and the others' ratios to ours, "" where there is none."""
    medians = [found["arms"].get(name, {}).get("median", "") for name in ways]
    return [*medians, *(found["ratios"].get(name, "") for name in ways if name != OURS)]


def time_header(ways: Sequence[str]) -> list[str]:
    """Of `time_columns`."""
    return [*(f"{name} (s)" for name in ways), *(f"{name} / {OURS}" for name in ways if name != OURS)]
