"""A policy on labelled test sets: scores, agreement with MOS, tables, plots and a page."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from vqathinker.clips import Seen
from vqathinker.data import Absent, BenchmarkSet, LabelRow
from vqathinker.evaluation.attribution import attribution_of, attribution_table
from vqathinker.evaluation.comparison import (
    Comparison,
    PolicyScores,
    compare_scores,
    comparison_table,
    intervals_note,
    score_set,
)
from vqathinker.evaluation.plots import plot_fit, pyplot
from vqathinker.evaluation.report import Report, ShownClip, Table
from vqathinker.metrics.attribution import Attribution
from vqathinker.metrics.correlation import bootstrap_interval, fit_logistic, krcc, mae, plcc, rmse, srcc, weighted_mean
from vqathinker.scoring import QualityScorer, decoder, fingerprint, settings_of, versions
from vqathinker.scoring.seen import seen_in
from vqathinker.writing import finite

CORRELATIONS = {"srcc": srcc, "plcc": plcc, "krcc": krcc}
WORST = 8
"""Clips with the largest errors that the page shows."""
NOTE = (
    "SRCC, PLCC (raw) and KRCC with 95 % bootstrap intervals; PLCC fit and RMSE fit after the 4-parameter logistic, "
    "RMSE in the set's own MOS units; missing: no such file; unparsable: no number in the answer. Clips without a "
    "score are left out of the correlations. Overall: mean weighted by the number of scored videos, without your own "
    "sets."
)
ERRORS_NOTE = (
    "MAE, RMSE: mean absolute and root mean squared error of the scores as they are, in score units, if the labels "
    "are in score units too; then RMSE fit is as well."
)
PUBLISHED_NOTE = (
    "Published: VQAThinker-8B (Cao et al., 2025, Table 1) on the whole sets; overall, the mean of the sets above, "
    "weighted by their published numbers of videos."
)


@dataclass(frozen=True)
class SetResult:
    """How a policy fares on one test set. NaN where undefined.

    Attributes:
        name: Of the set.
        title: For tables.
        domain: "in-domain", "ood", or "" for a table alone.
        synthetic: Whether its labels are no opinions of people.
        num_videos: Labelled videos.
        expected_videos: As the set is published, if known.
        num_scored: Of the labelled, how many got a score. The others are `num_missing` (no file), `num_unreadable` and
            `num_unparsable` (an answer without a number).
        srcc: Spearman correlation, with the ends of its 95 % interval in `intervals`; so `plcc` (raw) and `krcc`.
        plcc_fit: Pearson correlation after the 4-parameter logistic.
        rmse_fit: Root mean squared error after it, native MOS units.
        fit_error: Why there is no fit, else "".
        published: (SRCC, PLCC) of VQAThinker-8B, if known.
        interval_over: What the bootstrap of the intervals drew: "clips", or whole sources, as in "16 sources (file
            names)" with what tells them. "clips (...)" says why a rule for file names did not tell them.
        mae: Mean absolute error of the scores, without a fit, where the labels are in score units.
        rmse: Root mean squared error, so too.
        spread: Mean of the clips' spreads, see `QualityScore`: what the model's answers differ by, not its error.
        split: "test", or "train": such sets have means of their own.
        seen: What the policy saw of the clips, where it takes a crop, in words -> clips of which that is true.
        attribution: Which faults its reasoning names, where the labels tell them, see `attribution_of`.
    """

    name: str
    title: str
    domain: str
    synthetic: bool
    num_videos: int
    expected_videos: int | None
    num_scored: int
    num_missing: int
    num_unreadable: int
    num_unparsable: int
    srcc: float
    plcc: float
    krcc: float
    intervals: dict[str, tuple[float, float]]
    plcc_fit: float
    rmse_fit: float
    fit_error: str
    published: tuple[float, float] | None
    interval_over: str = "clips"
    mae: float = math.nan
    rmse: float = math.nan
    spread: float = math.nan
    split: str = "test"
    seen: dict[str, int] = field(default_factory=dict)
    attribution: Attribution | None = None


def run_benchmarks(
    scorer: QualityScorer,
    found: Sequence[BenchmarkSet],
    absent: Sequence[Absent],
    out: str | Path,
    command: str,
    seed: int = 0,
    write: bool = True,
    baseline: PolicyScores | None = None,
) -> list[SetResult]:
    """Score test sets and write `results.json`, `results.md`, `report.html`, and `NAME.csv` and `NAME.png` of each set.

    A second call goes on where the first stopped: the scores stand in `scores/SETTINGS/NAME.csv`, where SETTINGS is
    their `fingerprint`. Under `accelerate launch` the processes share the clips of every set.

    Args:
        scorer: Scores.
        found: The sets.
        absent: Chosen sets that are not there; listed.
        out: Folder to write to.
        command: For the report.
        seed: Of the bootstrap.
        write: Whether this process judges and writes.
        baseline: Scores of another policy (`score_sets`), which this one is compared with.

    Returns:
        One result per found set; none on a process that does not write.

    Raises:
        LabelError: If a label file cannot be used; before anything is scored.
        ImportError: If matplotlib is missing; so, too.
    """
    pyplot()
    out = Path(out)
    settings = settings_of(scorer)
    results, compared, worst = [], [], []
    for one, rows in [(one, one.rows()) for one in found]:
        scored = score_set(scorer, one, rows, out, fingerprint(settings))
        if write:
            results.append(judge(one, rows, scored, seed))
            if baseline is not None:
                compared.append(compare_scores(one, rows, baseline.scored[one.name], scored, seed))
            _write_clips(out / f"{one.name}.csv", rows, scored)
            worst += _plot(one, rows, scored, out / f"{one.name}.png", scorer.processor.seen)
    if write:
        comparison = None if baseline is None else Comparison(baseline.settings, tuple(compared))
        provenance = {"command": command, **settings, "decoder": decoder(), "versions": versions()}
        provenance |= {"device": str(scorer.policy.device), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        labels = {one.name: hashlib.sha256(one.labels.read_bytes()).hexdigest()[:16] for one in found}
        facts = provenance | {"bootstrap_seed": seed, "label_hashes": labels}
        write_results(out, results, absent, facts, comparison)
        worst = sorted(worst, key=lambda clip: -clip[0])[:WORST]
        write_page(out, results, absent, provenance, worst, comparison)
    return results


def judge(one: BenchmarkSet, rows: Sequence[LabelRow], scored: Sequence[Mapping[str, Any]], seed: int = 0) -> SetResult:
    """Agreement of one set's scores with its labels. Intervals are over sources where these are told.

    Args:
        one: The set.
        rows: Its labels.
        scored: A row of `score_files` for each.
        seed: Of the bootstrap.
    """
    told = one.sources(rows)
    each = zip(scored, rows, told.names or range(len(rows)), strict=True)
    known = [(s["score"], row.mos, source) for s, row, source in each if not math.isnan(s["score"])]
    scores, mos = [score for score, _, _ in known], [label for _, label, _ in known]
    sources = [source for _, _, source in known]
    unreadable = [s for s in scored if s["status"] == "unreadable"]
    missing = sum(not Path(s["video"]).exists() for s in unreadable)
    spreads = [s["std"] for s in scored if not math.isnan(s.get("std", math.nan))]
    fit = fit_logistic(scores, mos)
    return SetResult(
        name=one.name,
        title=one.title,
        domain=one.domain,
        synthetic=one.synthetic,
        num_videos=len(rows),
        expected_videos=one.num_videos,
        num_scored=len(known),
        num_missing=missing,
        num_unreadable=len(unreadable) - missing,
        num_unparsable=len(rows) - len(known) - len(unreadable),
        **{name: metric(scores, mos) for name, metric in CORRELATIONS.items()},
        intervals={
            name: bootstrap_interval(metric, scores, mos, seed, sources=sources)
            for name, metric in CORRELATIONS.items()
        },
        plcc_fit=fit.plcc,
        rmse_fit=fit.rmse,
        fit_error=fit.error,
        published=one.published,
        interval_over=told.drawn(sources),
        mae=mae(scores, mos) if one.mos_scale else math.nan,
        rmse=rmse(scores, mos) if one.mos_scale else math.nan,
        spread=float(np.mean(spreads)) if spreads else math.nan,
        split=one.split,
        seen=dict(seen_in(scored)),
        attribution=attribution_of(rows, scored),
    )


def groups(results: Sequence[SetResult]) -> dict[str, list[SetResult]]:
    """What is averaged: "ood" and "in-domain", the public sets of a domain, "ood, own sets" and the like; training sets
    for themselves, as "ood, own sets, training"; and not what has no domain."""
    found: dict[str, list[SetResult]] = {}
    for result in results:
        name = result.domain + ("" if result.published else ", own sets")
        if result.domain:
            found.setdefault(name + (", training" if result.split == "train" else ""), []).append(result)
    return found


def overall(results: Sequence[SetResult]) -> dict[str, dict[str, float]]:
    """Name in `groups` -> SRCC, PLCC and KRCC, means over its sets weighted by their numbers of scored videos."""
    means: dict[str, dict[str, float]] = {}
    for name, own in groups(results).items():
        counts = [result.num_scored for result in own]
        means[name] = {
            metric: weighted_mean([getattr(result, metric) for result in own], counts) for metric in CORRELATIONS
        }
    return means


def tables(results: Sequence[SetResult], absent: Sequence[Absent], comparison: Comparison | None = None) -> list[Table]:
    """The results; the comparison with a baseline, if there is one; the faults named in each set whose labels tell
    them; and the sets that are absent, if any."""
    published = any(result.published for result in results)
    errors = any(not math.isnan(result.mae) for result in results)
    columns = ["set", "videos", "scored", "SRCC", "PLCC", "KRCC", "PLCC fit", "RMSE fit"]
    columns += (["MAE", "RMSE"] if errors else []) + ["missing", "unreadable", "unparsable"]
    columns += ["published SRCC / PLCC"] if published else []
    lines = [_line(result, published, errors) for result in results]
    for name, means in overall(results).items():
        own = groups(results)[name]
        line = [f"overall, {name}", sum(r.num_videos for r in own), sum(r.num_scored for r in own)]
        line += [means[metric] for metric in CORRELATIONS] + [None] * (7 if errors else 5)
        lines.append(line + ([_slash(_published_overall(own))] if published else []))
    shown = [Table("Agreement with MOS", columns, lines, " ".join(_notes(results, published, errors)))]
    if comparison is not None:
        shown.append(comparison_table(comparison))
    shown += [attribution_table(result.title, result.attribution) for result in results if result.attribution]
    if absent:
        rows = [[missing.title, missing.domain, missing.reason] for missing in absent]
        shown.append(Table("Absent sets", ["set", "domain", "why"], rows))
    return shown


def _notes(results: Sequence[SetResult], published: bool, errors: bool) -> list[str]:
    notes = [NOTE] + ([ERRORS_NOTE] if errors else [])
    notes.append(intervals_note([(result.title, result.interval_over) for result in results]))
    notes += [PUBLISHED_NOTE] if published else []
    notes += [f"{result.title}: {result.fit_error}." for result in results if result.fit_error]
    notes += [
        f"{result.title}: mean spread of the model's own answers {result.spread:.3f}, mean error of its scores "
        f"{result.mae:.3f} (MAE)."
        for result in results
        if not math.isnan(result.spread + result.mae)
    ]
    notes += [
        f"{result.title}: the policy {max(result.seen, key=result.seen.__getitem__)}."
        for result in results
        if result.seen
    ]
    undefined = [result.title for result in results if math.isnan(result.srcc)]
    if undefined:
        notes.append(f"No correlation, so not in the overall mean: {', '.join(undefined)}.")
    training = [result.title for result in results if result.split == "train"]
    if training:
        notes.append(f"Training clips, never averaged with test clips: {', '.join(training)}.")
    if any(result.synthetic for result in results):
        notes.append("Synthetic: the labels follow from a formula, not from people.")
    return notes


def _line(result: SetResult, published: bool, errors: bool) -> list[Any]:
    line: list[Any] = [result.title, result.num_videos, result.num_scored]
    for name in CORRELATIONS:
        low, high = result.intervals[name]
        value = getattr(result, name)
        line.append(value if math.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]")
    line += [result.plcc_fit, result.rmse_fit] + ([result.mae, result.rmse] if errors else [])
    line += [result.num_missing, result.num_unreadable, result.num_unparsable]
    return line + ([_slash(result.published)] if published else [])


def _published_overall(own: Sequence[SetResult]) -> tuple[float, float] | None:
    known = [(r.published, r.expected_videos) for r in own if r.published and r.expected_videos is not None]
    counts = [count for _, count in known]
    srcc, plcc = (weighted_mean([pair[i] for pair, _ in known], counts) for i in (0, 1))
    return (srcc, plcc) if known else None


def _slash(pair: tuple[float, float] | None) -> str | None:
    return pair and f"{pair[0]:.3f} / {pair[1]:.3f}"


def markdown(shown: Sequence[Table]) -> str:
    """Tables as Markdown."""
    parts = []
    for table in (one.shown() for one in shown):
        grid = tabulate(table.rows, table.columns, tablefmt="github", disable_numparse=True)
        parts.append(f"## {table.title}\n\n{grid}\n\n{table.note}".rstrip())
    return "\n\n".join(parts) + "\n"


def write_results(
    out: Path,
    results: Sequence[SetResult],
    absent: Sequence[Absent],
    provenance: Mapping[str, Any],
    comparison: Comparison | None = None,
) -> None:
    """`results.json` with the provenance and the comparison with a baseline (null without), and `results.md`."""
    whole = {
        "provenance": dict(provenance),
        "sets": [asdict(result) for result in results],
        "overall": overall(results),
        "absent": [asdict(missing) for missing in absent],
        "comparison": comparison and asdict(comparison),
    }
    (out / "results.json").write_text(json.dumps(finite(whole), indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(tables(results, absent, comparison)), encoding="utf-8")


def write_page(
    out: Path,
    results: Sequence[SetResult],
    absent: Sequence[Absent],
    provenance: Mapping[str, Any],
    worst: Sequence[tuple[float, ShownClip]],
    comparison: Comparison | None = None,
) -> None:
    """`report.html`: tables, a scatter plot per set, the worst errors."""
    facts = dict(provenance) | {"versions": ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())}
    figures = {f"{result.title}: MOS against predicted score": out / f"{result.name}.png" for result in results}
    Report(
        "Video quality: a policy against MOS",
        facts,
        tables(results, absent, comparison),
        figures,
        [clip for _, clip in worst],
        "Largest errors",
    ).write(out / "report.html")


def _write_clips(path: Path, rows: Sequence[LabelRow], scored: Sequence[Mapping[str, Any]]) -> None:
    columns = ("video", "mos", "score", "spread", "status", "notes", "reasoning", "error")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row, result in zip(rows, scored, strict=True):
            writer.writerow({**result, "spread": result["std"], "video": row.video_id, "mos": row.mos})


def _plot(
    one: BenchmarkSet,
    rows: Sequence[LabelRow],
    scored: Sequence[Mapping[str, Any]],
    path: Path,
    seen: Callable[[int, int], Seen],
) -> list[tuple[float, ShownClip]]:
    """Draw the scatter plot. Returns the set's worst clips, error in standard deviations of its MOS first."""
    known = [(s, row) for s, row in zip(scored, rows, strict=True) if not math.isnan(s["score"])]
    scores, mos = np.array([(s["score"], row.mos) for s, row in known]).reshape(-1, 2).T
    fit = fit_logistic(scores, mos)
    plot_fit(scores, mos, fit, one.title, path)
    if fit.error:  # then by how far apart the ranks are
        errors = np.abs(stats.rankdata(scores) - stats.rankdata(mos)) / max(len(mos), 1)
    else:
        errors = np.abs(fit.mapped - mos) / max(mos.std(), 1e-9)
    worst = []
    for place in np.argsort(-errors)[:WORST]:
        result, row = known[place]
        fitted = "" if fit.error else f", after the fit {fit.mapped[place]:.2f}"
        title = f"{one.title}, {row.video_id}: MOS {row.mos:.2f}{fitted}"
        answers = {f"policy: {result['score']:.2f}": result["reasoning"]}
        worst.append((float(errors[place]), ShownClip(title, row.video, answers, seen=seen)))
    return worst
