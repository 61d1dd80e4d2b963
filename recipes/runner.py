"""What the recipes that compare arms over several seeds have in common: runs in turn or in processes of their own,
logs, results, and a table of mean and deviation."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from vqathinker.arguments import Parser

Read = Callable[[str, int], dict[str, Any] | None]
"""(arm, seed) -> its result, where there is one that still counts."""


def integers(text: str) -> list[int]:
    """Comma-separated whole numbers."""
    return [int(part) for part in text.split(",")]


def arguments(description: str | None, arms: Iterable[str]) -> Parser:
    """A parser of `--seeds`, `--arms`, `--jobs`, and of the hidden `--run ARM:SEED`, see `launch`."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="comma-separated training seeds")
    parser.add_argument("--arms", default=",".join(arms), help=f"comma-separated arms to run: {', '.join(arms)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs in parallel; they share the cores")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser


def wanted_arms(parser: Parser, options: argparse.Namespace, arms: Iterable[str]) -> list[str]:
    """The arms of `--arms`; ends with an error for another, or for fewer than one job."""
    wanted = options.arms.split(",")
    if (unknown := sorted(set(wanted) - set(arms))) or options.jobs < 1:
        parser.error(f"--arms {unknown}: choose from {list(arms)}; --jobs {options.jobs}: must be at least 1.")
    return wanted


def run_missing(
    script: str, stages: Iterable[Sequence[str]], options: argparse.Namespace, folder: Path, read: Read
) -> None:
    """Launch the runs that have no result yet; those of a stage run in parallel, and the next waits for them. If some
    fail, the process ends with the names of their logs.

    Args:
        script: See `launch`.
        stages: Arms of each stage, in order.
        options: With `seeds` and `jobs`.
        folder: Of all runs: each has `folder/ARM/SEED`.
        read: Gives a result.
    """
    for stage in stages:
        todo = [(arm, seed) for seed in options.seeds for arm in stage if read(arm, seed) is None]
        with ThreadPoolExecutor(options.jobs) as pool:
            own = [(script, arm, seed, options.jobs, folder / arm / str(seed)) for arm, seed in todo]
            logs = list(pool.map(lambda job: launch(*job), own))
        if any(logs):
            sys.exit(f"failed, see {', '.join(str(log) for log in logs if log)}")


def launch(script: str, arm: str, seed: int, jobs: int, folder: Path) -> Path | None:
    """Run one arm, `script --run ARM:SEED`, in a process of its own with its share of the cores; its log is
    `folder/log.txt`. Returns the log if it failed."""
    log = folder / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, script, "--run", f"{arm}:{seed}"]
        env = os.environ | {"OMP_NUM_THREADS": threads}
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=env, check=False)
    print(f"{arm}, seed {seed}: {'failed' if done.returncode else 'done'}", flush=True)
    return log if done.returncode else None


def read_result(folder: Path, made_with: str) -> dict[str, Any] | None:
    """The result of a run, if it is there and was made with just these settings."""
    file = folder / "result.json"
    result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return result if result.get("made_with") == made_with else None


def write_result(folder: Path, result: dict[str, Any], made_with: str) -> None:
    """What `read_result` reads."""
    text = json.dumps(result | {"made_with": made_with}, indent=1)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")


def training_of(folder: Path) -> dict[str, float]:
    """Seconds of a training run, those of its validations among them, and steps."""
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    validation = sum(entry.get("eval_runtime", 0.0) for entry in history)
    return {
        "seconds": history[-1]["train_runtime"],
        "validation_seconds": validation,
        "steps": history[-1]["step"],
    }


def found_results(folder: Path, arms: Iterable[str], read: Read) -> dict[str, dict[int, dict[str, Any]]]:
    """Arm -> seed -> result, of all seeds that are there."""
    table: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in arms:
        seeds = sorted(int(own.name) for own in (folder / arm).glob("*") if own.name.isdigit())
        if found := {seed: result for seed in seeds if (result := read(arm, seed)) is not None}:
            table[arm] = found
    return table


def side_by_side(jobs: Mapping[Any, tuple]) -> dict[Any, Any]:
    """What `function(*arguments)` gives for each job, (function, *arguments), begun in this order, two at a time: two
    processes use the cores better than two threads."""
    threads = max(1, torch.get_num_threads() // 2)
    with ProcessPoolExecutor(2, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        begun = {name: pool.submit(*job) for name, job in jobs.items()}
    return {name: job.result() for name, job in begun.items()}


def one_by_one(
    folder: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    made_with: Callable[[int], str],
    run: Callable[[str, int, Path], dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """Results of all arms and seeds, run in this process where they are not there yet.

    Args:
        folder: A run's is `folder/ARM/SEED`.
        arms: Names.
        seeds: Of the training.
        made_with: Fingerprint of the settings with a seed.
        run: Trains and judges: arm, seed and folder -> result.

    Returns:
        Arm -> one result for each seed.
    """
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed, arm in product(seeds, arms):
        out, made = folder / arm / str(seed), made_with(seed)
        result = read_result(out, made)
        if result is None:
            result = run(arm, seed, out) | {"seed": seed}
            write_result(out, result, made)
        results[arm].append(result)
    return results


def mean_table(table: Mapping[str, Mapping[int, Mapping[str, Any]]], columns: Mapping[str, str]) -> str:
    """Mean and deviation over the seeds: a line for each arm.

    Args:
        table: From `found_results`.
        columns: Key of a result -> what its column is called.
    """
    rows = [
        [arm, len(runs), *(mean_and_deviation([run.get(name) for run in runs.values()]) for name in columns)]
        for arm, runs in table.items()
    ]
    return tabulate(rows, ["arm", "seeds", *columns.values()], tablefmt="github", disable_numparse=True)


def mean_and_deviation(values: list[float | None]) -> str:
    """0.912 ± 0.008; "-" if a value is undefined."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{deviation}"
