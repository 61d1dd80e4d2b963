import math

import numpy as np
import pytest

from vqathinker.metrics.agreement import agreement


def test_agreement_finds_what_a_simulation_was_made_with():
    rng = np.random.default_rng(0)
    quality = rng.normal(size=4000)
    for raters in (4, 5):
        matrix = quality[:, None] + rng.normal(size=(4000, raters)) + rng.normal(size=raters)  # each with a bias
        found = agreement(matrix)
        reliability = 1 / (1 + 1 / raters)  # variance 1 of quality, 1 / raters of the mean's noise
        assert found.reliability == pytest.approx(reliability, abs=0.01)
        assert found.ceiling == pytest.approx(np.corrcoef(quality, matrix.mean(axis=1))[0, 1], abs=0.01)
        assert np.mean(found.plcc) == pytest.approx(1 / math.sqrt(2 * (1 + 1 / (raters - 1))), abs=0.02)
        covariance = np.cov(matrix.T)
        alpha = raters / (raters - 1) * (1 - np.trace(covariance) / covariance.sum())  # Cronbach's
        assert found.reliability == pytest.approx(alpha, abs=0.005)
        assert found.reliability == agreement(matrix).reliability


def test_agreement_with_missing_ratings_is_not_too_high():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3000, 1)) + rng.normal(size=(3000, 10))
    matrix[rng.random(matrix.shape) < 0.3] = np.nan
    assert 1 / (1 + 1 / 7) - 0.03 < agreement(matrix).reliability < 1 / (1 + 1 / 7) + 0.01


def test_agreement_by_hand():
    found = agreement(np.array([[1, 2], [2, 1], [3, 3.0]]))
    assert found.srcc == pytest.approx((0.5, 0.5)) and found.plcc == pytest.approx((0.5, 0.5))
    assert found.reliability == pytest.approx(2 * 0.5 / 1.5)
    assert found.ceiling == pytest.approx(math.sqrt(2 / 3))
    assert found.text() == (
        "2 raters; one rater against the mean of the others: SRCC 0.50 (0.50 to 0.50); MOS reliability 0.67, so a "
        "perfect predictor would reach about 0.82"
    )
    assert agreement(np.array([[1, 3], [2, 2], [3, 1.0]])).reliability == 0  # they contradict each other


@pytest.mark.parametrize("matrix", [np.ones((5, 1)), np.array([[1, 2], [2, 1.0]]), np.ones((5, 3)), np.ones((0, 0))])
def test_agreement_that_cannot_be_told(matrix):
    found = agreement(matrix)
    assert math.isnan(found.reliability) and math.isnan(found.ceiling) and all(map(math.isnan, found.srcc))
    assert found.text().endswith("how well raters agree is unknown")
