"""Training curves and scatter plots. Needs matplotlib (`pip install vqathinker[plots]`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.metrics.correlation import LogisticFit


def pyplot() -> Any:
    """matplotlib's, which draws to files.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'vqathinker[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


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
    figure.savefig(path, dpi=110)
    plt.close(figure)


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
        axis.set(xlabel="MOS", ylabel="predicted score", title=title, xlim=(0.8, 5.2), ylim=(0.8, 5.2))
    figure.savefig(path, dpi=120)
    plt.close(figure)


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
    axis.set(xlabel="predicted score", ylabel="MOS", title=title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
