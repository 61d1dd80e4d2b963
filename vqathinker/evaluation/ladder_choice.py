"""Which rung of a clip's ladder to send: the cheapest whose quality is kept, and how often that choice is wrong.

The rule is calibrated by split conformal prediction (Vovk et al. 2005; Lei et al. 2018) with whole scenes as the
exchangeable units: rungs of one source are not independent, nor are several cuts of one scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vqathinker.metrics.conformal import conformal_quantile, min_units

RATE_POINTS = 512
"""Bit rates at which two ladders are compared, evenly spaced on a logarithmic scale."""


@dataclass(frozen=True)
class SourceLadder:
    """The rungs of one source, N of them.

    Attributes:
        source: Names it.
        ladders: (N,) what can be ordered by CRF: codec and size, e.g. "h264 360".
        rates: (N,) float, kbit/s, above 0.
        predicted: (N,) float, score units; NaN for a rung without a score, which is never chosen.
        quality: (N,) float, true labels in score units; NaN where they are not known.
        scene: Names what several sources may show; "" where the source is a scene of its own.
    """

    source: str
    ladders: tuple[str, ...]
    rates: np.ndarray
    predicted: np.ndarray
    quality: np.ndarray
    scene: str = ""

    @property
    def unit(self) -> str:
        """Names what is exchangeable with others: the scene."""
        return self.scene or self.source

    @property
    def order(self) -> np.ndarray:
        """(N,) indices from the cheapest rung to the dearest; of equal rates the better predicted one first."""
        return np.lexsort((-np.nan_to_num(self.predicted, nan=-np.inf), self.rates))

    @property
    def top(self) -> int:
        """Index of the rung of most bits."""
        return int(self.order[-1])

    def choose(self, threshold: float) -> int | None:
        """Index of the cheapest rung whose predicted score is above a threshold, `None` if there is none."""
        above = [i for i in self.order if self.predicted[i] > threshold]
        return int(above[0]) if above else None

    def cheapest_kept(self, target: float) -> int | None:
        """The choice of one who knows the labels: index of the cheapest rung of at least the target."""
        kept = [i for i in self.order if self.quality[i] >= target]
        return int(kept[0]) if kept else None

    def candidates(self) -> list[int]:
        """The rungs that `choose` can choose, over all thresholds: better predicted than every cheaper one."""
        found: list[int] = []
        best = -math.inf
        for i in self.order:
            if self.predicted[i] > best:
                found.append(int(i))
                best = self.predicted[i]
        return found


def threshold_of(ladder: SourceLadder, target: float) -> float:
    """The lowest threshold from which on `choose` never chooses a rung of this source that falls short.

    A rung is chosen by the thresholds below its own predicted score, so this is the highest score of a candidate whose
    label is below the target; -inf where none is. It cannot be lower than any threshold that fails, also where quality
    does not rise with the bits (several codecs): that makes the loss monotone in the threshold, as conformal risk
    control asks (Angelopoulos et al. 2024, there for any bounded loss; the loss here is 0 or 1).

    Args:
        ladder: With labels.
        target: Score units.
    """
    short = [float(ladder.predicted[i]) for i in ladder.candidates() if ladder.quality[i] < target]
    return max(short, default=-math.inf)


def scene_thresholds(ladders: Sequence[SourceLadder], target: float) -> list[float]:
    """`threshold_of` each scene: the lowest one from which on none of its sources gets a rung that falls short.

    Args:
        ladders: With labels.
        target: Score units.

    Returns:
        One per scene.
    """
    found: dict[str, float] = {}
    for ladder in ladders:
        found[ladder.unit] = max(found.get(ladder.unit, -math.inf), threshold_of(ladder, target))
    return list(found.values())


def count_scenes(ladders: Sequence[SourceLadder]) -> int:
    """Number of different scenes."""
    return len({ladder.unit for ladder in ladders})


def conformal_threshold(thresholds: Sequence[float], risk: float) -> float:
    """The threshold of a new scene: the k-th smallest of n scenes', k = ceil((n + 1) (1 - risk)).

    If the new scene and those are exchangeable, and the target was fixed before, then P(the chosen rung falls short
    of the target) <= risk. Where no rung is above the threshold nothing is promised, and nothing can fall short.

    Args:
        thresholds: `scene_thresholds` of n held-out scenes.
        risk: In (0, 1).

    Raises:
        ValueError: If there are too few scenes for this risk.
    """
    count, needed = len(thresholds), min_units(risk)
    if count < needed:
        raise ValueError(
            f"risk {risk:g} needs at least {needed} calibration scenes, these are {count}: calibrate with more, or "
            f"take a risk of {_smallest_risk(count)} or more."
        )
    return conformal_quantile(thresholds, risk)


def _smallest_risk(count: int) -> str:
    """1 / (count + 1), rounded up to three decimals."""
    return f"{math.ceil(1000 / (count + 1)) / 1000:g}"


@dataclass(frozen=True)
class RuleReport:
    """How a rule does on held-out sources.

    Attributes:
        rule: In words.
        sources: Number of sources.
        promised: Sources for which it chose a rung; for the others it sends the rung of most bits.
        short: Of these, where the chosen rung's label is below the target.
        saved: Share of the dearest rung's bits that the choice saves, mean over all sources.
        scenes: Number of scenes.
        broken: Of these, with a source that is short.
    """

    rule: str
    sources: int
    promised: int
    short: int
    saved: float
    scenes: int
    broken: int

    @property
    def coverage(self) -> float:
        """Share of the scenes without a broken promise: what `conformal_threshold` bounds from below."""
        return 1 - self.broken / self.scenes

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the coverage."""
        test = stats.binomtest(self.scenes - self.broken, self.scenes)
        found = test.proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)


