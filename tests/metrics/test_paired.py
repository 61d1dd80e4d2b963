import math

import numpy as np
import pytest

from vqathinker.metrics.correlation import bootstrap_interval, plcc, srcc
from vqathinker.metrics.paired import correlation_difference


def test_a_policy_against_itself_differs_by_nothing():
    scores, mos = [1.0, 3.0, 2.0, 5.0, 4.0], [1, 2, 3, 4, 5]
    for metric in (srcc, plcc):
        found = correlation_difference(metric, scores, scores, mos)
        assert (found.difference, found.low, found.high) == (0, 0, 0) and found.before == found.after == pytest.approx(
            0.8
        )


def test_right_against_upside_down_is_two_in_every_resample():
    mos = [1, 2, 3, 4, 5, 6]
    found = correlation_difference(srcc, [-m for m in mos], mos, mos)
    assert (found.before, found.after) == pytest.approx((-1, 1))
    assert (found.difference, found.low, found.high) == pytest.approx((2, 2, 2))


def test_of_two_sources_a_resample_is_one_of_three():
    """Both of a: from -1 to 1. One of each: from 1 - 6 * 2 / (4 * 15) = 0.8 to 1. Both of b: no change."""
    mos, before = [1, 2, 3, 4], [2, 1, 3, 4]
    found = correlation_difference(srcc, before, mos, mos, sources=["a", "a", "b", "b"])
    assert (found.before, found.after, found.difference) == pytest.approx((0.8, 1, 0.2))
    assert (found.low, found.high) == pytest.approx((0, 2))


def test_what_both_policies_share_cancels_in_the_difference():
    rng = np.random.default_rng(0)
    mos = rng.normal(size=60)
    before = mos + rng.normal(size=60)
    after = before + 0.3 * (mos - before)  # a little nearer to the labels, on every clip
    found = correlation_difference(plcc, before, after, mos, resamples=300)
    assert 0 < found.low < found.difference < found.high
    own = [bootstrap_interval(plcc, scores, mos, resamples=300) for scores in (before, after)]
    assert own[0][1] > own[1][0]  # whose own intervals overlap
    assert found.high - found.low < min(high - low for low, high in own)
    assert correlation_difference(plcc, before, after, mos, resamples=300) == found


def test_what_is_undefined_is_nan_and_lengths_must_agree():
    flat = correlation_difference(srcc, [3, 3, 3], [1, 2, 3], [1, 2, 3])
    assert math.isnan(flat.before) and flat.after == pytest.approx(1)
    assert all(math.isnan(value) for value in (flat.difference, flat.low, flat.high))
    assert math.isnan(correlation_difference(srcc, [], [], []).difference)
    one = correlation_difference(srcc, [1, 2], [2, 1], [1, 2], sources=["a", "a"])
    assert one.difference == pytest.approx(-2) and math.isnan(one.low)
    with pytest.raises(
        ValueError, match=r"before has shape \(2,\), after \(1,\), mos \(2,\): need one score per policy"
    ):
        correlation_difference(srcc, [1, 2], [1], [1, 2])
