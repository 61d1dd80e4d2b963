"""Is the curve of `vqathinker calibrate` sound on 50 labels, and do its intervals cover what they promise?

    python -m benchmarks.calibration_coverage                         # on simulated clips
    python -m benchmarks.calibration_coverage runs/eval/mine.csv      # on yours, as `vqathinker eval` writes them

Draws many sets of labelled clips, calibrates with each, and looks at other clips.
"""

import argparse
import csv
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy import interpolate, optimize, special

from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.report import Table
from vqathinker.metrics.conformal import conformal_quantile, interval, leave_out
from vqathinker.metrics.correlation import fit_logistic
from vqathinker.metrics.monotone import fit_monotone

Pairs = tuple[np.ndarray, np.ndarray]
"""Scores and labels of some clips."""
Draw = Callable[[np.random.Generator, int, int], tuple[Pairs, Pairs]]
"""So many clips to calibrate with, and so many others (of a file: all the others) to look at."""
SHAPES = {
    "straight": lambda quality: 25 * (quality - 1),
    "skewed": lambda quality: 25 * (quality - 1),
    "saturates": lambda quality: 100 * special.expit((quality - 2.2) / 0.45),
    "bends": lambda quality: 25 * (quality - 1) ** 2 / 4,
}
NEW = 1000
"""Simulated clips that a curve is judged on."""
GRID = 200
"""Steps between the lowest and the highest score of a set, in which a curve must rise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="CSV files with score and mos")
    parser.add_argument("--clips", type=int, default=50, help="labelled clips of a set")
    parser.add_argument("--sets", type=int, default=40, help="how many sets of labelled clips")
    parser.add_argument("--risk", type=float, default=0.1)
    options = parser.parse_args()
    sources: dict[str, Draw] = {shape: partial(simulated, shape) for shape in SHAPES}
    if options.files:
        sources = {file.name: pool_of(file, options.clips, parser) for file in options.files}
    curves = [
        [name, curve, *cells]
        for name, draw in sources.items()
        for curve, cells in curve_rows(draw, options.clips, options.sets).items()
        if options.files or curve != AS_IS  # simulated labels are no scores
    ]
    rows = [
        [name, *cells]
        for name, draw in sources.items()
        for cells in rule_rows(draw, options.clips, options.sets, options.risk)
    ]
    title = f"{options.sets} sets of {options.clips} clips"
    print(markdown([Table(f"Curves, {title}", ["clips", "curve", "RMSE", "sets where it does not rise"], curves)]))
    columns = ["clips", "rule", "coverage", "width", "deviation of the width"]
    print(markdown([Table(f"Intervals, {title}, risk {options.risk:g}", columns, rows)]))


def simulated(shape: str, rng: np.random.Generator, clips: int, others: int) -> tuple[Pairs, Pairs]:
    return simulated_clips(shape, rng, clips), simulated_clips(shape, rng, others)


def simulated_clips(shape: str, rng: np.random.Generator, count: int) -> Pairs:
    """Scores with two decimals that miss the quality by 0.45, and labels 0-100 with a deviation of 5."""
    quality = 1 + 4 * rng.beta(5, 2, count) if shape == "skewed" else rng.uniform(1, 5, count)
    scores = np.clip(quality + rng.normal(0, 0.45, count), 1, 5).round(2)
    return scores, np.clip(SHAPES[shape](quality) + rng.normal(0, 5, count), 0, 100)


def pool_of(file: Path, clips: int, parser: argparse.ArgumentParser) -> Draw:
    """Draws from the scored clips of a file."""
    with file.open(encoding="utf-8", newline="") as lines:
        pairs = [(float(row["score"]), float(row["mos"])) for row in csv.DictReader(lines)]
    known = np.array([pair for pair in pairs if not math.isnan(pair[0])])
    if len(known) < 2 * clips:
        parser.error(f"{file}: {len(known)} clips with a score; {2 * clips} are needed, half of them to look at.")

    def draw(rng: np.random.Generator, clips: int, others: int) -> tuple[Pairs, Pairs]:
        scores, labels = rng.permutation(known).T
        return (scores[:clips], labels[:clips]), (scores[clips:], labels[clips:])

    return draw


def line(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return np.polynomial.Polynomial.fit(scores, labels, 1)


def logistic(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    fit = fit_logistic(scores, labels)
    return (lambda new: np.full(len(new), labels.mean())) if fit.error else fit.curve


def isotonic(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Isotonic regression, and PCHIP through the middles of its steps."""
    different, places = np.unique(scores, return_inverse=True)
    counts = np.bincount(places)
    found = optimize.isotonic_regression(np.bincount(places, labels) / counts, weights=counts)
    steps = list(zip(found.blocks[:-1], found.blocks[1:], strict=True))
    x = np.array([np.average(different[a:b], weights=counts[a:b]) for a, b in steps])
    curve = interpolate.PchipInterpolator(x, found.x[found.blocks[:-1]])
    return lambda new: curve(np.clip(new, x[0], x[-1]))


