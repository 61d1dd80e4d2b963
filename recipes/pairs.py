"""Ladders teach a policy that scores clips one by one to respect how hard each is compressed: procedural scenes encoded
at many CRFs -> warm start -> GRPO on labelled clips and on rungs whose order is known -> flip rate before and after.

    python recipes/pairs.py                      # drawn scenes
    python recipes/pairs.py --source clips/      # ladders of your own clips

Labelled clips, base policy and warm start are the demo's (runs/demo). Writes runs/pairs: ladders, the trained policy,
summary.json and pairs.md. What each part is worth: recipes/pairs_controls.py.
"""

import json
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from vqathinker.arguments import Parser
from vqathinker.chatter import set_verbose
from vqathinker.data import pairs_of, read_labels, score_samples
from vqathinker.evaluation.flip_rate import FlipRate, flip_rates, read_manifest
from vqathinker.evaluation.pairs import evaluate_pairs
from vqathinker.evaluation.report import Table
from vqathinker.metrics.correlation import srcc
from vqathinker.scoring import QualityScorer
from vqathinker.synth import LadderSpec, make_ladders
from vqathinker.synth.build import is_made
from vqathinker.synth.default import SPEC, prepare_default

sys.path.insert(0, str(Path(__file__).parent))
import demo
import grpo_lsvq
import sft_lsvq
from runner import side_by_side

FOLDER = Path("runs/pairs")
CONFIGS = Path(__file__).parent / "configs"
DRAWN = {"size": 96, "num_frames": 24}
"""Of drawn scenes, as in the demo."""
TRAIN = LadderSpec(splits={"train": 48}, crfs=tuple(range(15, 52, 4)), seed=100, **DRAWN)
HELD_OUT = LadderSpec(splits={"val": 20, "test": 24}, crfs=tuple(range(15, 52, 2)), seed=100, **DRAWN)
"""CP-LLM's rungs. Scenes follow from seed and split. `val` is there to calibrate `vqathinker ladder` on."""
OWN = {"train": 3, "val": 1, "test": 1}
"""With clips of one's own all splits come from one set of ladders, in this proportion, so that no scene is in two."""
QUICK = {"splits": {"sft": 8, "train": 24, "val": 4, "test": 8}, "ood": 2}
DIFFERENCES = (2, 4, 6, 10, 20)
"""CRF differences of the table."""
LONGEST, LONGEST_COMPARISON = 40, 96
"""Tokens of an answer that scores a clip, and of one that compares two."""
STEPS = ["--max_steps", "400"]
"""Of GRPO: fewer than the demo's, so that all of it takes a quarter of an hour."""
COMPARED = 150
"""Held-out pairs."""
PHASES = {"sft": "warm start", "grpo": "GRPO with rungs"}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", help="folder of your own clips to make ladders of; default drawn scenes")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the training")
    parser.add_argument("--quick", action="store_true", help="a few clips and steps; the numbers mean nothing")
    options = parser.parse_args(argv)
    command = shlex.join(["python", "recipes/pairs.py", *(sys.argv[1:] if argv is None else argv)])
    seconds: dict[str, float] = {}

    clips = replace(SPEC, **(QUICK if options.quick else {}))
    if options.quick and (demo.DATA / "spec.json").exists() and not is_made(demo.DATA, clips):
        parser.error(f"--quick would replace the demo's clips in {demo.DATA}: run it from another folder.")

    # Labelled clips and base policy: the demo's. Ladders
    with demo.stopwatch(seconds, "synth"):
        prepare_default(demo.FOLDER, clips)
    with demo.stopwatch(seconds, "ladders"):
        ladders = prepare_ladders(options.source, options.quick)

    # Warm start and GRPO: the very recipes, with the embedded configs
    quick = ["--max_steps", "2"] if options.quick else []
    own = ["--seed", str(options.seed)]
    with demo.stopwatch(seconds, "sft"):
        sft_lsvq.main(["--config", str(CONFIGS / "demo_sft.yaml"), "--output_dir", str(FOLDER / "sft"), *own, *quick])
    with demo.stopwatch(seconds, "grpo"):
        steps = quick or STEPS
        grpo_lsvq.main(["--config", str(CONFIGS / "pairs.yaml"), "--ladders", str(ladders["train"]), *own, *steps])

    # Held-out clips, and held-out ladders, after each phase
    with demo.stopwatch(seconds, "evaluate"):
        results = judge({phase: FOLDER / phase for phase in PHASES}, ladders["test"])

    summary = {"results": results, "seed": options.seed, "command": command, "torch": torch.__version__}
    summary |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = "\n\n".join(map(shown, tables({PHASES[phase]: result for phase, result in results.items()})))
    (FOLDER / "pairs.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{sum(seconds.values()):.0f} s; numbers in {FOLDER}/summary.json")


