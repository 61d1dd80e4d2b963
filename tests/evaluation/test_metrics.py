import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vqathinker.data import BENCHMARKS, PUBLISHED_OVERALL
from vqathinker.evaluation.metrics import bootstrap_interval, fit_logistic, krcc, plcc, srcc, weighted_mean

lists = st.lists(st.floats(1, 5), min_size=3, max_size=20, unique=True)


@given(lists, st.randoms())
def test_correlations_are_scipys(values, chance):
    other = [v + chance.random() for v in values]
    assert srcc(values, other) == pytest.approx(stats.spearmanr(values, other).statistic)
    assert plcc(values, other) == pytest.approx(stats.pearsonr(values, other).statistic)
    assert krcc(values, other) == pytest.approx(stats.kendalltau(values, other).statistic)


def test_undefined_correlations_are_nan():
    assert math.isnan(srcc([1, 1, 1], [1, 2, 3])) and math.isnan(plcc([1], [2])) and math.isnan(krcc([], []))
    with pytest.raises(ValueError, match="one score per label"):
        srcc([1, 2], [1])


@pytest.mark.parametrize("domain", ["in-domain", "ood"])
def test_the_weighted_mean_gives_the_papers_overall_values(domain):
    sets = [benchmark for benchmark in BENCHMARKS.values() if benchmark.domain == domain]
    counts = [benchmark.num_videos for benchmark in sets]
    found = [round(weighted_mean([b.published[i] for b in sets], counts), 3) for i in (0, 1)]
    assert tuple(found) == PUBLISHED_OVERALL[domain] and len(sets) == 5


def test_an_undefined_set_is_left_out_of_the_mean():
    assert weighted_mean([0.5, math.nan, 0.8], [1, 9, 2]) == pytest.approx(0.7)
    assert math.isnan(weighted_mean([math.nan], [3]))


def test_the_logistic_fit_finds_the_curve_and_its_error():
    scores = np.linspace(1, 5, 60)
    noise = np.random.default_rng(0).normal(0, 2, 60)
    truth = 20 + 60 / (1 + np.exp(-(scores - 3) / 0.4))
    fit = fit_logistic(scores, truth + noise)
    assert fit.error == "" and np.abs(fit.mapped - truth).max() < 2
    assert np.allclose(fit.curve(scores), fit.mapped)
    assert fit.rmse == pytest.approx(np.sqrt(np.mean((fit.mapped - truth - noise) ** 2))) and fit.rmse < 2.2
    assert fit.plcc == pytest.approx(stats.pearsonr(fit.mapped, truth + noise).statistic)
    assert fit.plcc > plcc(scores, truth + noise)
    falling = fit_logistic(scores, -(truth + noise))  # a metric of distortion
    assert falling.plcc == pytest.approx(fit.plcc, abs=1e-3)


def test_a_fit_that_does_not_converge_says_so(monkeypatch):
    few = fit_logistic([1, 1, 2, 2, 3], [1, 2, 3, 4, 5])
    assert "fewer than 4 different scores" in few.error and math.isnan(few.plcc) and math.isnan(few.rmse)
    assert "flat" in fit_logistic([1, 2, 3, 4, 5, 6], [3, 3, 3, 3, 3, 3]).error
    step = fit_logistic([1, 2, 3, 4, 5, 6], [1, 1, 1, 5, 5, 5])  # no covariance, and a perfect fit
    assert step.error == "" and step.rmse < 1e-3
    monkeypatch.setattr("vqathinker.evaluation.metrics.MAX_EVALUATIONS", 5)
    stopped = fit_logistic(range(20), np.random.default_rng(0).random(20))
    assert "did not converge: Optimal parameters not found" in stopped.error and np.isnan(stopped.mapped).all()


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        x = rng.normal(size=80)
        low, high = bootstrap_interval(plcc, x, 0.8 * x + 0.6 * rng.normal(size=80), seed, resamples=200)
        covered += low < 0.8 < high
    assert 50 <= covered <= 60
    x = rng.normal(size=50)
    assert bootstrap_interval(srcc, x, x + 1, seed=3) == pytest.approx((1, 1))
    pair = (x, x + rng.normal(size=50))
    assert bootstrap_interval(krcc, *pair, seed=3) == bootstrap_interval(krcc, *pair, seed=3)
    assert all(math.isnan(end) for end in bootstrap_interval(srcc, [1, 1], [1, 2]))
    nearly_flat = [3.0] * 58 + [2.0, 4.0]  # a resample may hold 3.0 only
    low, high = bootstrap_interval(srcc, nearly_flat, range(60))
    assert -1 <= low < high <= 1
