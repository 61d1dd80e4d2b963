"""From comparisons of two to an order: abilities (Bradley-Terry), and which pairs to compare next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array
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
    _, groups = connected_components(wins + wins.T, directed=False)
    return _fitted(groups, lambda own: wins[np.ix_(own, own)], prior)


def abilities_of(count: int, pairs: Sequence[Pair], preferences: Sequence[float], prior: float = PRIOR) -> Abilities:
    """The same from comparisons, those without an answer (NaN) left out; only clips that they join share a table.

    Args:
        count: N.
        pairs: Places of P pairs.
        preferences: How probably the first of each is better, in [0, 1].
        prior: Standard deviation of the prior, > 0.
    """
    known = [(pair, p) for pair, p in zip(pairs, preferences, strict=True) if not math.isnan(p)]
    first, second = np.array([pair for pair, _ in known], dtype=int).reshape(-1, 2).T
    _, groups = connected_components(coo_array((np.ones(len(known)), (first, second)), (count, count)), directed=False)
    said: dict[int, list[tuple[Pair, float]]] = {}
    for pair, p in known:
        said.setdefault(int(groups[pair[0]]), []).append((pair, p))

    def wins(own: np.ndarray) -> np.ndarray:
        places = {int(clip): place for place, clip in enumerate(own)}
        mine = said[int(groups[own[0]])]
        return wins_of(len(own), [(places[i], places[j]) for (i, j), _ in mine], [p for _, p in mine])

    return _fitted(groups, wins, prior)


def _fitted(groups: np.ndarray, wins: Callable[[np.ndarray], np.ndarray], prior: float) -> Abilities:
    """Abilities in each group of at least two clips, of which `wins` gives the table."""
    if not prior > 0:
        raise ValueError(f"prior={prior}: must be a standard deviation above 0.")
    values, width = np.full(len(groups), np.nan), np.full(len(groups), np.nan)
    for group in np.flatnonzero(np.bincount(groups) > 1):
        own = np.flatnonzero(groups == group)
        mode, covariance = _posterior(wins(own), prior)
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
    places: dict[int, list[int]] = {}
    for place, name in enumerate([0] * count if groups is None else groups):
        places.setdefault(name, []).append(place)
    begin = np.zeros(count) if start is None else np.asarray(start, dtype=float)
    parts = [_Group(own, begin[own], prior) for own in places.values() if len(own) > 1]
    pairs: list[Pair] = []
    preferences: list[float] = []
    while chosen := [pair for part in parts for pair in part.next_round()]:
        pairs += chosen
        preferences += judge(chosen)
        if all(map(math.isnan, preferences)):
            break
        known = dict(zip(chosen, preferences[-len(chosen) :], strict=True))
        for part in parts:
            part.learn(known)
    return pairs, preferences


class _Group:
    """At least two clips that are compared with one another.

    Args:
        clips: Their places, ascending.
        start: Abilities before any comparison.
        prior: See `bradley_terry`.
    """

    def __init__(self, clips: Sequence[int], start: np.ndarray, prior: float) -> None:
        self.clips, self.prior, self.left = clips, prior, most_comparisons(len(clips))
        self.abilities, self.covariance = start, np.eye(len(clips)) * prior**2
        self.asked: list[Pair] = []  # places among `clips`, as all below
        self.wins = np.zeros((len(clips), len(clips)))
        self._new: list[Pair] = []

    def next_round(self) -> list[Pair]:
        """Clips that were not compared yet, the most telling pairs first, each clip in one of them at most."""
        self._new = self._most_telling() if self.left else []
        self.left -= len(self._new)
        self.asked += self._new
        return [self._named(pair) for pair in self._new]

    def _most_telling(self) -> list[Pair]:
        first, second = np.triu_indices(len(self.clips), 1)
        new = np.ones((len(self.clips), len(self.clips)), dtype=bool)
        new[tuple(np.array(self.asked, dtype=int).reshape(-1, 2).T)] = False
        first, second = first[new[first, second]], second[new[first, second]]
        chance = expit(self.abilities[first] - self.abilities[second])
        own = np.diag(self.covariance)
        variance = own[first] + own[second] - 2 * self.covariance[first, second]
        free = np.ones(len(self.clips), dtype=bool)
        chosen: list[Pair] = []
        for place in np.argsort(-chance * (1 - chance) * variance, kind="stable"):
            i, j = int(first[place]), int(second[place])
            if free[i] and free[j] and len(chosen) < self.left:
                free[[i, j]] = False
                chosen.append((i, j))
        return chosen

    def learn(self, known: Mapping[Pair, float]) -> None:
        """Take in what was said of the pairs of the round, by the clips' places; NaN says nothing."""
        said = wins_of(len(self.clips), self._new, [known[self._named(pair)] for pair in self._new])
        if said.any():
            self.wins += said
            self.abilities, self.covariance = _posterior(self.wins, self.prior, self.abilities)

    def _named(self, pair: Pair) -> Pair:
        return self.clips[pair[0]], self.clips[pair[1]]
