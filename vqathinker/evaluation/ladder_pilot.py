"""`vqathinker ladder`: encode a clip, score its rungs without a reference, take the cheapest that keeps a quality."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.clips import open_clip
from vqathinker.clips.codecs import ENCODERS
from vqathinker.clips.rungs import Rung, encoded_size, scaled_size
from vqathinker.evaluation.encodes import encode_missing
from vqathinker.evaluation.ladder_calibration import Calibration, RungKind, rates
from vqathinker.evaluation.ladder_choice import SourceLadder, count_scenes, crossover_loss, judge_rule
from vqathinker.evaluation.report import Table
from vqathinker.scoring.scorer import process_state
from vqathinker.wording import counted


def encode_clip(clip: str | Path, calibration: Calibration, folder: str | Path) -> list[Rung]:
    """Encode a clip as a calibration's sources were; encodes that the same file gave before are kept.

    Args:
        clip: The file.
        calibration: Names the kinds of rungs, and how large its sources were.
        folder: Gets `NAME-XXXXXXXX/CODEC_WxH_crfNN.mp4`, with digits that name the clip's path: clips of other folders
            may have its name.

    Returns:
        A rung per kind, in their order. Under `accelerate launch` the main process makes them.

    Raises:
        ClipError: If the clip cannot be decoded.
        ValueError: If it is smaller or larger than the sources, smaller than a rung, or two kinds are one at its size.
    """
    own, heights = encoded_size(open_clip(clip)), {kind.height for kind in calibration.kinds}
    if not calibration.holds_for(own):
        low, high = calibration.sides
        raise ValueError(
            f"{clip}: {own[0]}x{own[1]}, and the shorter sides of the calibration's sources are {low} to {high}: "
            "calibrate with sources of its size."
        )
    if large := sorted(height for height in heights if height > min(own)):
        raise ValueError(
            f"{clip}: {own[0]}x{own[1]} is smaller than rungs of height {large}: leave these out with --heights."
        )
    if {0, min(own)} <= heights:
        raise ValueError(
            f"{clip}: its own size {own[0]}x{own[1]} is that of the rungs of height {min(own)} too: leave one of the "
            f"two out, with --heights source or --heights {min(own)}."
        )
    target = Path(folder) / f"{Path(clip).stem}-{_digits(clip)}"
    rungs = [_rung(target, kind, scaled_size(own, kind.height)) for kind in calibration.kinds]
    with process_state().main_process_first():
        if process_state().is_main_process:
            encode_missing(Path(clip), rungs)
    return rungs


def _digits(clip: str | Path) -> str:
    """Eight hex digits that name where a file lies."""
    return hashlib.sha256(os.fsencode(Path(clip).resolve())).hexdigest()[:8]


def _rung(folder: Path, kind: RungKind, size: tuple[int, int]) -> Rung:
    name = f"{kind.codec}_{size[0]}x{size[1]}_crf{kind.crf:02d}.mp4"
    return Rung(folder / name, ENCODERS[kind.codec], kind.crf, size)


@dataclass(frozen=True)
class RungChoice:
    """The rung to send of a clip.

    Attributes:
        clip: The file.
        rungs: N encodes.
        kinds: N, what each is.
        ladder: With rates and scores, and without labels.
        calibration: What the bound comes from, with the same kinds.
        target: Score units.
        risk: In (0, 1).
        threshold: The predicted score that a rung must pass.
        picked: Index of the rung to send: the cheapest above the threshold, else the one of most bits.
        promised: Whether there is one above it.
    """

    clip: str
    rungs: tuple[Rung, ...]
    kinds: tuple[RungKind, ...]
    ladder: SourceLadder
    calibration: Calibration
    target: float
    risk: float
    threshold: float
    picked: int
    promised: bool

    @property
    def margin(self) -> float:
        """What a score must be above the target by; below 0 where scores are too low, -inf where every rung will do."""
        return self.threshold - self.target

    @property
    def promise(self) -> str:
        """What is promised of the rung, in a sentence."""
        count, labels = self.calibration.scenes, self.calibration.labels
        if self.promised:
            return (
                f"promised: a quality of {self.target:g} or more ({labels}), at a risk of {self.risk:g}: of clips like "
                f"the {count} calibration scenes' at most {100 * self.risk:g} % are promised what their rung has not."
            )
        best = np.nanmax(self.ladder.predicted) if np.isfinite(self.ladder.predicted).any() else math.nan
        return (
            f"not promised: no rung's score is above {self.threshold:.3f} (the best is {best:.3f}), which a quality of "
            f"{self.target:g} ({labels}) needs at a risk of {self.risk:g} after {count} calibration scenes. This is "
            "the rung of most bits."
        )

    @property
    def bounds(self) -> np.ndarray:
        """(N,) scores less the margin: above the target where the quality is promised. NaN where every rung will do."""
        return self.ladder.predicted - (self.margin if self.margin > -math.inf else math.nan)

    def rows(self) -> list[dict[str, Any]]:
        """The rungs, cheapest first."""
        return [
            {
                "video": str(self.rungs[i].path),
                "codec": self.kinds[i].codec,
                "crf": self.kinds[i].crf,
                "size": "{}x{}".format(*self.rungs[i].size or ()),
                "kbps": round(float(self.ladder.rates[i]), 1),
                "predicted": round(float(self.ladder.predicted[i]), 4),
                "bound": round(float(self.bounds[i]), 4),
                "picked": bool(i == self.picked),
            }
            for i in self.ladder.order
        ]

    def table(self) -> Table:
        """For people."""
        names = ("codec", "crf", "size", "kbps", "predicted", "bound")
        cells = [[f"{row['kbps']:.1f}" if name == "kbps" else row[name] for name in names] for row in self.rows()]
        note = f"bound: predicted score less the calibrated margin, {self.margin:.3f} at a target of {self.target:g}"
        if self.margin == -math.inf:
            note = "no bound: at this risk and target every rung will do"
        return Table(f"Rungs of {self.clip}", ["codec", "CRF", "size", "kbit/s", *names[4:]], cells, note)

    def text(self) -> str:
        """The rung, what it saves, and what is promised of it."""
        i, top = self.picked, self.ladder.top
        saved = f", {100 * (1 - self.ladder.rates[i] / self.ladder.rates[top]):.0f} % less than {self.kinds[top]}"
        rate = f"{self.ladder.rates[i]:.1f} kbit/s{saved if i != top else ''}"
        return f"{self.rungs[i].path}: {self.kinds[i]}, {rate}\n{self.promise}"

    def record(self) -> dict[str, Any]:
        """All of it for JSON, but for NaN."""
        return {
            "clip": self.clip,
            "target": self.target,
            "risk": self.risk,
            "threshold": self.threshold if self.threshold > -math.inf else math.nan,
            "promised": self.promised,
            "promise": self.promise,
            "labels": self.calibration.labels,
            "calibration_table": self.calibration.table,
            "calibration_sources": len(self.calibration.ladders),
            "calibration_scenes": self.calibration.scenes,
            "rungs": self.rows(),
        }


def choose_rung(
    clip: str, rungs: Sequence[Rung], scores: Sequence[float], calibration: Calibration, target: float, risk: float
) -> RungChoice:
    """The cheapest rung that keeps a quality, or the one of most bits if none can be promised to.

    Args:
        clip: The file.
        rungs: Its encodes, of the calibration's kinds.
        scores: Their scores; NaN where there is none.
        calibration: See `Calibration`.
        target: Quality to keep, on the scale of the labels, 1 to 5. Decide it before, and which rungs there are: what
            is tried out until a rung fits has no bound.
        risk: Share of clips that may get a rung that falls short.

    Raises:
        ValueError: See `Calibration.threshold`.
    """
    names = tuple(kind.ladder for kind in calibration.kinds)
    unknown = np.full(len(rungs), np.nan)
    ladder = SourceLadder(clip, names, rates([rung.path for rung in rungs]), np.array(scores, float), unknown)
    threshold = calibration.threshold(target, risk)
    picked = ladder.choose(threshold)
    return RungChoice(
        clip,
        tuple(rungs),
        calibration.kinds,
        ladder,
        calibration,
        target,
        risk,
        threshold,
        ladder.top if picked is None else picked,
        picked is not None,
    )


def check_tables(calibration: Calibration, ladders: Sequence[SourceLadder], target: float, risk: float) -> list[Table]:
    """Does the promise hold on held-out sources, what does the choice save, and what do wrong decisions cost?

    Args:
        calibration: See `Calibration`.
        ladders: Held-out sources of the same kinds of rungs, with labels and scores; at least one.
        target: Score units.
        risk: In (0, 1).
    """
    threshold = calibration.threshold(target, risk)
    rules = [
        judge_rule("bound above the target", ladders, target, lambda ladder: ladder.choose(threshold)),
        judge_rule("score above the target", ladders, target, lambda ladder: ladder.choose(target)),
        judge_rule("labels known", ladders, target, lambda ladder: ladder.cheapest_kept(target)),
    ]
    kept = Table(
        f"Rungs chosen for {target:g} on {_told(ladders)}",
        ["rule", "promised", "short", "coverage", "95 % interval", "bits saved"],
        [
            [rule.rule, rule.promised, rule.short, rule.coverage, "{:.3f} to {:.3f}".format(*rule.interval), rule.saved]
            for rule in rules
        ],
        "coverage: share of the scenes none of whose rungs falls short of a promise; the bound's is at least "
        f"{1 - risk:g} on average over calibrations (here {counted(calibration.scenes, 'scene')}). bits saved: against "
        "the rung of most bits, which is sent where nothing is promised",
    )
    return [kept, crossover_table(ladders)]


def _told(ladders: Sequence[SourceLadder]) -> str:
    sources, scenes = len(ladders), count_scenes(ladders)
    told = counted(sources, "held-out source")
    return told if scenes == sources else f"{told} of {counted(scenes, 'scene')}"


def crossover_table(ladders: Sequence[SourceLadder]) -> Table:
    """Quality lost by deciding between codecs and sizes by the policy, and by always taking one of them."""
    names = list(dict.fromkeys(name for ladder in ladders for name in ladder.ladders))
    ways = {"the policy": list(ladders)} if len(names) > 1 else {}
    for name in names if ways else ():
        ways[f"always {name}"] = [_always(ladder, name) for ladder in ladders]
    rows = []
    for way, decided in ways.items():
        losses = [found for ladder in decided if not math.isnan((found := crossover_loss(ladder)).loss)]
        values = np.array([(one.loss, one.wrong) for one in losses]).reshape(-1, 2)
        rows.append([way, len(losses), *(values.mean(0).tolist() if losses else (math.nan, math.nan))])
    return Table(
        "Cross-over loss",
        ["decided by", "sources", "label lost", "share of rates wrong"],
        rows,
        "at each bit rate that several codecs or sizes reach: the best label there less the label of the one taken, "
        "mean over the logarithm of the rate, then over sources"
        if rows
        else "one codec and size: nothing to decide",
    )


def _always(ladder: SourceLadder, name: str) -> SourceLadder:
    """Predictions that prefer one ladder wherever it reaches, of the rungs that have a score."""
    preferred = np.array([float(other == name) for other in ladder.ladders])
    return replace(ladder, predicted=np.where(np.isnan(ladder.predicted), np.nan, preferred))
