import math
import time

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import kendalltau

from vqathinker.metrics.ranking import abilities_of, bradley_terry, most_comparisons, tournament, wins_of


def test_two_clips_lie_the_logarithm_of_their_odds_apart():
    found = bradley_terry(np.array([[0, 3], [1, 0]]), prior=1e3)
    assert found.values == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=1e-4)
    # The difference's variance is 1 / (n p (1 - p)) = 1 / (4 * 3/16); an ability is half the difference.
    assert found.high[0] - found.values[0] == pytest.approx(1.6449 * math.sqrt(4 / 3) / 2, abs=1e-3)
    assert list(found.groups) == [0, 0]


def zermelo(wins, steps=3000):
    """Independently, without a prior: the iteration of Zermelo (1929), Hunter's MM."""
    total, strength = wins + wins.T, np.ones(len(wins))
    for _ in range(steps):
        strength = wins.sum(1) / (total / (strength[:, None] + strength)).sum(1)
        strength /= np.exp(np.log(strength).mean())
    return np.log(strength)


def test_abilities_are_those_of_zermelos_iteration():
    wins = np.random.default_rng(0).random((6, 6)) * 3
    np.fill_diagonal(wins, 0)
    assert bradley_terry(wins, prior=1e4).values == pytest.approx(zermelo(wins), abs=1e-4)


def test_a_clip_that_never_lost_is_finite_and_a_tie_is_half_a_win():
    unbeaten = bradley_terry(wins_of(3, [(0, 1), (1, 2), (0, 2)], [1.0, 0.5, 1.0]))
    assert np.isfinite(unbeaten.values).all() and unbeaten.values[0] > 1
    assert unbeaten.values[1] == pytest.approx(unbeaten.values[2], abs=1e-6)
    assert (unbeaten.low < unbeaten.values).all() and (unbeaten.values < unbeaten.high).all()


def test_clips_that_nothing_joins_are_groups_of_their_own():
    found = bradley_terry(wins_of(6, [(0, 3), (1, 4), (0, 2)], [0.9, 0.2, math.nan]))
    assert found.groups[0] == found.groups[3] and found.groups[1] == found.groups[4]
    assert len({*found.groups}) == 4
    assert found.values[0] == pytest.approx(-found.values[3]) and found.values[1] < 0
    for numbers in (found.values, found.low, found.high):
        assert list(np.isnan(numbers)) == [False, False, True, False, False, True]


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, inside = np.random.default_rng(0), []
    for _ in range(15):
        truth = rng.normal(0, 2, 15)
        truth -= truth.mean()
        found = bradley_terry(wins_of(15, *tournament(lambda pairs, t=truth: drawn(rng, pairs, t), 15)))
        inside += [*((found.low <= truth) & (truth <= found.high))]
    assert 0.84 < np.mean(inside) < 0.95


def drawn(rng, pairs, truth):
    """A judge that names one of the two, with Bradley and Terry's probability."""
    return [float(rng.random() < expit(truth[i] - truth[j])) for i, j in pairs]


def test_a_tournament_finds_the_order_with_a_judge_that_is_wrong_in_a_tenth_of_the_pairs():
    count, right, taus = 20, [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        truth, noise = rng.permutation(count), rng.normal(0, 1.5, (count, count))
        preference = expit(0.45 * (truth[:, None] - truth) + np.triu(noise) - np.triu(noise).T)
        pairs, said = tournament(lambda pairs, p=preference: [p[i, j] for i, j in pairs], count)
        right += [*((preference > 0.5) == (truth[:, None] > truth))[np.triu_indices(count, 1)]]
        taus.append(kendalltau(bradley_terry(wins_of(count, pairs, said)).values, truth)[0])
        assert len(pairs) == len({*pairs}) == 87 == math.ceil(20 * math.log2(20))
    assert np.mean(right) == pytest.approx(0.9, abs=0.02)
    assert np.mean(taus) > 0.9


def test_a_tournament_repeats_and_each_round_takes_a_clip_once():
    rounds = []

    def judge(pairs):
        rounds.append(pairs)
        return [1.0 if i < j else 0.0 for i, j in pairs]

    first = tournament(judge, 7, start=[1, 7, 2, 6, 3, 5, 4])
    assert sorted(rounds[0]) == [(0, 2), (1, 3), (4, 6)]  # neighbours in the start
    assert all(len({clip for pair in pairs for clip in pair}) == 2 * len(pairs) for pairs in rounds)
    assert tournament(judge, 7, start=[1, 7, 2, 6, 3, 5, 4]) == first
    assert len(first[0]) == most_comparisons(7) == 20
    assert [most_comparisons(n) for n in (0, 1, 2, 3, 9)] == [0, 0, 1, 3, 29]


def test_a_judge_without_an_answer_is_not_asked_again():
    asked = []
    pairs, said = tournament(lambda pairs: asked.append(1) or [math.nan] * len(pairs), 8)
    assert len(asked) == 1 and len(pairs) == 4 and all(map(math.isnan, said))
    pairs, said = tournament(lambda pairs: [math.nan if i == 0 else 1.0 for i, _ in pairs], 5)
    assert len(pairs) == 10 and sum(map(math.isnan, said)) == 4
    assert tournament(lambda pairs: 1 / 0, 1) == ([], [])


@pytest.mark.parametrize(
    ("wins", "said"),
    [
        (np.ones((2, 3)), "wins has shape"),
        (np.eye(2), "0 on the diagonal"),
        (np.array([[0, -1], [1, 0]]), "finite numbers >= 0"),
        (np.array([[0, np.nan], [1, 0]]), "finite numbers >= 0"),
    ],
)
def test_what_are_no_wins_is_named(wins, said):
    with pytest.raises(ValueError, match=said):
        bradley_terry(wins)
    with pytest.raises(ValueError, match="prior=0"):
        bradley_terry(np.zeros((2, 2)), prior=0)


def test_a_tie_of_ten_among_five_thousand_clips_is_all_that_is_fitted():
    groups = [min(i, 4990) for i in range(5000)]
    truth = np.arange(5000)
    asked = []

    def judge(pairs):
        asked.append(pairs)
        return [float(expit(truth[i] - truth[j])) for i, j in pairs]

    began = time.process_time()
    pairs, said = tournament(judge, 5000, groups=groups)
    found = abilities_of(5000, pairs, said)
    assert time.process_time() - began < 1  # a table of all would take a minute
    alone, said_alone = tournament(lambda pairs: [float(expit(i - j)) for i, j in pairs], 10)
    assert [(i - 4990, j - 4990) for i, j in pairs] == alone and len(asked[0]) == 5 and len(alone) == 34
    assert found.values[4990:] == pytest.approx(bradley_terry(wins_of(10, alone, said_alone)).values, abs=1e-6)
    assert np.isnan(found.values[:4990]).all() and [*np.argsort(found.values[4990:])] == [*range(10)]
    assert len({*found.groups}) == 4991
