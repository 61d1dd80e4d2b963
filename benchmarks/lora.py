"""What share of full training's gain a LoRA reaches in the same steps, with the demo's clips and rewards.

python -m benchmarks.lora                       # after `make demo`; prints a table, writes runs/lora.json
python -m benchmarks.lora --steps 96 --seeds 0 1 2

Both train the language model from the demo's warm start and see the same clips in the same order; the LoRA takes ten
times larger steps. A gain is the mean total reward of the last eighth of the steps less that of the first.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from tabulate import tabulate

REPO = Path(__file__).parent.parent
MODEL = Path("runs/demo/sft")
WAYS = {
    "all weights": [],
    "LoRA, rank 16": ["--use_peft", "true", "--lora_r", "16", "--lora_alpha", "32", "--learning_rate", "2e-3"],
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=192, help="optimizer steps of each run, a multiple of 4")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one pair of runs each")
    options = parser.parse_args(argv)
    if not (MODEL / "config.json").exists():
        parser.error(f"{MODEL} is not there: run `make demo` first.")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in options.seeds:
        for way, settings in WAYS.items():  # in turns, so that a slow hour slows both
            found[way].append(run(settings, options.steps, seed))
    print(table(found))
    Path("runs/lora.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def run(settings: list[str], steps: int, seed: int) -> dict[str, float]:
    """Train once; reward at the start and at the end, its gain, last SRCC on held-out clips, and seconds."""
    sys.path.insert(0, str(REPO / "recipes"))
    import grpo_lsvq

    out = Path("runs/lora") / f"{'lora' if settings else 'full'}-{seed}"
    own = {"--max_steps": steps, "--eval_steps": steps, "--logging_steps": 1, "--seed": seed, "--output_dir": out}
    config = ["--config", str(REPO / "recipes/configs/demo.yaml"), "--log_completions", "false"]
    grpo_lsvq.main([*config, *(str(part) for pair in own.items() for part in pair), *settings])
    log = json.loads((out / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    rewards = [entry["reward"] for entry in log if "reward" in entry]
    part = max(1, len(rewards) // 8)
    first, last = statistics.fmean(rewards[:part]), statistics.fmean(rewards[-part:])
    scores = [entry["eval_srcc"] for entry in log if "eval_srcc" in entry] or [math.nan]  # no clip has a score yet
    seconds = next(entry["train_runtime"] for entry in log if "train_runtime" in entry)
    return {"first": first, "last": last, "gain": last - first, "srcc": scores[-1], "seconds": seconds}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Means over the seeds, and each way's share of full training's gain."""
    names = ("first", "last", "gain", "srcc", "seconds")
    means = {way: {name: statistics.fmean(one[name] for one in runs) for name in names} for way, runs in found.items()}
    whole = means["all weights"]["gain"]
    lines = [[way, *mean.values(), 100 * mean["gain"] / whole] for way, mean in means.items()]
    return tabulate(lines, ["trained", *names, "% of the gain"], floatfmt=".3f")


if __name__ == "__main__":
    main()
