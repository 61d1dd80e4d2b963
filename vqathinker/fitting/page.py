"""What a fit has come to: three sentences, and one page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.data import BenchmarkSet, LabelRow, Ratings
from vqathinker.data.tables import DELIMITERS
from vqathinker.evaluation.benchmark import SetResult, judge
from vqathinker.evaluation.comparison import SetComparison, compare_scores, signed
from vqathinker.evaluation.plots import plot_rewards, plot_scatter
from vqathinker.evaluation.report import Report, ShownClip, Table
from vqathinker.metrics.agreement import agreement
from vqathinker.policy import load_processor
from vqathinker.scoring.provenance import versions
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.fitting.spec import FitSpec

FEW = 20
"""Held-out clips under which a difference is not told: even a right order of few clips may be chance."""
ANSWERED = 0.8
"""Share of the held-out clips that a trained policy must score."""
CORRELATED = 5
"""Scored clips below which the page shows no correlation."""
SHOWN = 8
"""Clips of the page, spread over the MOS scale."""


@dataclass(frozen=True)
class Outcome:
    """What a fit has come to.

    Attributes:
        spec: What was fitted to what.
        test: The held-out clips, N of them.
        before: N rows of `score_files`, of the policy before GRPO.
        after: N rows after it.
        commands: What was run -> command.
        notes: What a reader should know.
    """

    spec: FitSpec
    test: BenchmarkSet
    before: Sequence[Mapping[str, Any]]
    after: Sequence[Mapping[str, Any]]
    commands: Mapping[str, str]
    notes: Sequence[str]

    @property
    def test_rows(self) -> Sequence[LabelRow]:
        """Labels of the held-out clips."""
        return self.spec.parts.held_out

    @property
    def comparison(self) -> SetComparison:
        """Correlations before and after on the held-out clips, with the paired interval of their difference."""
        return compare_scores(self.test, self.test_rows, self.before, self.after, self.spec.seed)

    def judged(self, name: str) -> SetResult:
        """`"before"` or `"after"` against the labels."""
        return judge(self.test, self.test_rows, getattr(self, name), self.spec.seed)

    def sentences(self) -> list[str]:
        """Is it better, how sure is that, and what to run next: a sentence each."""
        found = self.comparison
        return [_better(found, self.errors, len(self.test_rows)), _how_sure(found, self.spec.table), self._next(found)]

    @property
    def errors(self) -> tuple[float, float]:
        """Mean absolute errors before and after, of the clips that both policies scored; NaN without one."""
        each = zip(self.test_rows, self.before, self.after, strict=True)
        both = [(abs(a["score"] - row.mos), abs(b["score"] - row.mos)) for row, a, b in each]
        known = np.array([pair for pair in both if not math.isnan(sum(pair))]).reshape(-1, 2)
        before, after = known.mean(0).tolist() if len(known) else (math.nan, math.nan)
        return before, after

    def _next(self, found: SetComparison) -> str:
        command = f"vqathinker fit {self.spec.ratings} --videos {self.spec.videos}"
        longer = f"{command} --minutes {2 * self.spec.minutes:g} --out OTHER"
        scored = sum(not math.isnan(row["score"]) for row in self.after)
        if scored < ANSWERED * len(self.after):
            what = f"the policy gives {scored} of {len(self.after)} held-out clips a score, so it needs"
            return f"Next: {what} more training before it can be judged: {longer}"
        if len(self.test_rows) < FEW:
            share = self.spec.hold_out
            rated = math.ceil(FEW / share)
            return f"Next: rate more clips; with about {rated} of them --hold-out {share:g} holds out {FEW}."
        if found.srcc.low > 0:
            return f"Next: score other clips with it: vqathinker score CLIPS --model {self.spec.out}/grpo"
        if found.srcc.high < 0:
            why = "check the page for signs of a collapse, and start from another policy"
            return f"Next: {why}: {command} --model POLICY --out OTHER"
        return f"Next: train longer, or on more clips: {longer}"


def described(ratings: Ratings) -> list[str]:
    """What was read: the table, the scale, the raters and how well they agree; a line each."""
    sign = DELIMITERS[ratings.delimiter]
    kinds = {"wide": "a column for each rater", "long": "a row for each rating", "mos": "one column of MOS"}
    given = "" if ratings.scale_stated else " (assumed, because all ratings lie there; set another one with --scale)"
    missing = f"; {ratings.not_rated} of {ratings.matrix.size} ratings missing" if ratings.not_rated else ""
    lines = [
        f"{counted(len(ratings.rows), 'clip')}, named in column {ratings.video_column!r}; columns separated by {sign}, "
        f"{kinds[ratings.form]}{missing}.",
        f"Scale: {ratings.scale.low:g} to {ratings.scale.high:g}{given}; scores are on 1 to 5.",
    ]
    if ratings.form == "mos":
        return [*lines, f"MOS: {ratings.raters[0]}. How well raters agree is not known without their own ratings."]
    return [*lines, f"Raters: {', '.join(ratings.raters)}.", f"{agreement(ratings.matrix).text()}."]


def _better(found: SetComparison, errors: tuple[float, float], held_out: int) -> str:
    scored = f"{held_out} held-out clips"
    if found.num_clips < held_out:
        scored = f"{found.num_clips} of {held_out} held-out clips that got a score from both policies"
    change = f"SRCC {found.srcc.before:.3f} before GRPO and {found.srcc.after:.3f} after it on the {scored}"
    if found.num_clips < FEW:
        if math.isnan(found.srcc.difference) or found.num_clips < CORRELATED:
            mean = "mean error {:.2f} before GRPO and {:.2f} after it on the ".format(*errors)
            change = (mean if found.num_clips else "") + scored
        return f"Too few to say whether it is better ({FEW} clips are needed): {change}."
    if math.isnan(found.srcc.difference):
        return f"Cannot tell whether it is better: all scores of a policy are equal on the {scored}."
    if found.srcc.low > 0:
        return f"Better: {change}."
    return f"Worse: {change}." if found.srcc.high < 0 else f"Not shown to be better: {change}."


def _how_sure(found: SetComparison, ratings: Ratings) -> str:
    if math.isnan(found.srcc.low):
        sure = "There are too few clips to say how sure that is"
    else:
        inside = found.srcc.low <= 0 <= found.srcc.high
        over = f"the 95 % interval of a paired bootstrap over {found.interval_over}"
        sure = f"The difference is {signed(found.srcc)}, {over}{', which contains 0' if inside else ''}"
    ceiling = agreement(ratings.matrix).ceiling
    if math.isnan(ceiling):
        return f"{sure}."
    return f"{sure}; given how far the raters agree, even a perfect policy would reach about {ceiling:.2f}."


def write_page(outcome: Outcome, path: Path) -> None:
    """The page: the three sentences, how it was made, the ratings, before and after, curves, and clips.

    Args:
        outcome: What came out.
        path: HTML file; plots stand beside it.
    """
    spec = outcome.spec
    figures = {}
    state = spec.out / "grpo" / "trainer_state.json"
    if state.exists():
        plot_rewards(json.loads(state.read_text(encoding="utf-8"))["log_history"], spec.out / "rewards.png")
        figures["Rewards on the training batches, and signs of a collapse"] = spec.out / "rewards.png"
    mos = [row.mos for row in outcome.test_rows]
    panels = {f"{name} GRPO": (mos, [row["score"] for row in getattr(outcome, name)]) for name in ("before", "after")}
    plot_scatter(panels, spec.out / "scatter.png")
    figures["Held-out clips: score against MOS"] = spec.out / "scatter.png"
    facts: dict[str, object] = dict(outcome.commands)
    facts |= {"seed": spec.seed, "versions": ", ".join(f"{name} {value}" for name, value in versions().items())}
    Report(
        f"A policy fitted to {spec.ratings.name}",
        facts,
        [_held_out_table(outcome), _ratings_table(outcome)],
        figures,
        _clips(outcome),
        "Held-out clips, from the lowest MOS to the highest",
        lead=outcome.sentences(),
    ).write(path)


def _held_out_table(outcome: Outcome) -> Table:
    found = outcome.comparison
    rows: list[list[object]] = []
    for name, error in zip(("before", "after"), outcome.errors, strict=True):
        own = outcome.judged(name)
        unusable = own.num_unparsable + own.num_unreadable + own.num_missing
        correlations = [own.srcc, own.plcc] if own.num_scored >= CORRELATED else [None, None]
        rows.append([f"{name} GRPO", *correlations, error, own.num_scored, unusable])
    differences = [signed(found.srcc), signed(found.plcc)] if found.num_clips >= CORRELATED else [None, None]
    before, after = outcome.errors
    rows.append(["difference", *differences, f"{after - before:+.3f}", found.num_clips, None])
    interval = f"The 95 % intervals are of a paired bootstrap over {found.interval_over}."
    if math.isnan(found.srcc.low):
        interval = "There is no interval: the held-out clips come from too few sources."
    note = (
        f"{counted(len(outcome.test_rows), 'clip')} never trained on, one greedy answer each. MAE: mean absolute error "
        "in score units, 1-5, on the clips that both policies scored; lower is better. "
        f"{interval}"
    )
    return Table("Held-out clips", ["", "SRCC", "PLCC", "MAE", "scored", "no score"], rows, note)


def _ratings_table(outcome: Outcome) -> Table:
    rows = [
        [name, len(part), float(np.mean([row.mos for row in part])), min(r.mos for r in part), max(r.mos for r in part)]
        for name, part in (("trained on", outcome.spec.parts.train), ("held out", outcome.test_rows))
    ]
    note = " ".join([*described(outcome.spec.table), *outcome.notes])
    return Table("Ratings", ["", "clips", "mean MOS, 1-5", "lowest", "highest"], rows, note)


def _clips(outcome: Outcome) -> list[ShownClip]:
    by_mos = sorted(range(len(outcome.test_rows)), key=lambda i: outcome.test_rows[i].mos)
    places = np.linspace(0, len(by_mos) - 1, min(SHOWN, len(by_mos))).round().astype(int)
    shown = []
    seen = load_processor(outcome.spec.out / "grpo").seen
    for i in (by_mos[place] for place in places):
        row = outcome.test_rows[i]
        answers = {
            said(name, getattr(outcome, name)[i]): getattr(outcome, name)[i]["reasoning"]
            for name in ("before", "after")
        }
        shown.append(ShownClip(f"{row.video_id}: MOS {row.mos:.2f}", row.video, answers, seen=seen))
    return shown


def said(name: str, row: Mapping[str, Any]) -> str:
    """`before: 3.21`, or why there is no score."""
    why = f"no score ({row['status'].replace('_', ' ')})"
    return f"{name}: {why if math.isnan(row['score']) else format(row['score'], '.2f')}"
