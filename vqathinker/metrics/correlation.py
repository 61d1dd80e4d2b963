"""How well predicted scores agree with MOS."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from vqathinker.wording import counted

MAX_EVALUATIONS = 20_000
"""Of the logistic, in its fit."""
MIN_FIT_CLIPS = 20
"""For the logistic: five for each of its four parameters. With fewer it follows the noise; four clips fit exactly."""

Numbers = Sequence[float] | np.ndarray
Metric = Callable[[np.ndarray, np.ndarray], float]


def srcc(scores: Numbers, mos: Numbers) -> float:
    """Spearman rank correlation in [-1, 1]; NaN where undefined (fewer than 2 clips, or one side constant).

    Args:
        scores: N predicted scores.
        mos: N labels.

    Raises:
        ValueError: If the lengths differ.
    """
    return _correlation(stats.spearmanr, scores, mos)


def plcc(scores: Numbers, mos: Numbers) -> float:
    """Pearson linear correlation, raw as in the paper. Args, result and errors as `srcc`."""
    return _correlation(stats.pearsonr, scores, mos)


def krcc(scores: Numbers, mos: Numbers) -> float:
    """Kendall rank correlation tau-b. Args, result and errors as `srcc`."""
    return _correlation(stats.kendalltau, scores, mos)


def mae(scores: Numbers, mos: Numbers) -> float:
    """Mean absolute error of scores, in score units; NaN without clips.

    Args:
        scores: N predicted scores.
        mos: N labels, in score units.

    Raises:
        ValueError: If the lengths differ.
    """
    scores, mos = checked(scores, mos)
    return float(np.mean(np.abs(scores - mos))) if len(scores) else math.nan


def rmse(scores: Numbers, mos: Numbers) -> float:
    """Root mean squared error of scores, without a fit. Args, result and errors as `mae`."""
    scores, mos = checked(scores, mos)
    return float(np.sqrt(np.mean((scores - mos) ** 2))) if len(scores) else math.nan


@dataclass(frozen=True)
class LogisticFit:
    """Scores mapped to MOS by the 4-parameter logistic (VQEG): b2 + (b1 - b2) / (1 + exp(-(s - b3) / |b4|)).

    Attributes:
        plcc: Pearson correlation of mapped scores and MOS; NaN without a fit.
        rmse: Root mean squared error of mapped scores, MOS units; NaN without a fit.
        mapped: The mapped scores, (N,); NaN without a fit.
        parameters: b1, b2, b3, b4; none without a fit.
        error: Why there is no fit, else "".
    """

    plcc: float
    rmse: float
    mapped: np.ndarray
    parameters: tuple[float, ...] = ()
    error: str = ""

    def curve(self, scores: np.ndarray) -> np.ndarray:
        """The logistic at other scores, (M,) -> (M,)."""
        return _logistic(scores, *self.parameters)


def fit_logistic(scores: Numbers, mos: Numbers) -> LogisticFit:
    """Least-squares fit of the 4-parameter logistic; none with fewer than `MIN_FIT_CLIPS` clips or 4 different scores.

    Args:
        scores: N predicted scores.
        mos: N labels.

    Raises:
        ValueError: If the lengths differ.
    """
    scores, mos = checked(scores, mos)

    def failed(error: str) -> LogisticFit:
        return LogisticFit(math.nan, math.nan, np.full(len(scores), math.nan), error=error)

    if len(scores) < MIN_FIT_CLIPS:
        return failed(f"no fit of 4 parameters on {counted(len(scores), 'clip')}, it needs {MIN_FIT_CLIPS} or more")
    if len(np.unique(scores)) < 4:
        return failed("fewer than 4 different scores for 4 parameters")
    ends = [mos.max(), mos.min()]
    start = [*(ends if plcc(scores, mos) >= 0 else ends[::-1]), scores.mean(), scores.std() / 4]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)  # a step has no covariance, but it fits
            found, _ = optimize.curve_fit(_logistic, scores, mos, start, maxfev=MAX_EVALUATIONS)
    except RuntimeError as error:
        return failed(f"the fit did not converge: {str(error).splitlines()[0].rstrip('.')}")
    mapped = _logistic(scores, *found)
    if np.ptp(mapped) < 1e-9:
        return failed("the fitted curve is flat")
    return LogisticFit(plcc(mapped, mos), float(np.sqrt(np.mean((mapped - mos) ** 2))), mapped, tuple(found))


def _logistic(s: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return b2 + (b1 - b2) / (1 + np.exp(-np.clip((s - b3) / max(abs(b4), 1e-9), -500, 500)))


def bootstrap_interval(
    metric: Metric,
    scores: Numbers,
    mos: Numbers,
    seed: int = 0,
    resamples: int = 1000,
    sources: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a correlation; clips, or whole sources, are drawn with replacement.

    Clips of one source resemble each other, so that an interval over clips is too narrow for other sources. Drawing
    sources with all of their clips is the cluster bootstrap (Davison and Hinkley, 1997, section 3.8). With few sources
    its interval is still too narrow: of 20 it holds the true correlation in less than 95 % of the cases.

    Args:
        metric: `srcc`, `plcc` or `krcc`.
        scores: N predicted scores.
        mos: N labels.
        seed: Of the resamples.
        resamples: How many.
        sources: N names of what each clip was made from; default each clip from its own. If no two are equal, the
            interval is the one over clips.

    Returns:
        Low and high end, of the resamples in which the metric is defined; NaN if that is not even half of them, or with
        fewer than 2 sources.

    Raises:
        ValueError: If the lengths differ.
    """
    scores, mos = checked(scores, mos)
    clips = clips_by_source(range(len(scores)) if sources is None else sources, len(scores))
    if math.isnan(metric(scores, mos)) or len(clips) < 2:
        return math.nan, math.nan

    def of_drawn(drawn: np.ndarray) -> float:
        places = drawn if len(clips) == len(scores) else np.concatenate([clips[i] for i in drawn])
        return metric(scores[places], mos[places])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of resamples in which the metric is undefined
        result = stats.bootstrap(
            (np.arange(len(clips)),),
            of_drawn,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    values = result.bootstrap_distribution[~np.isnan(result.bootstrap_distribution)]
    if len(values) < resamples / 2:
        return math.nan, math.nan
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def clips_by_source(sources: Sequence[Hashable], num_clips: int) -> list[np.ndarray]:
    """Places of each source's clips, sources in the order of their first clip.

    Raises:
        ValueError: If the numbers differ.
    """
    if len(sources) != num_clips:
        raise ValueError(f"{len(sources)} sources for {num_clips} clips: need one source per clip.")
    places: dict[Hashable, list[int]] = {}
    for place, source in enumerate(sources):
        places.setdefault(source, []).append(place)
    return [np.array(own) for own in places.values()]


def weighted_mean(values: Sequence[float], counts: Sequence[int]) -> float:
    """Mean over test sets, weighted by their numbers of videos (paper's "Overall"); undefined sets are left out."""
    known = [(value, count) for value, count in zip(values, counts, strict=True) if not math.isnan(value)]
    if not known:
        return math.nan
    return float(np.average([value for value, _ in known], weights=[count for _, count in known]))


def _correlation(measure: Callable, scores: Numbers, mos: Numbers) -> float:
    scores, mos = checked(scores, mos)
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(mos) == 0:
        return math.nan
    return float(measure(scores, mos).statistic)


def checked(scores: Numbers, mos: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays (N,) of floats; raises ValueError if their lengths differ."""
    scores, mos = np.asarray(scores, dtype=float), np.asarray(mos, dtype=float)
    if scores.shape != mos.shape or scores.ndim != 1:
        raise ValueError(f"scores has shape {scores.shape}, mos {mos.shape}: need one score per label.")
    return scores, mos
