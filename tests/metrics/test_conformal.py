"""The monotone curve and its intervals: by hand, by another solver, and by what they promise on simulated labels."""

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from vqathinker.metrics.conformal import conformal_quantile, interval, leave_out, min_units
from vqathinker.metrics.monotone import CENTRES, LEAST_SLOPE, WIDTH, fit_monotone


def labelled(rng, count, sources):
    """Scores 1-5 with two decimals, and labels 0-100 that saturate. Clips of one source err alike."""
    quality = rng.uniform(1, 5, count)
    own = rng.normal(0, 7, count)[sources]
    scores = np.clip(quality + rng.normal(0, 0.45, count), 1, 5).round(2)
    return scores, 100 * special.expit((quality - 2.2) / 0.6) + rng.normal(0, 5, count) + own


def test_the_quantile_by_hand():
    values = [0.4, 0.1, 0.3, 0.2, 0.9, 0.5, 0.7, 0.6, 0.8]
    assert conformal_quantile(values, 0.1) == 0.9  # the ceil(10 * 0.9) = 9th of 9
    assert conformal_quantile(values, 0.25) == 0.8 and conformal_quantile(values, 0.5) == 0.5
    assert conformal_quantile(values[:8], 0.1) == math.inf and min_units(0.1) == 9
    # Three sources of 1/4 each, and 1/4 beyond all. Those of "a" have 1/12 each, so that up to 1, 2, 3, 5 and 9 there
    # are 1, 2, 5, 8 and 9 twelfths.
    values, units = [1, 2, 9, 3, 5], ["a", "a", "a", "b", "c"]
    assert conformal_quantile(values, 0.9, units) == 2 and conformal_quantile(values, 0.6, units) == 3
    assert conformal_quantile(values, 0.58, units) == 5  # 5/12 is less than 0.42
    assert conformal_quantile(values, 0.25, units) == 9 and conformal_quantile(values, 0.24, units) == math.inf


def test_the_curve_is_the_least_squares_one_and_rises_strictly():
    rng = np.random.default_rng(0)
    for count in (30, 50, 200):
        scores, labels = labelled(rng, count, np.arange(count))
        curve = fit_monotone(scores, labels)
        values = curve(np.arange(0, 5.0001, 1e-4))
        assert np.all(np.diff(values) > 0) and curve.slope > 0 and min(curve.weights) >= 0
        assert stats.spearmanr(curve(scores), labels).statistic == stats.spearmanr(scores, labels).statistic
        shuffled = rng.permutation(count)
        assert fit_monotone(scores[shuffled], labels[shuffled]) == curve
        # The same problem for a solver that takes bounds, with an intercept of its own.
        z = (scores - scores.mean()) / scores.std()
        rises = special.expit((z[:, None] - np.percentile(z, CENTRES)) / WIDTH)
        columns = np.column_stack([np.ones(count), z, rises])
        least = [-np.inf, LEAST_SLOPE * labels.std(), *[0] * len(CENTRES)]
        known = optimize.lsq_linear(columns, labels, (least, np.inf), method="bvls")
        assert np.sum((curve(scores) - labels) ** 2) == pytest.approx(2 * known.cost, rel=1e-6)
    line = fit_monotone([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    assert line([1, 2.5, 5]) == pytest.approx([10, 25, 50], abs=0.5) and math.isnan(line(math.nan))
    assert fit_monotone([3, 3, 3], [1, 2, 3])(3.0) == pytest.approx(2)  # what a left-out source may leave
    # numpy's deviation of such a score is 4e-16, not 0
    assert fit_monotone([3.3] * 49, np.arange(49))([3.3, 3.4]) == pytest.approx([24, 24], abs=0.1)
    flat = fit_monotone([1, 2, 3, 4], [0.1] * 4)
    assert flat.slope == pytest.approx(0, abs=1e-12) and flat([0, 9]) == pytest.approx([0.1, 0.1])


def test_leaving_out_leaves_out_whole_sources():
    scores, labels, units = [1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 4.0, 9.0], ["a", "b", "b", "c"]
    found = leave_out(lambda s, y: lambda x: np.full(len(x), y.mean()), scores, labels, units)
    assert [curve([0])[0] for curve in found.curves] == [5.0, 4.5, 2.0]
    assert found.errors.tolist() == [5.0, 2.5, 0.5, 7.0]
    low, high = interval(found.curves, found.margin(0.5), [2.0, 3.0])
    assert found.margin(0.5) == 5.0  # quarters: 1/8 at 0.5, 1/8 at 2.5, 1/4 at 5, 1/4 at 7
    assert low.tolist() == [-3.0, -3.0] and high.tolist() == [10.0, 10.0]


@pytest.mark.parametrize("per_source", [1, 4])
def test_intervals_of_50_labels_cover_what_they_promise(per_source):
    """On average over many label sets; each new clip is of a source of its own."""
    rng, covered, widths = np.random.default_rng(1), [], []
    for _ in range(40):
        sources = np.arange(50) // per_source
        scores, labels = labelled(rng, 50, sources)
        fresh, truth = labelled(rng, 200, np.arange(200))
        left_out = leave_out(fit_monotone, scores, labels, sources.tolist())
        low, high = interval(left_out.curves, left_out.margin(0.1), fresh)
        covered.append(np.mean((low <= truth) & (truth <= high)))
        widths.append(np.mean(high - low))
    assert 0.88 <= np.mean(covered) <= (0.95 if per_source == 1 else 0.99)  # few sources: rounded up to a whole one
    assert np.mean(widths) < 0.8 * np.ptp(np.quantile(truth, [0.05, 0.95]))  # and they say something
