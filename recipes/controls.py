"""Controls: what the gain of GRPO is made of, on the embedded default.

    python recipes/controls.py                                              # every arm, 3 seeds; takes hours
    python recipes/controls.py --arms sft,demo --seeds 0,1,2,3,4,5,6,7,8,9  # is training stable?

One set of clips; the seeds are those of the training. Every arm starts from a warm start of its seed, which is made
too. `demo` trains as the demo does; what single rewards, presets and parts do is compared from a longer warm start,
with fewer steps and without contrast, for less. A result stands in runs/controls/ARM/SEED/result.json and is kept, so
that a second call goes on where the first stopped, until clips, traces, base, configs, sampling or arguments change.
The table of all results is printed and written to runs/controls/controls.json.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tabulate import tabulate
from transformers import AutoProcessor

from vqathinker.arguments import Parser
from vqathinker.data import score_samples
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Sampling
from vqathinker.synth.default import prepare_default
from vqathinker.tasks import TASKS

sys.path.insert(0, str(Path(__file__).parent))
import demo
import grpo_lsvq
import runner
import sft_lsvq
from runner import integers, mean_and_deviation, training_of

FOLDER = Path("runs/controls")
BARE_BASE = FOLDER / "base_no_motion"
SFT_CONFIG, GRPO_CONFIG = (Path(__file__).parent / "configs" / name for name in ("demo_sft.yaml", "demo.yaml"))
NO_CONTRAST = ["--contrast_weight", "0"]
CHEAPER = [*NO_CONTRAST, "--perturb_every", "1", "--max_steps", "320"]
ONLY_SCORES = ["--distortion_weight", "0"]
LONGER = ["--max_steps", "100"]
WARM_STARTS = {
    "sft": [],
    "sft_longer": LONGER,
    "sft_no_motion": LONGER,
    "sft_no_reasoning": [*LONGER, "--reasoning", "false"],
}
COMPARED = {
    "grpo": [],
    "grpo_twice": ["--max_steps", "640"],
    "grpo_no_motion": [],
    "only_scores": ONLY_SCORES,
    "no_format": ["--leave_out", "format"],
    "no_regression": ["--leave_out", "regression"],
    "no_rank": ["--leave_out", "rank"],
    "no_temporal": ["--leave_out", "temporal"],
    "rank_only": ["--leave_out", "regression", "temporal"],
    "regression_only": ["--leave_out", "rank", "temporal"],
    "no_reasoning": ["--leave_out", "format", *ONLY_SCORES],  # the format reward asks for reasoning
    "paper": ["--preset", "paper", *ONLY_SCORES],
    "official": ["--preset", "official", *ONLY_SCORES],
}
GRPO = {"demo": [], "demo_no_contrast": NO_CONTRAST} | {arm: [*CHEAPER, *own] for arm, own in COMPARED.items()}
COOL = "sft_at_0.5"  # no training: the warm start, sampled at temperature 0.5
MORE_SFT = "more_sft"
ARMS = (*WARM_STARTS, COOL, *GRPO, MORE_SFT)
STARTS = dict.fromkeys(COMPARED, "sft_longer") | {
    "grpo_no_motion": "sft_no_motion",
    "no_reasoning": "sft_no_reasoning",
}
"""Warm start of an arm, where it is not `sft`."""
ABLATION = {
    # arm; rank, regression, temporal, distortion, format, contrast, motion, reasoning; published SRCC in-domain and OOD
    "rank only": ("rank_only", 1, 0, 0, 1, 1, 0, 1, 1, 0.780, 0.506),
    "regression only": ("regression_only", 0, 1, 0, 1, 1, 0, 1, 1, 0.823, 0.620),
    "rank + regression": ("no_temporal", 1, 1, 0, 1, 1, 0, 1, 1, 0.849, 0.638),
    "without motion": ("grpo_no_motion", 1, 1, 1, 1, 1, 0, 0, 1, 0.840, 0.614),
    "without reasoning": ("no_reasoning", 1, 1, 1, 0, 0, 0, 1, 0, 0.844, 0.627),
    "all but distortion": ("only_scores", 1, 1, 1, 0, 1, 0, 1, 1, 0.855, 0.662),
    "all": ("grpo", 1, 1, 1, 1, 1, 0, 1, 1, None, None),
    "all, twice the steps": ("grpo_twice", 1, 1, 1, 1, 1, 0, 1, 1, None, None),
    "the demo": ("demo", 1, 1, 1, 1, 1, 1, 1, 1, None, None),
    "the demo without contrast": ("demo_no_contrast", 1, 1, 1, 1, 1, 0, 1, 1, None, None),
    "SFT instead of GRPO": ("more_sft", 0, 0, 0, 0, 0, 0, 1, 1, 0.837, 0.562),
}
"""VQAThinker's Tables 4 and 7, and what the demo adds."""
COMPARED_SEEDS = 3
QUALITY = ("srcc", "srcc_sample", "srcc_mean4")
ANSWERS = ("parse_rate", "naming", "spread", "common_score")
MANNERS = (*ANSWERS, *demo.BEATS)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="comma-separated training seeds")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated arms to run: {', '.join(ARMS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs in parallel; they share the cores")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run:
        arm, seed = options.run.split(":")
        return run_arm(arm, int(seed))
    arms = options.arms.split(",")
    unknown = sorted(set(arms) - set(ARMS))
    if unknown or options.jobs < 1:
        parser.error(f"--arms {unknown}: choose from {ARMS}; --jobs {options.jobs}: must be at least 1.")

    prepare_default(demo.FOLDER)
    if any("no_motion" in arm for arm in arms):
        make_bare_base()
    arms = {*arms, *(start for arm in arms if arm not in WARM_STARTS for start in built_on(arm))}
    # Warm starts, then GRPO, then supervised training for as long as GRPO took.
    for stage in (WARM_STARTS, (COOL, *GRPO), (MORE_SFT,)):
        wanted = [(arm, seed) for seed in options.seeds for arm in stage if arm in arms]
        todo = [job for job in wanted if read_result(*job) is None]
        with ThreadPoolExecutor(options.jobs) as pool:
            logs = list(pool.map(lambda job: launch(*job, options.jobs), todo))
        if any(logs):
            sys.exit(f"failed, see {', '.join(str(log) for log in logs if log)}")
    write_table()


def folder_of(arm: str, seed: int) -> Path:
    return FOLDER / arm / str(seed)


def fingerprint(arm: str) -> str:
    """Changes with clips, traces, base, configs, sampling and the arguments of the arm and of what it is built on."""
    sets = (demo.DATA / "spec.json", demo.LONGER / "spec.json")
    configs = [SFT_CONFIG] if arm in (*WARM_STARTS, COOL) else [SFT_CONFIG, GRPO_CONFIG]
    files = (*sets, demo.FOLDER / "base" / "model.safetensors", *configs)
    rng = np.random.default_rng(0)
    traces = [TASKS["score"].gold(sample, rng) for sample in score_samples(demo.labels("sft"))]
    arguments = [(WARM_STARTS | GRPO).get(name) for name in (arm, *built_on(arm))]
    own = repr(arguments) + repr(sampling_of(arm)) + repr(traces)
    return hashlib.sha256(b"".join([*(file.read_bytes() for file in files), own.encode()])).hexdigest()[:12]


def built_on(arm: str) -> list[str]:
    """The arms whose checkpoint or time an arm takes."""
    return [STARTS.get(arm, "sft"), *(["demo"] if arm == MORE_SFT else [])]


def sampling_of(arm: str) -> Sampling:
    return replace(demo.SAMPLING, temperature=0.5) if arm == COOL else demo.SAMPLING


def read_result(arm: str, seed: int) -> dict | None:
    return runner.read_result(folder_of(arm, seed), fingerprint(arm))


def launch(arm: str, seed: int, jobs: int) -> Path | None:
    return runner.launch(__file__, arm, seed, jobs, folder_of(arm, seed))


def run_arm(arm: str, seed: int) -> None:
    """Train and judge one arm."""
    folder = folder_of(arm, seed)
    train(arm, seed, ["--seed", str(seed), "--output_dir", str(folder)])
    checkpoint = folder_of("sft", seed) if arm == COOL else folder
    result, _ = demo.evaluate(checkpoint, demo.labels("test"), seed, sampling_of(arm))
    result["ood"] = {name: row["srcc"] for name, row in demo.evaluate_ood(checkpoint).items()}
    runner.write_result(folder, result, fingerprint(arm))


def train(arm: str, seed: int, own: list[str]) -> None:
    """The recipes with the demo's configs, but for what the arm is about."""
    if "no_motion" in arm:  # there is no motion projector to freeze
        own = [*own, "--freeze", "vision_tower", "multi_modal_projector"]
    if arm in WARM_STARTS:
        base = BARE_BASE if arm == "sft_no_motion" else demo.FOLDER / "base"
        sft_lsvq.main(["--config", str(SFT_CONFIG), "--model", str(base), *own, *WARM_STARTS[arm]])
    elif arm in GRPO:
        start = folder_of(STARTS.get(arm, "sft"), seed)
        grpo_lsvq.main(["--config", str(GRPO_CONFIG), "--model", str(start), *own, *GRPO[arm]])
    elif arm == MORE_SFT:
        # On the very clips that the demo's GRPO saw, their distortions explained, for the wall time that it took, with
        # its validation and its copies.
        start = folder_of("sft", seed)
        pace, goal = training_of(start), training_of(folder_of("demo", seed))
        steps = round(goal["seconds"] / pace["seconds"] * pace["steps"])
        labels = ["--train_labels", str(demo.DATA / "train.csv"), "--max_steps", str(steps)]
        sft_lsvq.main(["--config", str(SFT_CONFIG), "--model", str(start), *labels, *own])


def make_bare_base() -> None:
    """The base policy without its motion branch."""
    base = demo.FOLDER / "base"
    VQAThinkerForConditionalGeneration.from_pretrained(base, motion_tokens=0).save_pretrained(BARE_BASE)
    processor = AutoProcessor.from_pretrained(base)
    processor.motion_tokens = 0
    processor.save_pretrained(BARE_BASE)


def write_table() -> None:
    """Every value of every seed to controls.json; mean and standard deviation over the seeds to the screen."""
    table: dict[str, dict[str, list]] = {}
    for arm in ARMS:
        seeds = sorted(int(folder.name) for folder in (FOLDER / arm).glob("*") if folder.name.isdigit())
        found = {seed: result for seed in seeds if (result := read_result(arm, seed)) is not None}
        if found:
            runs = list(found.values())
            table[arm] = {"seeds": list(found)} | {name: [run[name] for run in runs] for name in (*QUALITY, *MANNERS)}
            table[arm] |= {name: [run["ood"][name] for run in runs] for name in runs[0]["ood"]}
    (FOLDER / "controls.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(render(table))


def render(table: dict[str, dict[str, list]]) -> str:
    """Markdown tables: how well scores agree with MOS, on held-out clips and on unseen kinds; how answers are
    otherwise; how often copies score lower; the paper's ablation (all these over the same first seeds, so that arms
    compare), and whether training is stable over all seeds."""
    ood = [name for name in next(iter(table.values()), {}) if name.startswith("ood")]
    first = sorted({seed for r in table.values() for seed in r["seeds"]})[:COMPARED_SEEDS]
    compared = {arm: kept for arm, r in table.items() if (kept := only_seeds(r, first))["seeds"]}
    parts = []
    for columns in (QUALITY, ood, ANSWERS, demo.BEATS):
        rows = [[a, len(r["seeds"]), *(mean_and_deviation(r[name]) for name in columns)] for a, r in compared.items()]
        parts.append(tabulate(rows, ["arm", "seeds", *columns], tablefmt="github"))
    return "\n\n".join([*parts, *render_ablation(compared, ood), *render_stability(table)])


def only_seeds(results: dict[str, list], seeds: list[int]) -> dict[str, list]:
    """The values of one arm that belong to certain seeds."""
    kept = [place for place, seed in enumerate(results["seeds"]) if seed in seeds]
    return {name: [values[place] for place in kept] for name, values in results.items()}


def render_ablation(table: dict[str, dict[str, list]], ood: list[str]) -> list[str]:
    """In the form of VQAThinker's Tables 4 and 7, its values beside ours: SRCC on held-out clips, and on unseen kinds
    (mean of the sets)."""
    names = ("rank", "regression", "temporal", "distortion", "format", "contrast", "motion", "reasoning")
    rows = []
    for name, (arm, *parts, in_domain, out_of_domain) in ABLATION.items():
        if arm in table:
            r = table[arm]
            seeds = zip(*(r[kind] for kind in ood), strict=True)
            unseen = [None if None in values else statistics.mean(values) for values in seeds]
            missing = ", ".join(part for part, has in zip(names, parts, strict=True) if not has)
            found = [mean_and_deviation(r["srcc"]), mean_and_deviation(unseen)]
            rows.append([name, missing or None, *found, in_domain, out_of_domain])
    columns = ["without", "held-out", "unseen", "published", "published, OOD"]
    if len(rows) < 2:  # one arm is compared with nothing
        return []
    return [tabulate(rows, ["", *columns], tablefmt="github", floatfmt=".3f", missingval="-")]


def render_stability(table: dict[str, dict[str, list]]) -> list[str]:
    """Warm start and demo (or else `grpo`) over all seeds that have both: mean and deviation, range, gain."""
    end = "demo" if "demo" in table else "grpo"
    if not {"sft", end} <= table.keys():
        return []
    seeds = sorted({*table["sft"]["seeds"]} & {*table[end]["seeds"]})
    rows = []
    for name in (*QUALITY, *MANNERS):
        both = [dict(zip(table[arm]["seeds"], table[arm][name], strict=True)) for arm in ("sft", end)]
        before, after = ([values[seed] for seed in seeds] for values in both)
        rows.append([name, mean_and_deviation(before), mean_and_deviation(after), "-", "-"])
        if None not in before + after:
            gains = [b - a for a, b in zip(before, after, strict=True)]
            rows[-1][3:] = [f"{min(after):.3f} - {max(after):.3f}", mean_and_deviation(gains)]
    columns = [f"{len(seeds)} seeds", "sft", end, f"{end}, range", "gain"]
    return [tabulate(rows, columns, tablefmt="github")] if seeds else []


if __name__ == "__main__":
    main()