AS_IS = "the score as it is"
CURVES: dict[str, Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    AS_IS: lambda scores, labels: lambda new: new,
    "line": line,
    "4-parameter logistic": logistic,
    "isotonic, PCHIP": isotonic,
    "line and logistics": fit_monotone,
}


def curve_rows(draw: Draw, clips: int, sets: int) -> dict[str, tuple[float, int]]:
    """Of each of `CURVES`: RMSE on other clips, mean over the sets, and in how many sets it does not rise strictly."""
    found = {}
    for name, fit in CURVES.items():
        rng, errors, flat = np.random.default_rng(1), [], 0
        for _ in range(sets):
            (scores, labels), (new, truth) = draw(rng, clips, NEW)
            curve = fit(scores, labels)
            errors.append(np.sqrt(np.mean((curve(new) - truth) ** 2)))
            flat += bool(np.any(np.diff(curve(np.linspace(scores.min(), scores.max(), GRID))) <= 0))
        found[name] = float(np.mean(errors)), flat
    return found


def rule_rows(draw: Draw, clips: int, sets: int, risk: float) -> list[list[object]]:
    """Coverage of other clips by each rule, its width, and the width's deviation over the sets."""
    rng = np.random.default_rng(2)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(sets):
        (scores, labels), (new, truth) = draw(rng, clips, 400)
        for rule, (low, high) in intervals(scores, labels, new, risk).items():
            covered = float(np.mean((low <= truth) & (truth <= high)))
            found.setdefault(rule, []).append((covered, float(np.mean(high - low))))
    return [
        [rule, *np.mean(values, 0).tolist(), float(np.std([width for _, width in values]))]
        for rule, values in found.items()
    ]


def intervals(
    scores: np.ndarray, labels: np.ndarray, new: np.ndarray, risk: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rule -> low and high ends for new scores: half for the curve and half for its errors, jackknife+, ours, and ours
    without the scores.
    """
    half = len(scores) // 2
    curve = fit_monotone(scores[:half], labels[:half])
    margin = conformal_quantile(np.abs(labels[half:] - curve(scores[half:])), risk)
    left_out = leave_out(fit_monotone, scores, labels, range(len(scores)))
    values, errors = np.array([one(new) for one in left_out.curves]), left_out.errors[:, None]
    alone = leave_out(lambda _, y: partial(np.full_like, fill_value=y.mean()), scores, labels, range(len(scores)))
    place = math.ceil(round((1 - risk) * (len(scores) + 1), 9))
    plus = np.sort(values - errors, 0)[len(scores) - place], np.sort(values + errors, 0)[place - 1]
    return {
        "split": (curve(new) - margin, curve(new) + margin),
        "jackknife+": plus,
        "jackknife-minmax": interval(left_out.curves, left_out.margin(risk), new),
        "labels alone": interval(alone.curves, alone.margin(risk), new),
    }


if __name__ == "__main__":
    main()
