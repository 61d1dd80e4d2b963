"""Pairs of labelled clips, for the task "compare". Which clip is better follows from MOS or from a ladder's order."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, pairwise
from typing import Any

import numpy as np

from vqathinker.data.formats import number_of
from vqathinker.data.ratings import SD_COLUMNS
from vqathinker.data.sample import Sample
from vqathinker.rewards.comparison import NOTICEABLE, comparison_word
from vqathinker.rewards.ranking import normal_cdf
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

TAU = 0.25
"""Difference of two MOS from which on one clip is called better, where raters' standard deviations are not known."""
LEAST_SPREAD = 0.1
"""Of a difference of two MOS, in score units: raters who all agree are not surer than that."""
BOUNDS = (0.0, 1.0, 2.0, 4.0, math.inf)
"""Of the differences of MOS that get as many pairs each, in `tau`."""
OWN = ("better", "preference", "spread", "mos_first", "mos_second", "difference", "rank_difference")
"""What a pair's target says, see `pairs_of`."""


@dataclass(frozen=True)
class _Clip:
    """What is known of a clip that may be compared; sd in score units."""

    sample: Sample
    mos: float | None
    sd: float | None
    ladder: str | None
    rank: float | None


def pairs_of(
    samples: Sequence[Sample],
    count: int,
    seed: int,
    tau: float = TAU,
    min_rank_difference: float = 0.0,
    sd_factor: float = 1.0,
) -> list[Sample]:
    """Draw pairs of clips, and ask about each in both orders.

    Clips of one `ladder` are encodes of one source: a higher `rank` is worse for sure, and a clip is `similar` to
    itself alone. All other clips are told apart by MOS. Their difference d has the spread sqrt(s1^2 + s2^2) of two
    raters, where labels have standard deviations s in a column `sd` or `std`, else tau / 0.674; the first clip is
    better with probability P = Phi(d / spread), and called so from P = 0.75 on, which without standard deviations is
    d = tau.

    Where both are there, half of the pairs are of ladders. Of MOS, as many have a difference below tau, of 1 to 2 tau,
    of 2 to 4 tau, and of more; of a ladder, all differences of rank that it has come equally often. Pairs are
    different, and clips come about equally often.

    Args:
        samples: Clips to be scored, see `score_samples`; those of one id count once.
        count: Pairs, > 0.
        seed: Of the draw.
        tau: Score units, > 0.
        min_rank_difference: Smallest difference of rank that counts as an order, >= 0.
        sd_factor: Score units in one unit of the standard deviations, see `MosScale.factor`.

    Returns:
        Samples of the task "compare", two for each pair, whose ids are the clips' in order; one where a clip is shown
        beside itself. Their targets have what `OWN` lists, `None` where it is not known: the right word; P; the spread
        that P comes of; both MOS and their difference, first less second; of a ladder rank second less first. Beside
        them the clips' distortions (`kind_first`, `severity_first`, ...), where both have labels of these.

    Raises:
        ValueError: If a number is outside its range, a sample is none of a score, a label column is no number or has
            the name of a pair's, or there is nothing to compare.
    """
    for name, value, fits in (
        ("count", count, count > 0),
        ("tau", tau, tau > 0),
        ("min_rank_difference", min_rank_difference, min_rank_difference >= 0),
    ):
        if not (fits and math.isfinite(value)):
            raise ValueError(f"{name}={value}: must be {'at least' if name.startswith('min') else 'above'} 0.")
    clips = [_clip(sample, sd_factor) for sample in {sample.id: sample for sample in samples}.values()]
    rng = np.random.default_rng(seed)
    against: list[tuple[int, int]] = []
    of_ladders, of_mos = _of_ladders(clips, min_rank_difference, rng, against), _of_mos(clips, tau, rng)
    by_rank = _draw(of_ladders, count // 2 if sum(clip.mos is not None for clip in clips) > 1 else count)
    by_mos = _draw(of_mos, count - len(by_rank))
    pairs = [*by_rank, *by_mos, *_draw(of_ladders, count - len(by_rank) - len(by_mos))]
    if against:
        told = counted(len(against), "pair")
        logger.warning("%s of one ladder left out: the MOS of the clip of the higher rank is not lower.", told)
    if not pairs:
        raise ValueError(
            f"{counted(len(clips), 'clip')}, but no two to compare: it takes two with MOS, or two of one ladder with "
            f"different ranks (by at least min_rank_difference={min_rank_difference:g})."
        )
    if len(pairs) < count:
        logger.warning("%s of clips asked for, but there are %s.", counted(count, "pair"), counted(len(pairs), "pair"))
    return [
        _pair(clips[i], clips[j], tau) for one, other in pairs for i, j in dict.fromkeys([(one, other), (other, one)])
    ]


def _clip(sample: Sample, sd_factor: float) -> _Clip:
    """What a sample says.

    Raises:
        ValueError: If it is none of a score, or what it says cannot be used.
    """
    where, target = f"sample {sample.id!r}", sample.target
    if sample.task != "score" or len(sample.clips) != 1:
        raise ValueError(f"{where} of the task {sample.task!r}: pairs are made of single clips to be scored.")
    if taken := sorted(set(OWN) & set(target)):
        raise ValueError(f"{where} has label columns {taken}, which a pair has of its own: rename them.")
    sd = sd_of(target, where)
    ladder, rank = target.get("ladder") or None, None
    if "ladder" in target and target.get("rank") not in (None, ""):  # else the rank is somebody's own column
        rank = _number(target["rank"], f"{where}: rank")
    if (ladder is None) != (rank is None):
        raise ValueError(f"{where} has ladder={ladder!r} and rank={rank}: an order needs both, or leave out both.")
    return _Clip(sample, target.get("mos"), None if sd is None else sd * sd_factor, ladder, rank)


def sd_of(target: Mapping[str, Any], where: str) -> float | None:
    """The standard deviation of a label's ratings, of one of the columns `SD_COLUMNS`, on the labels' own scale.

    Args:
        target: A sample's.
        where: What the sample is called in messages.

    Returns:
        It, or `None` if there is none.

    Raises:
        ValueError: If it is no number of at least 0, or there are several.
    """
    known = {name: target[name] for name in SD_COLUMNS if target.get(name) not in (None, "")}
    sds = [_number(value, f"{where}: a standard deviation") for value in known.values()]
    if len(sds) > 1 or any(sd < 0 for sd in sds):
        raise ValueError(f"{where} has the standard deviations {sds}: give one, of at least 0. Rename other columns.")
    return sds[0] if sds else None


def _number(value: Any, what: str) -> float:
    try:
        return number_of(value)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None


def _draw(drawn: Iterator[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The next `count` pairs, or as many as there are."""
    return list(islice(drawn, max(count, 0)))


def _of_ladders(
    clips: Sequence[_Clip], least: float, rng: np.random.Generator, against: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """All pairs of all ladders, one of each ladder in turn; notes those that MOS speaks against."""
    ladders: dict[str, list[int]] = {}
    for place, clip in enumerate(clips):
        if clip.ladder is not None:
            ladders.setdefault(clip.ladder, []).append(place)
    found: dict[str, dict[float, list[tuple[int, int]]]] = {}
    often: Counter[float] = Counter()
    while ladders:
        for name in rng.permutation(sorted(ladders)):
            if name not in found:
                found[name] = _by_difference(clips, ladders[name], least, against)
            own = found[name]
            if own.keys() <= {0.0}:  # nothing is left but clips beside themselves
                del ladders[name]
                continue
            difference = min(rng.permutation(list(own)), key=often.__getitem__)
            often[difference] += 1
            yield own[difference].pop(rng.integers(len(own[difference])))
            if not own[difference]:
                del own[difference]


def _by_difference(
    clips: Sequence[_Clip], members: Sequence[int], least: float, against: list[tuple[int, int]]
) -> dict[float, list[tuple[int, int]]]:
    """The pairs of a ladder by their difference of rank; of 0 each clip beside itself."""
    found: dict[float, list[tuple[int, int]]] = {0.0: [(i, i) for i in members]}
    for pair in combinations(members, 2):
        better, worse = sorted((clips[i] for i in pair), key=lambda clip: clip.rank or 0.0)
        difference = (worse.rank or 0.0) - (better.rank or 0.0)
        if difference <= 0 or difference < least:
            continue
        if better.mos is not None and worse.mos is not None and not round(better.mos, 2) > round(worse.mos, 2):
            against.append(pair)  # its scores, as they are written, would say something else
            continue
        found.setdefault(difference, []).append(pair)
    return found


def _of_mos(clips: Sequence[_Clip], tau: float, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Different pairs with MOS, of no ladder together, one of each bin of differences in turn, while they are found."""
    order = sorted((i for i, clip in enumerate(clips) if clip.mos is not None), key=lambda i: clips[i].mos or 0.0)
    values = np.array([clips[i].mos for i in order])
    bins = [(low * tau, high * tau) for low, high in pairwise(BOUNDS)]
    seen: set[tuple[int, int]] = set()
    anchors = _in_turn(order, rng)
    patience = 2 * len(order) + 10
    while bins and len(order) > 1:
        for edges in list(bins):
            for _ in range(patience):
                one = next(anchors)
                other = _partner(order, values, clips[one].mos or 0.0, edges, rng)
                ladders = {clips[one].ladder, clips[other].ladder} if other is not None else {None}
                pair = (min(one, other), max(one, other)) if other is not None else (one, one)
                if pair[0] != pair[1] and pair not in seen and (None in ladders or len(ladders) > 1):
                    seen.add(pair)
                    yield pair
                    break
            else:
                bins.remove(edges)


def _in_turn(places: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
    """All places again and again, each time in another order."""
    while True:
        yield from (places[i] for i in rng.permutation(len(places)))


def _partner(
    order: Sequence[int], values: np.ndarray, mos: float, edges: tuple[float, float], rng: np.random.Generator
) -> int | None:
    """A clip whose MOS differs by low <= |d| < high; `None` if there is none.

    Args:
        order: Clips by rising MOS.
        values: Their MOS.
        mos: Of the clip that a partner is for.
        edges: Low and high.
        rng: Chooses.
    """
    low, high = edges
    above = np.searchsorted(values, [mos + low, mos + high], side="left")
    below = np.searchsorted(values, [mos - high, mos - low], side="right")
    number = int(above[1] - above[0] + below[1] - below[0])
    if number <= 0:
        return None
    place = int(rng.integers(number))
    return order[above[0] + place if place < above[1] - above[0] else below[0] + place - (above[1] - above[0])]


def _pair(first: _Clip, second: _Clip, tau: float) -> Sample:
    """The clips in one order."""
    target: dict[str, Any] = dict.fromkeys(OWN) | {"mos_first": first.mos, "mos_second": second.mos}
    if first.mos is not None and second.mos is not None:
        target["difference"] = first.mos - second.mos
    if first.ladder is not None and first.ladder == second.ladder:
        lead = (second.rank or 0.0) - (first.rank or 0.0)
        target |= {"rank_difference": lead, "preference": 0.5 + 0.5 * float(np.sign(lead))}
    else:
        sds = [clip.sd for clip in (first, second) if clip.sd is not None]
        spread = max(math.hypot(*sds), LEAST_SPREAD) if len(sds) == 2 else tau / NOTICEABLE
        preference = float(normal_cdf(np.array(target["difference"] / spread)))
        target |= {"spread": spread, "preference": preference}
    target["better"] = comparison_word(target["preference"])
    sides = {"first": first.sample.target, "second": second.sample.target}
    if all({"kind", "severity"} <= own.keys() for own in sides.values()):
        target |= {f"{name}_{side}": own[name] for side, own in sides.items() for name in ("kind", "severity")}
    return Sample(
        f"{first.sample.id} | {second.sample.id}", "compare", (*first.sample.clips, *second.sample.clips), target=target
    )
