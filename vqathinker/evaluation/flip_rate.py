"""Flip rate (CP-LLM, Table 3): how often a policy prefers the harder compressed of two encodes of one source."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, compress, groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.encodes import LADDER, Encode, crf_range, encode_ladder, read_manifest
from vqathinker.evaluation.report import Table
from vqathinker.metrics.correlation import bootstrap_interval
from vqathinker.wording import counted

__all__ = [
    "DIFFERENCES",
    "LADDER",
    "Encode",
    "FlipRate",
    "crf_range",
    "encode_ladder",
    "flip_rates",
    "ladder_pairs",
    "read_manifest",
    "table",
]

DIFFERENCES = (2, 4, 6, 8, 10, 20)
"""CRF differences of CP-LLM's table."""
PUBLISHED = {
    "Gemini 2.0, as text": (0.502, 0.434, 0.385, 0.348, 0.319, 0.181),
    "CoINVQ": (0.167, 0.142, 0.123, 0.108, 0.086, 0.006),
    "FastVQA": (0.256, 0.205, 0.169, 0.150, 0.111, 0.024),
    "DOVER": (0.268, 0.218, 0.179, 0.156, 0.126, 0.026),
    "Q-Align": (0.162, 0.142, 0.122, 0.105, 0.082, 0.008),
    "CP-LLM": (0.125, 0.069, 0.048, 0.033, 0.021, 0.002),
}
"""Flip rates at `DIFFERENCES` of LSVQ-1080p encoded with H.264 (CP-LLM, arXiv 2505.16025v1, Table 3)."""
NOT_THE_SAME = (
    "Published: LSVQ-1080p, whose clips are compressed already, at 20 CRFs from 15 to 53. Here: other sources, CRFs up "
    "to 51 (x264 takes 53 for 51), and x264's veryfast without look-ahead and mbtree, so other bits at one CRF. The "
    "paper does not say its preset, how ties and clips without a score count, and over what it pools."
)


@dataclass(frozen=True)
class FlipRate:
    """Pairs of encodes of one ladder whose CRF differ by one amount.

    Attributes:
        difference: Of the CRF; `None` for all pairs.
        pairs: Pairs that are judged.
        wrong: Of these, where the harder compressed one is preferred.
        ties: Of these, where neither is.
        unscored: Pairs left out, as one of the two has no score, or they were not compared.
        low: Low end of the rate's 95 % interval over scenes, see `rate_interval`; NaN with fewer than two.
        high: High end.
        sources: Sources of the judged pairs.
        scenes: What these show; as many, where the manifest has no column `scene`.
    """

    difference: float | None
    pairs: int
    wrong: int
    ties: int
    unscored: int
    low: float = math.nan
    high: float = math.nan
    sources: int = 0
    scenes: int = 0

    @property
    def rate(self) -> float:
        """Share of wrongly ordered pairs in [0, 1], a tie as half of one; NaN without pairs."""
        return (self.wrong + self.ties / 2) / self.pairs if self.pairs else math.nan


def ladder_pairs(encodes: Sequence[Encode]) -> list[tuple[Encode, Encode]]:
    """All pairs (milder, harder) of encodes of one ladder, whose CRF differ."""
    ladders: dict[tuple[str, str], list[Encode]] = {}
    for encode in encodes:
        ladders.setdefault((encode.source, encode.ladder), []).append(encode)
    ordered = (sorted(ladder, key=lambda encode: encode.crf) for ladder in ladders.values())
    return [(mild, hard) for ladder in ordered for mild, hard in combinations(ladder, 2) if hard.crf > mild.crf]


def flip_rates(
    encodes: Sequence[Encode],
    scores: Mapping[str, float] | None = None,
    differences: Sequence[float] | None = None,
    preferences: Mapping[tuple[str, str], float] | None = None,
    seed: int = 0,
) -> list[FlipRate]:
    """Count wrongly ordered pairs, by scores or by preferences.

    Args:
        encodes: The ladders, of one codec: CRF differences of two mean different things.
        scores: Video -> score; NaN where there is none.
        differences: CRF differences to report; default those of `DIFFERENCES` that occur, or else all that do.
        preferences: (Video of the milder encode, of the harder) -> how probably the milder one is better, in [0, 1];
            in the place of scores. What is missing or NaN was not compared.
        seed: Of the bootstrap.

    Returns:
        One entry per difference, then one for all pairs of one ladder with different CRF.

    Raises:
        ValueError: If neither or both of scores and preferences are given.
    """
    if (scores is None) == (preferences is None):
        raise ValueError("flip_rates needs scores or preferences, and not both: call it once for each.")
    pairs = ladder_pairs(encodes)
    if scores is not None:
        margins = np.array([scores[mild.video] - scores[hard.video] for mild, hard in pairs])
    else:
        known = preferences or {}
        margins = np.array([known.get((mild.video, hard.video), math.nan) - 0.5 for mild, hard in pairs])
    gaps = np.array([hard.crf - mild.crf for mild, hard in pairs])
    units = [(mild.scene or mild.source, mild.source) for mild, _ in pairs]
    if differences is None:
        occurring = sorted(set(gaps.tolist()))
        differences = [gap for gap in occurring if gap in DIFFERENCES] or occurring
    chosen = {difference: gaps == difference for difference in differences} | {None: np.ones(len(gaps), dtype=bool)}
    return [_count(gap, margins[mask], list(compress(units, mask)), seed) for gap, mask in chosen.items()]


