"""Training curves and scatter plots. Needs matplotlib (`pip install vqathinker[plots]`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'vqathinker[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot_rewards(log_history: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Mean of every reward and held-out SRCC over the steps.

    Args:
        log_history: `trainer.state.log_history`.
        path: PNG to write.
    """
    plt = _pyplot()
    names = sorted({k for entry in log_history for k in entry if k.startswith("rewards/") and k.endswith("/mean")})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for key, label in [(name, name.split("/")[1]) for name in names] + [("reward", "total")]:
        points = [(entry["step"], entry[key]) for entry in log_history if entry.get(key) is not None]
        left.plot(*zip(*points, strict=True), label=label, linewidth=2 if key == "reward" else 1)
    left.set(xlabel="step", ylabel="mean reward, training batch", title="Rewards")
    left.legend()
    points = [(entry["step"], entry["val/srcc"]) for entry in log_history if entry.get("val/srcc") is not None]
    if points:
        right.plot(*zip(*points, strict=True), marker="o")
    right.set(xlabel="step", ylabel="SRCC, greedy answers", title="Validation clips")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_scatter(panels: dict[str, tuple[Sequence[float], Sequence[float]]], path: str | Path) -> None:
    """Predicted score against MOS, one panel each.

    Args:
        panels: Title -> (MOS, predicted scores); NaN predictions are left out.
        path: PNG to write.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4), layout="constrained", squeeze=False)
    for axis, (title, (mos, scores)) in zip(axes[0], panels.items(), strict=True):
        axis.plot([1, 5], [1, 5], color="lightgrey", zorder=0)
        axis.scatter(mos, scores, s=12, alpha=0.6)
        axis.set(xlabel="MOS", ylabel="predicted score", title=title, xlim=(0.8, 5.2), ylim=(0.8, 5.2))
    figure.savefig(path, dpi=120)
    plt.close(figure)
