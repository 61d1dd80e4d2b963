"""The whole path on the embedded default: synthetic clips -> tiny policy -> warm start -> GRPO -> held-out results.

    python recipes/demo.py

Writes runs/demo: data, checkpoints, summary.json, rewards.png, scatter.png.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate
from transformers import set_seed

import rewards
from vqathinker.data import LabelRow, read_labels
from vqathinker.evaluation import Prediction, predict, summarize
from vqathinker.evaluation.plots import plot_rewards, plot_scatter
from vqathinker.policy import load_policy
from vqathinker.synth.default import SPEC, prepare_default

sys.path.insert(0, str(Path(__file__).parent))
import eval_ood
import grpo_lsvq
import sft_lsvq
from eval_ood import finite

FOLDER = Path("runs/demo")
DATA = FOLDER / "data"
MAX_NEW_TOKENS = 48
PHASES = ("base", "sft", "grpo")
SHOWN = ("srcc", "plcc", "srcc_sample", "srcc_mean4", "parse_rate")
QUICK = {"splits": {"train": 24, "val": 8, "test": 12}, "ood": 4}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of clips and training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    seed = ["--seed", str(options.seed)]
    seconds: dict[str, float] = {}

    # Clips and base policy
    spec = replace(SPEC, seed=options.seed, **(QUICK if options.quick else {}))
    with stopwatch(seconds, "synth"):
        prepare_default(FOLDER, spec)

    # Warm start and GRPO: the very recipes, with the embedded configs
    steps = ["--max_steps", "2"] if options.quick else []
    configs = Path(__file__).parent / "configs"
    with stopwatch(seconds, "sft"):
        sft_lsvq.main(["--config", str(configs / "demo_sft.yaml"), *seed, *steps])
    with stopwatch(seconds, "grpo"):
        grpo_lsvq.main(["--config", str(configs / "demo.yaml"), *seed, *steps])

    # Held-out clips and unseen distortion kinds after each phase
    test, phases, panels, ood = labels("test"), {}, {}, {}
    for phase in PHASES:
        with stopwatch(seconds, f"evaluate_{phase}"):
            predictions = judge(FOLDER / phase, test, samples=4, seed=options.seed)
            limit = ["--max_new_tokens", str(MAX_NEW_TOKENS)]
            ood[phase] = eval_ood.main(["--model", str(FOLDER / phase), "--data", str(DATA), *limit])
        summary = summarize(predictions, test)
        phases[phase] = {name: finite(getattr(summary, name)) for name in SHOWN}
        phases[phase]["reward"] = finite(mean_reward(predictions, test))
        greedy = [p.parsed[0].score if p.parsed else None for p in predictions]
        panels[phase] = ([r.mos for r in test], [math.nan if s is None else s for s in greedy])

    # Tables, plots, summary
    report = {
        "phases": phases,
        "ood": ood["grpo"],
        "ood_by_phase": ood,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "seed": options.seed,
    }
    (FOLDER / "summary.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    history = json.loads((FOLDER / "grpo" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    plot_rewards(history, FOLDER / "rewards.png")
    plot_scatter(panels, FOLDER / "scatter.png")
    columns = [*SHOWN, "reward"]
    print(f"\nHeld-out clips ({len(test)}, unseen scenes):")
    print(tabulate([[p, *(phases[p][c] for c in columns)] for p in PHASES], ["phase", *columns], floatfmt=".3f"))
    print("\nSRCC on distortion kinds never seen in training:")
    print(tabulate([[p, *(row["srcc"] for row in ood[p].values())] for p in PHASES], ["phase", *ood["grpo"]],
                   floatfmt=".3f"))  # fmt: skip
    print(f"\n{sum(seconds.values()):.0f} s. Results: {FOLDER}/summary.json, rewards.png, scatter.png")


@contextmanager
def stopwatch(table: dict[str, float], name: str) -> Iterator[None]:
    """Adds the time a block takes, in seconds, to a table."""
    start = time.perf_counter()
    yield
    table[name] = time.perf_counter() - start


def labels(name: str) -> list[LabelRow]:
    return read_labels(DATA / f"{name}.csv", DATA, "identity")


def judge(checkpoint: Path, rows: list[LabelRow], samples: int, seed: int) -> list[Prediction]:
    """Answers of a checkpoint; the same seed for every phase, so that sampling noise is shared."""
    set_seed(seed)
    policy, processor = load_policy(checkpoint)
    processor.use_cache(FOLDER / "cache")
    return predict(
        policy, processor, [r.video for r in rows], samples=samples, max_new_tokens=MAX_NEW_TOKENS, progress=True
    )


def mean_reward(predictions: list[Prediction], rows: list[LabelRow]) -> float:
    """Mean total reward of the sampled answers; format, regression and rank, as no copy is perturbed here."""
    samples = [(text, row) for p, row in zip(predictions, rows, strict=True) for text in p.answers[1:]]
    texts = [text for text, _ in samples]
    table = rewards.preset("recommended").score(
        texts, mos=[row.mos for _, row in samples], video_id=[row.video_id for _, row in samples]
    )
    return sum(table.total) / len(table.total)


if __name__ == "__main__":
    main()
