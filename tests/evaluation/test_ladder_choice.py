"""The rule of `vqathinker ladder`: by hand-made numbers, and by a simulation of its promise."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from vqathinker.evaluation.ladder_choice import (
    SourceLadder,
    conformal_threshold,
    count_scenes,
    crossover_loss,
    judge_rule,
    scene_thresholds,
    threshold_of,
)
from vqathinker.evaluation.ladder_pilot import crossover_table
from vqathinker.metrics.conformal import min_units

NUMBERS = itertools.count()


def ladder(rates, predicted, quality=None, names=None, source=""):
    """A source of its own, if it is not named."""
    names = tuple(names or ["h264 360"] * len(rates))
    quality = np.full(len(rates), np.nan) if quality is None else np.array(quality, float)
    return SourceLadder(
        source or f"source {next(NUMBERS)}", names, np.array(rates, float), np.array(predicted, float), quality
    )


def test_the_cheapest_rung_above_the_threshold_is_chosen():
    one = ladder([800, 100, 200, 400, 50], [4.5, 3.0, 3.6, 3.5, math.nan], [4.6, 2.0, 3.0, 3.9, 1.0])
    assert one.top == 0 and one.candidates() == [1, 2, 0]  # 400 kbit/s is predicted below 200: never chosen
    assert [one.choose(t) for t in (-math.inf, 2.99, 3.0, 3.55, 3.6, 4.5)] == [1, 1, 2, 2, 0, None]
    assert one.cheapest_kept(3.8) == 3 and one.cheapest_kept(4.7) is None and one.cheapest_kept(3.0) == 2
    # of equal rates the better predicted one
    assert ladder([100, 100, 200], [3.0, 4.0, 4.5]).candidates() == [1, 2]
    assert ladder([100, 200], [math.nan, math.nan]).choose(-math.inf) is None


def test_the_threshold_of_a_source_is_where_its_last_failure_ends():
    # candidates at 100 (3.0, label 4.0), 200 (3.6, label 2.0) and 800 (4.5, label 4.6): quality falls in between
    one = ladder([100, 200, 400, 800], [3.0, 3.6, 3.5, 4.5], [4.0, 2.0, 1.0, 4.6])
    assert threshold_of(one, 3.8) == 3.6  # the good rung at 100 does not excuse the failure at 200
    assert threshold_of(one, 4.1) == 3.6 and threshold_of(one, 4.7) == 4.5 and threshold_of(one, 2.0) == -math.inf
    fails = [t for t in np.arange(2, 5, 0.01) if (i := one.choose(t)) is not None and one.quality[i] < 3.8]
    assert max(fails) < 3.6 <= max(fails) + 0.0101


def test_the_quantile_is_the_kth_of_n_and_too_few_sources_are_refused():
    values = [0.5, 3.0, 1.0, 2.5, 2.0, 1.5, 4.0, 3.5, 0.0]
    assert conformal_threshold(values, 0.1) == 4.0  # ceil(10 * 0.9) = 9
    assert conformal_threshold(values, 0.2) == 3.5 and conformal_threshold(values, 0.5) == 2.0
    assert [min_units(risk) for risk in (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)] == [1, 3, 4, 9, 19, 99]
    with pytest.raises(ValueError, match=r"risk 0\.1 needs at least 9 calibration scenes, these are 8: .*0\.112 or"):
        conformal_threshold(values[:8], 0.1)
    assert conformal_threshold(values[:8], 0.112) == 4.0
    for wrong in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            min_units(wrong)


def random_source(rng, step):
    """Three ladders of six rungs; predictions err by source and by rung, and are as coarse as `step`."""
    rates, quality, names = [], [], []
    best, slope = rng.uniform(3.9, 4.9), rng.uniform(0.8, 1.8)
    for name, gain, cap in (("h264 360", 0, 0), ("hevc 360", 1, 0), ("h264 180", 0.6, 0.6)):
        octaves = np.linspace(0, 5, 6) + rng.normal(0, 0.1)
        rates += list(2**octaves)
        quality += list(1 + (best - cap - 1) / (1 + np.exp(-slope * (octaves - 2 + gain))))
        names += [name] * 6
    noise = rng.normal(0.4, 0.3) + rng.normal(0, 0.3, len(rates))
    return ladder(rates, np.round((np.array(quality) + noise) / step) * step, quality, names)


@pytest.mark.parametrize("step", [1e-6, 0.5])  # as fine as `expected`, and with ties
def test_the_promise_holds_on_new_sources(step):
    """P(promised and short) is a mean over calibrations, each of 9 sources and judged on 10 others."""
    rng = np.random.default_rng(0)
    target, risk, runs = 3.5, 0.1, 150
    short, plain = [], []
    for _ in range(runs):
        known = [random_source(rng, step) for _ in range(9)]
        threshold = conformal_threshold([threshold_of(one, target) for one in known], risk)
        new = [random_source(rng, step) for _ in range(10)]
        short.append(1 - judge_rule("bound", new, target, lambda one, t=threshold: one.choose(t)).coverage)
        plain.append(1 - judge_rule("scores", new, target, lambda one: one.choose(target)).coverage)
    error = np.std(short, ddof=1) / math.sqrt(runs)
    assert np.mean(short) <= risk + 3 * error and error < 0.01
    assert np.mean(short) > 0.03  # nor is it far below, as a bound that never promises would be
    assert np.mean(plain) > 0.25  # scores taken as they are do not keep it


def test_a_rule_is_judged_by_what_it_promises_and_saves():
    ladders = [
        ladder([100, 200, 400], [3.0, 4.0, 4.5], [2.5, 3.9, 4.4]),
        ladder([100, 200, 800], [4.1, 4.2, 4.3], [3.0, 3.9, 4.0]),
        ladder([100, 300, 400], [1.0, 2.0, 3.0], [2.0, 3.9, 4.0]),
    ]
    found = judge_rule("scores", ladders, 3.8, lambda one: one.choose(3.8))
    # chosen: 200 of 400 (kept), 100 of 800 (short), none
    assert (found.sources, found.promised, found.short) == (3, 2, 1)
    assert found.saved == pytest.approx((0.5 + 0.875 + 0) / 3) and found.coverage == pytest.approx(2 / 3)
    # Clopper-Pearson for 2 of 3: Beta(2, 2) at 0.025 and Beta(3, 1) at 0.975, which is 0.975 ** (1 / 3)
    assert found.interval == pytest.approx((0.0943, 0.975 ** (1 / 3)), abs=1e-4)
    known = judge_rule("labels", ladders, 3.8, lambda one: one.cheapest_kept(3.8))
    assert (known.promised, known.short) == (3, 0) and known.saved == pytest.approx((0.5 + 0.75 + 0.25) / 3)


def test_the_cross_over_loss_by_hand():
    names = ["a", "a", "b", "b"]
    # labels over log2 of the rate x in [0, 4]: a = 1 + x, b = 3; they cross at x = 2
    rates, quality = [1, 16, 1, 16], [1, 5, 3, 3]
    right = crossover_loss(ladder(rates, quality, quality, names))
    assert right.loss == pytest.approx(0, abs=1e-9) and right.wrong == 0
    # predicted to cross at x = 3: between 2 and 3 b is taken, at a loss of x - 2: 0.5 over 4 octaves
    late = crossover_loss(ladder(rates, [1, 5, 4, 4], quality, names))
    assert late.loss == pytest.approx(0.125, abs=1e-3) and late.wrong == pytest.approx(0.25, abs=0.003)
    # b always: the triangle right of 2 has 2 over 4 octaves; equal predictions count as the mean of both
    assert crossover_loss(ladder(rates, [1, 2, 3, 3], quality, names)).loss == pytest.approx(0.5, abs=1e-2)
    tied = crossover_loss(ladder(rates, [3, 3, 3, 3], quality, names))
    assert tied.loss == pytest.approx(0.5, abs=1e-2) and tied.wrong == pytest.approx(1, abs=0.01)  # |x - 2| / 2
    # b reaches only x in [2, 4]: nothing is decided below
    part = crossover_loss(ladder([1, 16, 4, 16], [1, 5, 6, 6], quality, names))
    assert part.loss == pytest.approx(1, abs=1e-2)
    for nothing in (
        ladder([1, 2], [1, 2], [1, 2]),
        ladder([1, 2, 4, 8], [1, 2, 3, 4], [1, 2, 3, 4], names),
        ladder(rates, [1, 5, math.nan, 3], quality, names),
    ):
        assert math.isnan(crossover_loss(nothing).loss)


def test_a_scene_of_several_sources_counts_once():
    """Ten cuts of one match, of which one fails up to 4.4, and nine others that never fail."""
    match = [ladder([100, 200], [3.0, 4.4 if i == 7 else 3.5], [4.0, 2.0 if i == 7 else 4.5]) for i in range(10)]
    cuts = [replace(one, source=f"cut {i}", scene="match") for i, one in enumerate(match)]
    others = [ladder([100, 200], [3.0, 4.0], [4.0, 4.5], source=f"s{i}") for i in range(9)]
    known = [*cuts, *others]
    assert count_scenes(known) == 10 and sorted(scene_thresholds(known, 3.8)) == [-math.inf] * 9 + [4.4]
    assert conformal_threshold(scene_thresholds(known, 3.8), 0.1) == 4.4  # ceil(11 * 0.9) = 10 of 10
    with pytest.raises(ValueError, match="at least 9 calibration scenes, these are 1"):
        conformal_threshold(scene_thresholds(cuts, 3.8), 0.1)
    found = judge_rule("scores", known, 3.8, lambda one: one.choose(3.9))
    assert (found.sources, found.promised, found.short, found.scenes, found.broken) == (19, 10, 1, 10, 1)
    assert found.coverage == 0.9 and found.interval[0] == pytest.approx(0.555, abs=1e-3)  # 9 of 10


def test_always_one_ladder_leaves_out_what_has_no_score():
    """Rungs of "b" without a score are in no row of the table: "a" alone is nothing to decide."""
    names = ["a", "a", "b", "b"]
    told = {
        row[0]: row[1]
        for row in crossover_table([ladder([1, 16, 1, 16], [1, 5, 4, math.nan], [1, 5, 3, 3], names)]).rows
    }
    assert told == {"the policy": 0, "always a": 0, "always b": 0}
