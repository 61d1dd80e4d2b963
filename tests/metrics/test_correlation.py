import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vqathinker.data import BENCHMARKS, PUBLISHED_OVERALL
from vqathinker.metrics.correlation import bootstrap_interval, fit_logistic, krcc, mae, plcc, rmse, srcc, weighted_mean

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
    few = fit_logistic([1, 1, 2, 2, 3] * 4, [1, 2, 3, 4, 5] * 4)
    assert "fewer than 4 different scores" in few.error and math.isnan(few.plcc) and math.isnan(few.rmse)
    assert "flat" in fit_logistic(range(20), [3] * 20).error
    step = fit_logistic(range(20), [1] * 10 + [5] * 10)  # no covariance, and a perfect fit
    assert step.error == "" and step.rmse < 1e-3
    monkeypatch.setattr("vqathinker.metrics.correlation.MAX_EVALUATIONS", 5)
    stopped = fit_logistic(range(20), np.random.default_rng(0).random(20))
    assert "did not converge: Optimal parameters not found" in stopped.error and np.isnan(stopped.mapped).all()


def test_a_fit_of_four_parameters_needs_twenty_clips():
    four = fit_logistic([1, 2, 3, 4], [1.1, 2.4, 2.9, 4.2])  # which it would go through
    assert four.error == "no fit of 4 parameters on 4 clips, it needs 20 or more"
    assert math.isnan(four.plcc) and math.isnan(four.rmse) and np.isnan(four.mapped).all() and four.parameters == ()
    scores = np.linspace(1, 5, 20)
    assert "19 clips" in fit_logistic(scores[1:], scores[1:]).error and fit_logistic(scores, scores).error == ""


def test_the_error_of_scores_is_that_without_a_fit():
    assert mae([1, 2, 4], [1.5, 2, 3]) == 0.5
    assert rmse([1, 2, 4], [1.5, 2, 3]) == pytest.approx(math.sqrt(1.25 / 3))
    assert math.isnan(mae([], [])) and math.isnan(rmse([], []))
    with pytest.raises(ValueError, match="one score per label"):
        mae([1, 2], [1])


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
    assert bootstrap_interval(srcc, *pair, seed=3, sources=range(50)) == bootstrap_interval(srcc, *pair, seed=3)
    nearly_flat = [3.0] * 58 + [2.0, 4.0]  # a resample may hold 3.0 only
    low, high = bootstrap_interval(srcc, nearly_flat, range(60))
    assert -1 <= low < high <= 1


RUNGS = np.linspace(-1.5, 1.5, 10)
SOURCES = np.repeat(np.arange(20), 10)


def ladders(rng):
    """Scores and MOS of 20 sources x 10 rungs; a source has its own level of both."""
    noise = rng.normal(size=(2, 20, 10)) * 0.4
    return ((RUNGS + rng.normal(size=(2, 20, 1)) * 0.9 + noise).reshape(2, 200)).tolist()


@pytest.mark.parametrize("metric", [srcc, plcc, krcc])
def test_an_interval_over_sources_is_wider_than_one_over_clips(metric):
    scores, mos = ladders(np.random.default_rng(0))
    low, high = bootstrap_interval(metric, scores, mos, resamples=300)
    wide_low, wide_high = bootstrap_interval(metric, scores, mos, resamples=300, sources=SOURCES.tolist())
    assert wide_low < low < metric(scores, mos) < high < wide_high
    assert wide_high - wide_low > 1.3 * (high - low)
    mixed = np.random.default_rng(1).permutation(200)  # the order of the clips tells nothing
    other = bootstrap_interval(metric, np.array(scores)[mixed], np.array(mos)[mixed], 0, 300, SOURCES[mixed])
    assert other == pytest.approx((wide_low, wide_high), abs=0.05)


def resembling(rng):
    """Scores and MOS of 20 sources x 10 clips with a true correlation of 0.6, in sources as within them."""
    mixing = np.linalg.cholesky([[1, 0.6], [0.6, 1]])
    pairs = 0.9 * rng.normal(size=(20, 1, 2)) + np.sqrt(1 - 0.9**2) * rng.normal(size=(20, 10, 2))
    return (pairs @ mixing.T).reshape(200, 2).T.tolist()


RUNGS_SPREAD = float(np.mean(RUNGS**2))  # all sources share the rungs


@pytest.mark.parametrize(
    ("simulate", "truth", "over_sources", "over_clips"),
    [(resembling, 0.6, 0.87, 0.67), (ladders, RUNGS_SPREAD / (RUNGS_SPREAD + 0.9**2 + 0.4**2), 0.8, 0.67)],
)
def test_an_interval_over_sources_holds_the_truth_far_more_often(simulate, truth, over_sources, over_clips):
    def pearson(x, y):  # as plcc, many times as fast
        x, y = x - x.mean(), y - y.mean()
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    rng = np.random.default_rng(0)
    held = {"sources": 0, "clips": 0}
    for seed in range(100):
        pair = simulate(rng)
        for over, sources in (("sources", SOURCES), ("clips", None)):
            low, high = bootstrap_interval(pearson, *pair, seed, resamples=150, sources=sources)
            held[over] += low < truth < high
    assert held["sources"] >= 100 * over_sources and held["clips"] <= 100 * over_clips


def test_sources_must_be_told_for_each_clip_and_be_two_or_more():
    with pytest.raises(ValueError, match="2 sources for 3 clips: need one source per clip"):
        bootstrap_interval(srcc, [1, 2, 3], [1, 2, 3], sources=["a", "b"])
    assert all(math.isnan(end) for end in bootstrap_interval(srcc, [1, 2, 3], [1, 3, 2], sources=["a", "a", "a"]))
    assert all(math.isnan(end) for end in bootstrap_interval(srcc, [1, 1], [1, 2], sources=["a", "b"]))
    assert all(math.isnan(end) for end in bootstrap_interval(srcc, [], [], sources=[]))
