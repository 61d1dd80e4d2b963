"""The whole path on the embedded default: synthetic clips -> tiny policy -> warm start -> GRPO -> held-out results.

    python recipes/demo.py

Writes runs/demo: data, longer clips, checkpoints, summary.json, report.html, rewards.png, scatter.png.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from transformers import set_seed

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import LabelRow, read_labels
from vqathinker.evaluation import summarize, temporal_preference
from vqathinker.evaluation.plots import plot_rewards, plot_scatter
from vqathinker.evaluation.report import Report, ShownClip, Table
from vqathinker.policy import load_policy, load_processor
from vqathinker.rollout import Sampling
from vqathinker.scoring import Prediction, predict
from vqathinker.synth.default import SPEC, prepare_default

sys.path.insert(0, str(Path(__file__).parent))
import grpo_lsvq
import sft_lsvq
from runner import side_by_side

FOLDER = Path("runs/demo")
DATA, LONGER = FOLDER / "data", FOLDER / "longer"
SAMPLING = Sampling(max_new_tokens=40, temperature=0.9, top_k=10)  # of 562 tokens; the paper keeps 50 of 151 thousand
PHASES = {"sft": "warm start", "grpo": "GRPO"}
SHOWN = ("srcc", "plcc", "srcc_sample", "srcc_mean4", "parse_rate", "naming", "spread", "common_score")
NOTE = (
    "SRCC and PLCC of greedy answers against pseudo-MOS; srcc_sample: one answer drawn at temperature 0.9 among the "
    "ten likeliest tokens; srcc_mean4: mean of four; parse_rate: share of drawn answers with a number in 0-5; naming: "
    "share of single-distortion clips whose reasoning names the kind and no other; spread: standard deviation of "
    "scores over that of MOS; common_score: share of clips with the most frequent score; beats_shuffle, _stutter, "
    "_drop: share of clips, half as long again, whose first two thirds outscore a copy with shuffled, frozen or lost "
    "frames."
)
BEATS = ("beats_shuffle", "beats_stutter", "beats_drop")
QUICK = {"splits": {"sft": 16, "train": 24, "val": 8, "test": 12}, "ood": 4}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the clips and the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    summary = FOLDER / "summary.json"
    if options.quick and summary.exists() and "--quick" not in json.loads(summary.read_text("utf-8"))["command"]:
        parser.error(f"--quick would replace the whole demo in {FOLDER}: move it away, or run from another folder.")
    command = shlex.join(["python", "recipes/demo.py", *(sys.argv[1:] if argv is None else argv)])
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
    test = labels("test")
    with stopwatch(seconds, "evaluate"):
        phases, predictions, ood = judge(options.seed)

    # Summary, plots, page
    report = {"phases": phases, "ood": ood, "seconds": {k: round(v, 1) for k, v in seconds.items()}}
    report |= {"seed": options.seed, "clips": len(test), "command": command}
    summary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    history = json.loads((FOLDER / "grpo" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    plot_rewards(history, FOLDER / "rewards.png")
    mos = [row.mos for row in test]
    panels = {PHASES[p]: (mos, [x.scores[0] if x.answers else math.nan for x in predictions[p]]) for p in PHASES}
    plot_scatter(panels, FOLDER / "scatter.png")
    held_out, unseen = tables(report)
    write_page(report, [held_out, unseen], test, predictions)
    for table in (held_out, unseen):
        print(f"\n{table.title}:\n{tabulate(table.rows, table.columns, floatfmt='.3f', missingval='-')}")
    print(f"\n{sum(seconds.values()):.0f} s. Open {FOLDER}/report.html; numbers in {FOLDER}/summary.json")


@contextmanager
def stopwatch(table: dict[str, float], name: str) -> Iterator[None]:
    """Adds the time a block takes, in seconds, to a table."""
    start = time.perf_counter()
    yield
    table[name] = time.perf_counter() - start


def labels(name: str, folder: Path = DATA) -> list[LabelRow]:
    return read_labels(folder / f"{name}.csv", folder, "identity")


def judge(seed: int) -> tuple[dict[str, dict], dict[str, list[Prediction]], dict[str, dict]]:
    """What `evaluate` and `evaluate_ood` say of each phase."""
    jobs: dict[tuple[str, str], tuple] = {(p, "test"): (evaluate, FOLDER / p, labels("test"), seed) for p in PHASES}
    found = side_by_side(jobs | {(p, "ood"): (evaluate_ood, FOLDER / p) for p in PHASES})
    rows, answers = ({p: found[p, "test"][i] for p in PHASES} for i in (0, 1))
    return rows, answers, {p: found[p, "ood"] for p in PHASES}


def evaluate(
    checkpoint: Path,
    rows: list[LabelRow],
    seed: int,
    sampling: Sampling = SAMPLING,
    longer: list[LabelRow] | None = None,
) -> tuple[dict[str, float | None], list[Prediction]]:
    """What a checkpoint is worth on labelled clips, and on longer ones (the demo's, if none are given)."""
    set_verbose(False)  # a process of its own
    set_seed(seed)
    policy, processor = load_policy(checkpoint)
    processor.use_cache(FOLDER / "cache")
    predictions = predict(policy, processor, [row.video for row in rows], samples=4, sampling=sampling, progress=True)
    summary = summarize(predictions, rows)
    videos = [row.video for row in longer or labels("test", LONGER)]
    preference = temporal_preference(policy, processor, videos, 4, sampling, seed)
    result = {name: finite(getattr(summary, name)) for name in SHOWN}
    return result | {f"beats_{name}": finite(p.wins) for name, p in preference.items()}, predictions


def evaluate_ood(checkpoint: Path) -> dict[str, dict[str, float | None]]:
    """SRCC and PLCC of greedy answers on each set of an unseen kind."""
    set_verbose(False)
    policy, processor = load_policy(checkpoint)
    table = {}
    for name in sorted(file.stem for file in DATA.glob("ood_*.csv")):
        rows = labels(name)
        predictions = predict(policy, processor, [row.video for row in rows], sampling=SAMPLING, progress=True)
        summary = summarize(predictions, rows)
        table[name] = {"srcc": finite(summary.srcc), "plcc": finite(summary.plcc)}
    return table


def finite(value: float) -> float | None:
    """Rounded; `None` where a correlation is undefined."""
    return None if math.isnan(value) else round(value, 4)


def tables(report: dict) -> tuple[Table, Table]:
    """Held-out clips, and unseen kinds, phase by phase."""
    columns = [*SHOWN, *BEATS]
    rows = [[PHASES[p], *(report["phases"][p][c] for c in columns)] for p in PHASES]
    title = f"{report['clips']} held-out clips of unseen scenes"
    held_out = Table(title, ["phase", *columns], rows, NOTE)
    sets = list(report["ood"]["grpo"])
    rows = [[PHASES[p], *(report["ood"][p][name]["srcc"] for name in sets)] for p in PHASES]
    return held_out, Table("SRCC on distortion kinds never seen in training", ["phase", *sets], rows)


def write_page(
    report: dict, shown: list[Table], test: list[LabelRow], predictions: dict[str, list[Prediction]]
) -> None:
    """runs/demo/report.html, with eight clips spread evenly over the MOS scale."""
    by_mos = sorted(range(len(test)), key=lambda i: test[i].mos)
    chosen = [by_mos[round(place)] for place in np.linspace(0, len(test) - 1, 8)]
    seen = load_processor(FOLDER / "grpo").seen
    clips = [
        ShownClip(
            f"{test[i].video_id}: MOS {test[i].mos:.2f}, {test[i].extra['kind']} {test[i].extra['severity']}",
            test[i].video,
            {said(label, predictions[p][i]): predictions[p][i].answers[0] for p, label in PHASES.items()},
            seen=seen,
        )
        for i in chosen
    ]
    facts = {"command": report["command"], "seed": report["seed"], "torch": torch.__version__}
    facts["seconds"] = ", ".join(f"{name} {value:.0f}" for name, value in report["seconds"].items())
    figures = {
        "Mean of every reward on the training batches, SRCC on validation clips, and signs of a collapse": "rewards",
        "Predicted score against MOS on the held-out clips": "scatter",
    }
    Report(
        "A tiny policy learns to judge video quality from scores",
        facts,
        shown,
        {caption: FOLDER / f"{name}.png" for caption, name in figures.items()},
        clips,
    ).write(FOLDER / "report.html")


def said(label: str, prediction: Prediction) -> str:
    """Who answered, and the greedy answer's score."""
    [score] = prediction.scores[:1]
    return f"{label}: {'no score' if math.isnan(score) else f'{score:.2f}'}"


if __name__ == "__main__":
    main()
