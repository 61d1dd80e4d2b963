"""Fits a policy's scores to the scale of somebody's labels, and says how sure a calibrated score is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vqathinker.data import BenchmarkSet, LabelRow, stalls_of
from vqathinker.evaluation.report import Table
from vqathinker.metrics.conformal import LeftOut, interval, leave_out, min_units
from vqathinker.metrics.correlation import rmse, srcc
from vqathinker.metrics.monotone import fit_monotone
from vqathinker.scoring.calibration import ScoreCalibration
from vqathinker.scoring.provenance import versions
from vqathinker.wording import counted

MIN_CLIPS = 30
"""With scores. The curve has nine numbers; that its weights cannot be negative leaves three or four of them free."""
MIN_SOURCES = 5
MIN_SCORES = 5
"""Different ones: fewer do not show the shape of a curve."""
NOTE = (
    "SRCC: of scores and labels, whose order the calibration keeps. RMSE: of the labels of clips that were left "
    "out of the fit, label units. Width: of the interval, mean over these clips; without the policy: of the interval "
    "that the labels alone give, the same for every clip."
)


@dataclass(frozen=True)
class Fitted:
    """A calibration and what it was fitted to.

    Attributes:
        calibration: To save.
        scores: (N,) of the clips that have one.
        labels: (N,) of these.
        table: What it is worth.
    """

    calibration: ScoreCalibration
    scores: np.ndarray
    labels: np.ndarray
    table: Table


def check_labels(
    one: BenchmarkSet, rows: Sequence[LabelRow], coverage: float, scale: tuple[float, float] | None
) -> None:
    """Raise ValueError for what cannot be calibrated, whatever the scores.

    Args:
        one: The labelled clips.
        rows: Theirs, labels in their own units.
        coverage: Share of labels that are to lie in their intervals.
        scale: Ends of the labels' scale, where that is known.
    """
    if not 0.5 <= coverage < 1:
        raise ValueError(f"coverage {coverage:g}: must be at least 0.5 and below 1, e.g. 0.9.")
    if scale is not None and (odd := next((row for row in rows if not scale[0] <= row.mos <= scale[1]), None)):
        raise ValueError(
            f"{one.labels}: {odd.video_id!r} has the label {odd.mos:g}, outside the scale {scale[0]:g} to "
            f"{scale[1]:g}: correct it, or give the scale that the labels have."
        )
    _check_counts(one, rows, coverage, "")


def calibrate(
    one: BenchmarkSet,
    rows: Sequence[LabelRow],
    scored: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    coverage: float = 0.9,
    scale: tuple[float, float] | None = None,
) -> Fitted:
    """Fit a calibration to the clips that have a score.

    Args:
        one: The labelled clips.
        rows: Theirs, labels in their own units.
        scored: A row of `score_files` for each.
        settings: What the scores were made with, see `settings_of`.
        coverage: Share of labels that are to lie in their intervals, in [0.5, 1).
        scale: Ends of the labels' scale, where that is known.

    Raises:
        ValueError: If there are too few clips or sources, scores or labels are constant, or scores do not rise with
            the labels.
    """
    check_labels(one, rows, coverage, scale)
    known = [(s["score"], row) for s, row in zip(scored, rows, strict=True) if not math.isnan(s["score"])]
    kept = [row for _, row in known]
    lost = "" if len(kept) == len(rows) else f"{len(rows) - len(kept)} of {counted(len(rows), 'clip')} have no score; "
    _check_counts(one, kept, coverage, lost)
    scores, labels = np.array([score for score, _ in known]), np.array([row.mos for row in kept])
    _check_agreement(one, scores, labels)
    risk, units = round(1 - coverage, 9), _units(one, kept)
    left_out = leave_out(fit_monotone, scores, labels, units)
    found = ScoreCalibration(
        settings=dict(settings),
        curve=fit_monotone(scores, labels),
        left_out=left_out.curves,
        margin=left_out.margin(risk),
        coverage=coverage,
        scores=(float(scores.min()), float(scores.max())),
        scale=scale,
        stalls=any(stalls_of(row) is not None for row in rows),
    )
    table = _table(found, scores, labels, left_out, leave_out(_mean, scores, labels, units))
    about = {
        "labels": str(one.labels),
        "labels_hash": hashlib.sha256(one.labels.read_bytes()).hexdigest()[:16],
        "clips": len(rows),
        "without_score": len(rows) - len(kept),
        "sources": one.sources(rows).drawn(units),
        "label_range": [float(labels.min()), float(labels.max())],
        **dict(zip(table.columns, table.rows[0], strict=True)),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Fitted(replace(found, about=about), scores, labels, table)


def _units(one: BenchmarkSet, rows: Sequence[LabelRow]) -> Sequence[Hashable]:
    """The source of each clip; one of its own where nothing tells it."""
    return one.sources(rows).names or range(len(rows))


def _check_counts(one: BenchmarkSet, rows: Sequence[LabelRow], coverage: float, lost: str) -> None:
    if len(rows) < MIN_CLIPS:
        raise ValueError(
            f"{one.labels}: {lost}{counted(len(rows), 'clip')} to fit; a calibration needs at least {MIN_CLIPS}, at "
            "best 50 or more. Label more clips."
        )
    sources, needed = len(set(_units(one, rows))), max(MIN_SOURCES, min_units(round(1 - coverage, 9)))
    if sources < needed:
        raise ValueError(
            f"{one.labels}: {lost}clips of {counted(sources, 'source')}; a coverage of {coverage:g} needs at least "
            f"{needed} sources, as clips of one source are alike. Label clips of more, or lower the coverage."
        )


def _check_agreement(one: BenchmarkSet, scores: np.ndarray, labels: np.ndarray) -> None:
    if (different := len(np.unique(scores))) < MIN_SCORES:
        raise ValueError(
            f"{one.labels}: the policy gives {len(scores)} clips {counted(different, 'different score')} only, from "
            f"{scores.min():g} to {scores.max():g}; a calibration needs at least {MIN_SCORES}. A read-out from "
            "probabilities is finer: --readout expected."
        )
    if np.ptp(labels) == 0:
        raise ValueError(f"{one.labels}: all labels are {labels[0]:g}: label clips of different quality.")
    if (agreement := srcc(scores, labels)) <= 0:
        raise ValueError(
            f"{one.labels}: scores do not rise with the labels (SRCC {agreement:.3f} of {len(labels)} clips). Where a "
            "lower label is better, turn the labels round (100 - label); else this policy cannot tell these clips "
            "apart: train it on such clips first."
        )


class _Constant:
    """A curve that ignores the score."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.full(np.shape(scores), self.value)


def _mean(scores: np.ndarray, labels: np.ndarray) -> _Constant:
    return _Constant(float(labels.mean()))


def _table(
    found: ScoreCalibration, scores: np.ndarray, labels: np.ndarray, left_out: LeftOut[Any], alone: LeftOut[Any]
) -> Table:
    """What a calibration is worth, beside intervals of the labels `alone`."""
    low, high = found.interval(scores)
    flat = interval(alone.curves, alone.margin(round(1 - found.coverage, 9)), scores)
    columns = ["clips", "SRCC", "RMSE", "coverage promised", "width", "width without the policy"]
    errors = rmse(left_out.errors, np.zeros(len(labels)))
    row = [len(labels), srcc(scores, labels), errors, found.coverage]
    row += [float(np.mean(high - low)), float(np.mean(flat[1] - flat[0]))]
    return Table("Calibration", columns, [row], NOTE)
