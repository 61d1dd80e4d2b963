"""From comparisons of two to an order: abilities (Bradley-Terry), and which pairs to compare next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit
from scipy.stats import norm

PRIOR = 3.0
"""Standard deviation of abilities before any comparison: 19 clips in 20 then lie within 5.9 of the mean, which is odds
of 360 to 1. It keeps clips that never lost, or never won, finite."""
CONFIDENCE = 0.9

Pair = tuple[int, int]
Judge = Callable[[Sequence[Pair]], Sequence[float]]
"""From P pairs to P preferences: how probably the first of a pair is the better one, in [0, 1]; NaN for no answer."""


@dataclass(frozen=True)
class Abilities:
    """What comparisons of N clips say of them.

    Attributes:
        values: (N,) log-odds against a clip of ability 0, which is the mean of each group: 1 more wins 73 %, 2 more
            88 %. NaN for a clip without comparisons.
        low: (N,) low ends of the 90 % intervals; NaN likewise.
        high: (N,) high ends.
        groups: (N,) numbers from 0: clips of different groups were compared neither with one another nor through
            others, so their abilities have nothing to do with each other.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    groups: np.ndarray


def bradley_terry(wins: np.ndarray, prior: float = PRIOR) -> Abilities:
    """Abilities a with P(i is better than j) = 1 / (1 + exp(a_j - a_i)) (Bradley and Terry 1952).

    The mode of the posterior under independent normal priors of mean 0. A preference p counts as p wins of one and
    1 - p of the other, so a tie is half a win of each. The intervals are those of the normal distribution with the
    mode's curvature (Laplace): they take comparisons as independent, and say nothing of what all of them have wrong.

    Args:
        wins: (N, N) how often the row's clip was better than the column's, as a sum of preferences; diagonal 0.
        prior: Standard deviation of the prior, > 0.

    Raises:
        ValueError: If `wins` is no such table or the prior is not above 0.

    Example:
        >>> bradley_terry(np.array([[0, 3], [1, 0]]), prior=100).values.round(2)  # ln 3 apart
        array([ 0.55, -0.55])
    """
    wins = _checked(wins)
    if not prior > 0:
        raise ValueError(f"prior={prior}: must be a standard deviation above 0.")
    count, groups = connected_components(wins + wins.T, directed=False)
    values, width = np.full(len(wins), np.nan), np.full(len(wins), np.nan)
    for group in range(count):
        [own] = np.nonzero(groups == group)
        if len(own) == 1:
            continue
        mode, covariance = _posterior(wins[np.ix_(own, own)], prior)
        centred = np.eye(len(own)) - 1 / len(own)  # an ability is one among those of its group
        values[own] = centred @ mode
        width[own] = np.sqrt(np.diag(centred @ covariance @ centred)) * norm.ppf((1 + CONFIDENCE) / 2)
    return Abilities(values, values - width, values + width, groups)


def _checked(wins: np.ndarray) -> np.ndarray:
    wins = np.asarray(wins, dtype=float)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1]:
        raise ValueError(f"wins has shape {wins.shape}: need a row and a column per clip.")
    if not np.isfinite(wins).all() or wins.min(initial=0) < 0 or np.diag(wins).any():
        raise ValueError("wins must hold finite numbers >= 0, and 0 on the diagonal: no clip is compared with itself.")
    return wins


