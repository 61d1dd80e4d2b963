"""Training curves, scatter plots, calibrations and timelines. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.metrics.correlation import LogisticFit
from vqathinker.rewards.distortion import DEGREES
from vqathinker.wording import install

if TYPE_CHECKING:
    from vqathinker.evaluation.calibrating import Fitted
    from vqathinker.scoring.timeline import Timeline


def pyplot() -> Any:
    """matplotlib's, which draws to files.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"plots need matplotlib: {install('plots')}.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: str | Path, dpi: int) -> None:
    """Write a figure; pyplot forgets it, whatever goes wrong."""
    try:
        figure.savefig(path, dpi=dpi)
    finally:
        pyplot().close(figure)


WARNINGS = {
    "entropy": "entropy of answers",
    "quality/group_reward_std": "std of rewards within a group",
    "quality/zero_gradient_groups": "groups without gradient",
    "quality/identical_answers": "identical within a group",
    "quality/common_score": "most frequent score",
    "quality/score_spread": "spread of scores / of MOS",
}
"""Logged metric -> what it tells of a collapse."""


def plot_rewards(log_history: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Mean of every reward, held-out SRCC if it was measured, and what warns of a collapse, over the steps.

    Args:
        log_history: `trainer.state.log_history`.
        path: PNG to write.
    """
    plt = pyplot()
    names = sorted({k for entry in log_history for k in entry if k.startswith("rewards/") and k.endswith("/mean")})
    validated = any(entry.get("eval_srcc") is not None for entry in log_history)
    figure, axes = plt.subplots(1, 2 + validated, figsize=(5 * (2 + validated), 4.8), layout="constrained")

    def curve(axis: Any, key: str, **style: Any) -> None:
        points = [(entry["step"], entry[key]) for entry in log_history if entry.get(key) is not None]
        if points:
            axis.plot(*zip(*points, strict=True), **style)

    for name in names:
        curve(axes[0], name, label=name.split("/")[1])
    axes[0].set(xlabel="step", ylabel="mean reward, training batch", title="Rewards")
    if validated:
        curve(axes[1], "eval_srcc", marker="o")
        axes[1].set(xlabel="step", ylabel="SRCC, greedy answers", title="Validation clips")
    for name, label in WARNINGS.items():
        curve(axes[-1], name, label=label)
    axes[-1].set(xlabel="step", title="Signs of a collapse")
    for axis in (axes[0], axes[-1]):
        if axis.lines:
            axis.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))  # off the curves
    _save(figure, path, 110)


def plot_scatter(panels: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path) -> None:
    """Predicted score against MOS, one panel each.

    Args:
        panels: Title -> (MOS, predicted scores); NaN predictions are left out.
        path: PNG to write.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4), layout="constrained", squeeze=False)
    for axis, (title, (mos, scores)) in zip(axes[0], panels.items(), strict=True):
        axis.plot([1, 5], [1, 5], color="lightgrey", zorder=0)
        axis.scatter(mos, scores, s=12, alpha=0.6)
        axis.set(xlabel="MOS", ylabel="predicted score", xlim=(0.8, 5.2), ylim=(0.8, 5.2))
        axis.set_title(title, parse_math=False)
    _save(figure, path, 120)


def plot_fit(scores: np.ndarray, mos: np.ndarray, fit: LogisticFit, title: str, path: str | Path) -> None:
    """MOS against predicted scores, with the fitted curve.

    Args:
        scores: (N,) predicted scores.
        mos: (N,) labels, in any units.
        fit: Its curve is drawn, if there is one.
        title: Of the plot.
        path: PNG to write.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axis.scatter(scores, mos, s=12, alpha=0.6)
    if not fit.error:
        dense = np.linspace(min(scores), max(scores), 200)
        axis.plot(dense, fit.curve(dense), color="tab:red", linewidth=1.5)
    axis.set(xlabel="predicted score", ylabel="MOS")
    axis.set_title(title, parse_math=False)
    _save(figure, path, 110)


def plot_calibration(fitted: Fitted, title: str, path: str | Path) -> None:
    """Labels against scores, with the calibrated score and its interval.

    Args:
        fitted: A calibration and its clips.
        title: Of the plot.
        path: PNG to write.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5, 4.4), layout="constrained")
    dense = np.linspace(*fitted.calibration.scores, 200)
    low, high = fitted.calibration.interval(dense)
    axis.fill_between(
        dense, low, high, color="tab:red", alpha=0.15, label=f"{fitted.calibration.coverage:.0%} interval"
    )
    axis.plot(dense, fitted.calibration.values(dense), color="tab:red", linewidth=1.5, label="calibrated score")
    axis.scatter(fitted.scores, fitted.labels, s=12, alpha=0.6, label="labelled clips")
    axis.set(xlabel="the policy's score, 1-5", ylabel="label")
    axis.set_title(title, parse_math=False)
    axis.legend(fontsize=8)
    _save(figure, path, 110)


def plot_timeline(found: Timeline, path: str | Path) -> None:
    """Score over time, and below it the faults that each window's reasoning names, the darker the worse.

    Args:
        found: Windows of a clip.
        path: PNG to write.
    """
    plt = pyplot()
    kinds = list(dict.fromkeys(kind for window in found.windows for kind in window.faults))
    heights = [3.0, 0.35 * max(1, len(kinds))]
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(8, sum(heights) + 1.2), height_ratios=heights, layout="constrained"
    )
    _draw_scores(above, found)
    _draw_faults(below, found, kinds)
    above.set(ylabel="score, 1-5", ylim=(0.8, 5.2))
    above.set_title(Path(found.video).name, parse_math=False)
    below.set(xlabel=f"seconds; a point is the middle of a window of {found.window:g} s", xlim=(0, found.duration))
    _save(figure, path, 120)


def _draw_scores(axis: Any, found: Timeline) -> None:
    """A point in the middle of each window, and how long it lasts; windows without a score are shaded."""
    middles = np.array([(window.start + window.end) / 2 for window in found.windows])
    scores = np.array(found.scores)
    spreads = np.nan_to_num([window.result.spread for window in found.windows])
    axis.plot(middles, scores, marker="o", markersize=4, color="tab:blue")
    if spreads.any():
        axis.fill_between(middles, scores - spreads, scores + spreads, color="tab:blue", alpha=0.2, label="spread")
    lost = [window for window in found.windows if not window.result.parsed]
    for number, window in enumerate(lost):
        axis.axvspan(window.start, window.end, color="lightgrey", alpha=0.6, label="" if number else "no score")
    axis.grid(axis="y", alpha=0.3)
    if lost or spreads.any():
        axis.legend(fontsize=8)


def _draw_faults(axis: Any, found: Timeline, kinds: Sequence[str]) -> None:
    """A row for each kind, and a bar for each window that names it, around its middle."""
    for row, kind in enumerate(kinds):
        for window in found.windows:
            if kind in window.faults:
                degree = window.faults[kind]
                depth = (DEGREES.index(degree) + 1) / len(DEGREES) if degree else 0.5
                width = min(found.step, window.end - window.start)
                start = (window.start + window.end - width) / 2
                axis.broken_barh([(start, width)], (row - 0.4, 0.8), facecolors="tab:red", alpha=0.2 + 0.8 * depth)
    named = list(kinds) or ["no fault is named"]
    axis.set_yticks(range(len(named)), named)
    axis.set_ylim(len(named) - 0.5, -0.5)
