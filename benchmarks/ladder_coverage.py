"""Does the promise of `vqathinker ladder` hold on average over calibrations? One check is of one calibration only.

    vqathinker ladder --calibrate ladders/val.csv --model runs/pairs/grpo --readout expected --out val.json
    vqathinker ladder --calibrate ladders/test.csv --model runs/pairs/grpo --readout expected --out test.json
    python -m benchmarks.ladder_coverage val.json test.json

Pools the scenes of both files and splits them anew many times: some calibrate, the others are checked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.ladder_calibration import load_calibration
from vqathinker.evaluation.ladder_choice import SourceLadder, conformal_threshold, judge_rule, scene_thresholds
from vqathinker.evaluation.report import Table

COLUMNS = ["target", "coverage", "deviation over splits", "promised", "bits saved", "saved, labels known"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibrations", nargs="+", type=Path, help="files of `ladder --calibrate`, of one policy")
    parser.add_argument("--targets", type=float, nargs="+", default=[3.0, 3.5, 3.8, 4.2], help="in score units")
    parser.add_argument("--risk", type=float, default=0.1)
    parser.add_argument("--scenes", type=int, default=20, help="that calibrate; the others are checked")
    parser.add_argument("--splits", type=int, default=1000)
    options = parser.parse_args()
    ladders = [ladder for file in options.calibrations for ladder in load_calibration(file).ladders]
    if options.scenes >= len({ladder.unit for ladder in ladders}):
        parser.error(f"--scenes {options.scenes}: must be below the number of scenes in the files.")
    rows = [
        [target, *coverage(ladders, target, options.risk, options.scenes, options.splits)] for target in options.targets
    ]
    print(markdown([Table(f"{options.splits} splits of {len(ladders)} sources, risk {options.risk:g}", COLUMNS, rows)]))


def coverage(ladders: Sequence[SourceLadder], target: float, risk: float, scenes: int, splits: int) -> list[float]:
    """What the rule is worth on average.

    Args:
        ladders: With scores and labels.
        target: Score units.
        risk: In (0, 1).
        scenes: How many calibrate.
        splits: Random splits, by seed 0.

    Returns:
        Mean coverage of the checked scenes and its standard deviation over the splits, mean share of sources with a
        promise, mean share of bits saved by the rule, and by one who knows the labels.
    """
    rng = np.random.default_rng(0)
    names = sorted({ladder.unit for ladder in ladders})
    found = []
    for _ in range(splits):
        chosen = set(rng.permutation(names)[:scenes])
        threshold = conformal_threshold(
            scene_thresholds([ladder for ladder in ladders if ladder.unit in chosen], target), risk
        )
        others = [ladder for ladder in ladders if ladder.unit not in chosen]
        rule = judge_rule("", others, target, lambda ladder, limit=threshold: ladder.choose(limit))
        known = judge_rule("", others, target, lambda ladder: ladder.cheapest_kept(target))
        found.append((rule.coverage, rule.promised / rule.sources, rule.saved, known.saved))
    covered, promised, saved, known_saved = np.array(found).T
    return [
        float(value) for value in (covered.mean(), covered.std(), promised.mean(), saved.mean(), known_saved.mean())
    ]


if __name__ == "__main__":
    main()