def prepare_ladders(source: str | None, quick: bool = False) -> dict[str, Path]:
    """Label files of the ladders, by split; what is there and just so is kept."""
    folder = FOLDER / "ladders"
    if source is not None:
        return make_ladders(folder / "own", replace(HELD_OUT, source=source, splits=OWN))
    few = {"crfs": (15, 33, 51), "size": 64, "num_frames": 12} if quick else {}
    found = {}
    for name, spec in (("train", TRAIN), ("held_out", HELD_OUT)):
        splits = {"splits": dict.fromkeys(spec.splits, 2)} if quick else {}
        found |= make_ladders(folder / name, replace(spec, **few, **splits))
    return found


def judge(checkpoints: dict[str, Path], ladders: Path) -> dict[str, dict[str, Any]]:
    """What `evaluate` says of each policy."""
    return side_by_side({name: (evaluate, checkpoint, ladders) for name, checkpoint in checkpoints.items()})


def evaluate(checkpoint: Path, ladders: Path, compares: bool = False) -> dict[str, Any]:
    """SRCC on the demo's held-out clips, and what the policy makes of held-out ladders, both by expected scores, which
    are finer than two decimals.

    Args:
        checkpoint: The policy.
        ladders: Label file of held-out ladders.
        compares: Whether it has learned to compare two clips, and is asked to.
    """
    set_verbose(False)  # a process of its own
    longest = LONGEST_COMPARISON if compares else LONGEST
    scorer = QualityScorer.from_pretrained(checkpoint, readout="expected", max_new_tokens=longest)
    scorer.processor.use_cache(demo.FOLDER / "cache")
    rungs = read_labels(ladders, ladders.parent, "identity")
    clips = demo.labels("test")
    scores = {
        result.video: result.score
        for batch in scorer.score_many([row.video for row in (*clips, *rungs)])
        for result in batch
    }
    rates = flip_rates(read_manifest(ladders), scores, DIFFERENCES)
    result = {
        "srcc": correlation(clips, scores),
        "srcc_vmaf": correlation(rungs, scores),
        "unscored": sum(math.isnan(scores[row.video]) for row in (*clips, *rungs)),
        "flip_rate": {"all" if rate.difference is None else f"{rate.difference:g}": told(rate) for rate in rates},
    }
    if compares:
        report = evaluate_pairs(scorer, pairs_of(score_samples((*clips, *rungs)), COMPARED, seed=0))
        result |= {"accuracy": demo.finite(report.preference_accuracy)}
        result |= {"words": {name: demo.finite(value) for name, value in report.words.items()}}
        result |= {"consistency": demo.finite(report.words["compare_consistency"])}
    return result


def told(rate: FlipRate) -> dict[str, Any]:
    """A flip rate with its interval and what it was counted from."""
    numbers = {name: demo.finite(getattr(rate, name)) for name in ("rate", "low", "high")}
    return numbers | {name: getattr(rate, name) for name in ("pairs", "wrong", "ties", "unscored")}


def correlation(rows: list, scores: dict[str, float]) -> float | None:
    """SRCC of the scores with the labels, of clips that have one."""
    known = [(scores[row.video], row.mos) for row in rows if not math.isnan(scores[row.video])]
    return demo.finite(srcc(*zip(*known, strict=True))) if known else None


def tables(results: dict[str, dict[str, Any]]) -> list[Table]:
    """A row for each policy: correlations, and flip rates by CRF difference."""
    first = [
        [name, result["srcc"], result["srcc_vmaf"], result["flip_rate"]["all"]["rate"], result["unscored"]]
        for name, result in results.items()
    ]
    rates = [
        [name, *(result["flip_rate"][f"{difference}"]["rate"] for difference in DIFFERENCES)]
        for name, result in results.items()
    ]
    return [
        Table("Held-out clips and ladders", ["policy", "SRCC", "SRCC with VMAF", "flip rate", "unscored"], first),
        Table("Flip rate by CRF difference", ["policy", *map(str, DIFFERENCES)], rates),
    ]


def shown(table: Table) -> str:
    """A table as Markdown."""
    text = tabulate(table.rows, table.columns, floatfmt=".3f", missingval="-", tablefmt="github")
    return f"{table.title}\n\n{text}"


if __name__ == "__main__":
    main()