def _posterior(wins: np.ndarray, prior: float, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mode (N,) and covariance (N, N) of abilities."""
    total = wins + wins.T

    def loss(a: np.ndarray) -> tuple[float, np.ndarray]:
        d = a[:, None] - a
        surprise = wins * expit(-d)
        value = a @ a / (2 * prior**2) - np.sum(wins * log_expit(d))
        return value, a / prior**2 + surprise.sum(0) - surprise.sum(1)

    def curvature(a: np.ndarray) -> np.ndarray:
        d = a[:, None] - a
        weights = total * expit(d) * expit(-d)
        return np.diag(weights.sum(1) + 1 / prior**2) - weights

    first = np.zeros(len(wins)) if start is None else start
    mode = minimize(loss, first, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-8}).x
    return mode, np.linalg.inv(curvature(mode))


def wins_of(count: int, pairs: Sequence[Pair], preferences: Sequence[float]) -> np.ndarray:
    """(N, N) table for `bradley_terry`; comparisons without an answer (NaN) are left out.

    Args:
        count: N.
        pairs: Places of P pairs.
        preferences: How probably the first of each is better, in [0, 1].
    """
    wins = np.zeros((count, count))
    for (first, second), preference in zip(pairs, preferences, strict=True):
        if not math.isnan(preference):
            wins[first, second] += preference
            wins[second, first] += 1 - preference
    return wins


def most_comparisons(count: int) -> int:
    """How many pairs of N a tournament compares at most: ceil(N log2 N), and no pair twice."""
    return min(math.comb(count, 2), math.ceil(count * math.log2(count))) if count > 1 else 0


def tournament(
    judge: Judge,
    count: int,
    start: Sequence[float] | None = None,
    groups: Sequence[int] | None = None,
    prior: float = PRIOR,
) -> tuple[list[Pair], list[float]]:
    """Compare the pairs that say most about the order, in rounds; each pair once at most, `most_comparisons` in all.

    In a round each clip is in one pair at most, as in a Swiss tournament, so a round is one batch. Pairs are taken by
    what their comparison is expected to tell: the variance of its result, p (1 - p), times that of the difference of
    abilities so far. Nothing is drawn: the same judge gives the same tournament. A judge that has answered nothing in
    the first round is not asked again.

    Args:
        judge: Compares the pairs of a round.
        count: N clips.
        start: N numbers, higher is better: pairs that are close in them come first. Default none are.
        groups: N names: only clips of one group are compared, and each group has its own `most_comparisons`; their
            rounds are one. Default all are one group.
        prior: See `bradley_terry`.

    Returns:
        The pairs compared, and the judge's preferences, NaN included.
    """
    pairs: list[Pair] = []
    preferences: list[float] = []
    names = np.zeros(count, dtype=int) if groups is None else np.asarray(groups)
    left = {name: most_comparisons(size) for name, size in Counter(names.tolist()).items()}
    abilities = np.zeros(count) if start is None else np.asarray(start, dtype=float)
    covariance = np.eye(count) * prior**2
    while chosen := _next_round(abilities, covariance, names, left, pairs):
        pairs += chosen
        preferences += judge(chosen)
        wins = wins_of(count, pairs, preferences)
        if not wins.any():
            break
        abilities, covariance = _posterior(wins, prior, abilities)
    return pairs, preferences


def _next_round(
    abilities: np.ndarray, covariance: np.ndarray, groups: np.ndarray, left: dict[int, int], done: Sequence[Pair]
) -> list[Pair]:
    """Pairs of a group that were not compared yet, the most telling first, each clip in one of them at most.

    Args:
        abilities: (N,) so far.
        covariance: (N, N) of these.
        groups: (N,) numbers.
        left: Group -> how many comparisons it has left; those chosen are taken off.
        done: What was compared.
    """
    first, second = np.triu_indices(len(abilities), 1)
    new = groups[:, None] == groups
    new[tuple(np.array(done, dtype=int).reshape(-1, 2).T)] = False
    first, second = first[new[first, second]], second[new[first, second]]
    chance = expit(abilities[first] - abilities[second])
    variance = np.diag(covariance)[first] + np.diag(covariance)[second] - 2 * covariance[first, second]
    free = np.ones(len(abilities), dtype=bool)
    chosen: list[Pair] = []
    for place in np.argsort(-chance * (1 - chance) * variance, kind="stable"):
        i, j, group = int(first[place]), int(second[place]), int(groups[first[place]])
        if free[i] and free[j] and left[group]:
            free[[i, j]] = False
            left[group] -= 1
            chosen.append((i, j))
    return chosen
