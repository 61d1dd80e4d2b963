"""What the recipes that compare arms over several seeds have in common: one process per run, its log, its result."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any


def integers(text: str) -> list[int]:
    """Comma-separated whole numbers."""
    return [int(part) for part in text.split(",")]


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


def mean_and_deviation(values: list[float | None]) -> str:
    """0.912 ± 0.008; "-" if a value is undefined."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{deviation}"