def _count(difference: float | None, margins: np.ndarray, units: Sequence[tuple[str, str]], seed: int) -> FlipRate:
    judged = ~np.isnan(margins)
    known, own = margins[judged], list(compress(units, judged))
    wrong, ties = int((known < 0).sum()), int((known == 0).sum())
    scenes = [scene for scene, _ in own]
    low, high = rate_interval(known, scenes, seed)
    unscored = len(margins) - len(known)
    return FlipRate(difference, len(known), wrong, ties, unscored, low, high, len(set(own)), len(set(scenes)))


def rate_interval(margins: np.ndarray, scenes: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a flip rate: bootstrap over whole scenes.

    Where every pair or none is in the wrong order, all resamples are equal, which would say that other scenes cannot
    differ. There it is the Clopper-Pearson interval of all or none of the n scenes: none gives 0 to 1 - 0.025 ** (1/n).

    Args:
        margins: N pairs, score of the milder encode less that of the harder.
        scenes: N, what each pair shows.
        seed: Of the bootstrap.

    Returns:
        Low and high end; NaN with fewer than two scenes.
    """
    count = len(set(scenes))
    if count < 2:
        return math.nan, math.nan
    if (margins > 0).all() or (margins < 0).all():
        found = stats.binomtest(count if margins[0] < 0 else 0, count).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)
    return bootstrap_interval(_rate, margins, margins, seed, sources=scenes)


def _rate(margins: np.ndarray, _: np.ndarray) -> float:
    return float(np.mean((margins < 0) + (margins == 0) / 2))


def by_codec(encodes: Sequence[Encode]) -> dict[str, list[Encode]]:
    """Codec -> its encodes, in their order; "" where no codec is known."""
    return {codec: list(own) for codec, own in groupby(sorted(encodes, key=lambda e: e.codec), key=lambda e: e.codec)}


def table(rates: Sequence[FlipRate], title: str = "Flip rate") -> Table:
    """For people.

    Args:
        rates: Of `flip_rates`.
        title: Heading.
    """
    rows = [[_named(r.difference), r.pairs, r.wrong, r.ties, r.unscored, r.rate, _interval(r)] for r in rates]
    columns = ["CRF difference", "pairs", "wrong order", "ties", "unscored", "flip rate", "95 % interval"]
    sources, scenes = (max((getattr(r, name) for r in rates), default=0) for name in ("sources", "scenes"))
    over = counted(sources, "source")
    if scenes < sources:
        over = f"{counted(scenes, 'scene')} of {over}"
    note = (
        "(wrong order + ties / 2) / pairs, pairs of encodes of one source, codec and resolution; interval by bootstrap "
        f"over {over}"
    )
    if any(r.rate in (0, 1) and not math.isnan(r.low) for r in rates):
        note += "; where no pair or every pair is wrong, Clopper-Pearson for as many trials"
    return Table(title, columns, rows, note)


def published_table(encodes: Sequence[Encode], judged: Mapping[str, Sequence[FlipRate]]) -> Table | None:
    """The paper's table, ours in its first rows; `None` unless the encodes are H.264, one ladder a source.

    Args:
        encodes: The ladders.
        judged: Name of a judgement -> what `flip_rates` says by it.
    """
    occurring = {rate.difference for rates in judged.values() for rate in rates if rate.pairs}
    shown = [place for place, difference in enumerate(DIFFERENCES) if difference in occurring]
    one_each = len({e.source for e in encodes}) == len({(e.source, e.ladder) for e in encodes})
    if not shown or not one_each or {encode.codec for encode in encodes} != {"h264"}:
        return None
    rows: list[list[object]] = []
    for name, rates in judged.items():
        ours = {rate.difference: rate.rate for rate in rates}
        rows.append([f"this policy, by {name}", *(ours[DIFFERENCES[place]] for place in shown)])
    rows += [[f"{name} (published)", *(values[place] for place in shown)] for name, values in PUBLISHED.items()]
    columns = ["flip rate at a CRF difference of", *(str(DIFFERENCES[place]) for place in shown)]
    return Table("Beside CP-LLM's Table 3", columns, rows, NOT_THE_SAME)


def write_flip_rates(
    out: Path, encodes: Sequence[Encode], judged: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
) -> str:
    """Count by each judgement and each codec, and write `flip_rate.md` and `flip_rate.json`.

    Args:
        out: Folder.
        encodes: The ladders.
        judged: Name of a judgement ("scores", ...) -> the arguments of `flip_rates` that hold it.
        about: What the result depends on: the policy, and what the encodes were made with.

    Returns:
        The tables, as text.
    """
    shown, counts = list[Table](), list[dict[str, Any]]()
    for codec, own in by_codec(encodes).items():
        found = {name: flip_rates(own, **arguments) for name, arguments in judged.items()}
        for name, rates in found.items():
            parts = [part for part in (codec, f"by {name}" if len(judged) > 1 else "") if part]
            shown.append(table(rates, ", ".join(["Flip rate", *parts])))
            counts += [{"codec": codec, "by": name} | asdict(rate) | {"rate": rate.rate} for rate in rates]
        if published := published_table(own, found):
            shown.append(published)
    text = markdown(shown)
    out.mkdir(parents=True, exist_ok=True)
    (out / "flip_rate.md").write_text(text, encoding="utf-8")
    content = {**about, "published": {"differences": DIFFERENCES, "rates": PUBLISHED}, "flip_rates": counts}
    known = json.loads(json.dumps(content), parse_constant=lambda name: None)  # NaN is no JSON
    (out / "flip_rate.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return text


def _named(difference: float | None) -> str:
    return "all" if difference is None else f"{difference:g}"


def _interval(rate: FlipRate) -> str:
    return "-" if math.isnan(rate.low) else f"{rate.low:.3f} to {rate.high:.3f}"