def judge_rule(
    rule: str, ladders: Sequence[SourceLadder], target: float, choose: Callable[[SourceLadder], int | None]
) -> RuleReport:
    """Apply a rule to labelled ladders.

    Args:
        rule: Its name.
        ladders: One per source, at least one.
        target: Score units.
        choose: The rule: index of a rung, or `None`.
    """
    chosen = [choose(ladder) for ladder in ladders]
    short = [
        ladder.unit for i, ladder in zip(chosen, ladders, strict=True) if i is not None and ladder.quality[i] < target
    ]
    sent = [ladder.top if i is None else i for i, ladder in zip(chosen, ladders, strict=True)]
    saved = [1 - ladder.rates[i] / ladder.rates[ladder.top] for i, ladder in zip(sent, ladders, strict=True)]
    promised = sum(i is not None for i in chosen)
    scenes, broken = count_scenes(ladders), len({*short})
    return RuleReport(rule, len(ladders), promised, len(short), float(np.mean(saved)), scenes, broken)


@dataclass(frozen=True)
class CrossoverLoss:
    """What is lost where a prediction decides between codecs and sizes. NaN where there is nothing to decide.

    Attributes:
        loss: Label lost against the best ladder, score units, mean over the logarithm of the bit rate; at least 0.
        wrong: Share of that range in which another ladder is better than the one taken.
    """

    loss: float
    wrong: float


def crossover_loss(ladder: SourceLadder) -> CrossoverLoss:
    """Quality lost by taking, at each bit rate, the codec and size that predictions prefer instead of what labels do.

    Each ladder's predictions and labels are curves over log2 of the bit rate, linear between its rungs. At a rate that
    at least two ladders reach, the one with the highest predicted value is taken; the loss is the highest label among
    them less the label of the one taken, of equally predicted ones their mean. Where the curves of labels cross is
    where a streaming ladder should switch resolution ("cross-over", Zhu et al. 2025, arXiv 2504.01190): predictions
    that put it elsewhere cost quality in between, which a correlation does not show.

    Args:
        ladder: With labels. Rungs without a score are left out, and ladders of fewer than two others.
    """
    scored = ~np.isnan(ladder.predicted)
    names = np.array(ladder.ladders)
    curves = [np.flatnonzero((names == name) & scored) for name in dict.fromkeys(ladder.ladders)]
    curves = [rungs[np.argsort(ladder.rates[rungs], kind="stable")] for rungs in curves if len(rungs) > 1]
    if len(curves) < 2:
        return CrossoverLoss(math.nan, math.nan)
    logs = np.log2(ladder.rates)
    ends = [logs[rungs[[0, -1]]] for rungs in curves]
    grid = np.linspace(min(low for low, _ in ends), max(high for _, high in ends), RATE_POINTS)
    predicted, quality = (
        np.array([np.interp(grid, logs[r], values[r], left=np.nan, right=np.nan) for r in curves])
        for values in (ladder.predicted, ladder.quality)
    )
    shared = (~np.isnan(predicted)).sum(0) > 1
    if not shared.any():
        return CrossoverLoss(math.nan, math.nan)
    predicted, quality = predicted[:, shared], quality[:, shared]
    taken = np.nanmean(np.where(predicted == np.nanmax(predicted, 0), quality, np.nan), 0)
    lost = np.nanmax(quality, 0) - taken
    return CrossoverLoss(float(lost.mean()), float((lost > 1e-9).mean()))
