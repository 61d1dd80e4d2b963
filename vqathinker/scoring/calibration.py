"""What a policy's score is on the user's own scale, and how sure that is: made by `vqathinker calibrate`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.metrics.conformal import interval
from vqathinker.metrics.monotone import MonotoneCurve
from vqathinker.scoring.provenance import check_settings, settings_of
from vqathinker.wording import counted
from vqathinker.writing import write_whole

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScore, QualityScorer

FOLDER = "calibration"
"""Beside a checkpoint, with `NAME.json` of each calibration."""


@dataclass(frozen=True)
class ScoreCalibration:
    """A strictly rising curve from a policy's scores to the scale of somebody's labels, and its prediction interval.

    If the clips that are scored and the labelled ones are exchangeable (whole sources, where these are told), then a
    clip's label lies in its interval with probability >= `coverage`; over clips and label sets, not for each kind of
    clip by itself.

    Attributes:
        settings: What the scores were made with, see `settings_of`.
        curve: Fitted to all labelled clips.
        left_out: Fitted without one source each, see `metrics.conformal.interval`.
        margin: Of the interval, label units.
        coverage: In (0, 1).
        scores: Lowest and highest score of a labelled clip.
        scale: Ends of the labels' scale, where values and intervals end too; `None` where it is not known.
        stalls: Whether prompts told of the clips' stalls.
        about: For people: label file and its hash, numbers of clips, errors, versions, date.
    """

    settings: Mapping[str, Any]
    curve: MonotoneCurve
    left_out: tuple[MonotoneCurve, ...]
    margin: float
    coverage: float
    scores: tuple[float, float]
    scale: tuple[float, float] | None = None
    stalls: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name all that it does to a score."""
        said = {name: value for name, value in asdict(self).items() if name != "about"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def values(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """M scores on the labels' scale, (M,) in label units; equal where the curve is beyond an end of it."""
        return self._on_scale(self.curve(np.asarray(scores, float)))

    def interval(self, scores: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high end for M scores, (M,) and (M,) in label units, with `values` within; NaN of NaN.

        Curves beyond an end of the scale count as that end before the margin is added, as no label lies there. So the
        interval keeps a width where all curves are beyond. It is never narrower than that of the curves as they are.
        """
        curves = [self._ended(curve) for curve in self.left_out]
        low, high = interval(curves, self.margin, np.asarray(scores, float))
        values = self.values(scores)
        return self._on_scale(np.minimum(low, values)), self._on_scale(np.maximum(high, values))

    def _ended(self, curve: MonotoneCurve) -> Callable[[np.ndarray], np.ndarray]:
        return lambda new: self._on_scale(curve(new))

    def _on_scale(self, values: np.ndarray) -> np.ndarray:
        return values if self.scale is None else values.clip(*self.scale)

    def applied(self, result: QualityScore) -> QualityScore:
        """A result with `calibrated`, `low` and `high`."""
        [value], ([low], [high]) = self.values([result.score]), self.interval([result.score])
        return replace(result, calibrated=float(value), low=float(low), high=float(high))

    def outside(self, scores: Sequence[float]) -> int:
        """How many scores lie below or above those of all labelled clips, where the curve is a guess."""
        return sum(not (math.isnan(score) or self.scores[0] <= score <= self.scores[1]) for score in scores)

    def line(self, scores: Sequence[float]) -> str:
        """What is said of calibrated scores: whose scale, how sure, and how many are beyond the labelled clips'."""
        labels = self.about.get("labels", "labels")
        told = f"calibrated to {labels}; intervals hold for {100 * self.coverage:g}% of clips like those, on average"
        if not (outside := self.outside(scores)):
            return told
        low, high = self.scores
        return f"{told}; {counted(outside, 'score')} outside theirs ({low:g} to {high:g}), where this is a guess"

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(self), indent=1) + "\n")


def load_score_calibration(path: str | Path) -> ScoreCalibration:
    """What `ScoreCalibration.save` wrote.

    Raises:
        ValueError: If it is anything else.
        OSError: If it cannot be read.
    """
    try:
        whole = json.loads(Path(path).read_text(encoding="utf-8"))
        curve, *left_out = (_curve(one) for one in (whole.pop("curve"), *whole.pop("left_out")))
        ends = {name: value if value is None else (float(value[0]), float(value[1])) for name, value in _ends(whole)}
        found = ScoreCalibration(curve=curve, left_out=tuple(left_out), **(whole | ends))
        if not left_out or not found.settings["checkpoint_hash"]:
            raise ValueError("it has no curves with a clip left out, or no policy")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{str(path)!r} is not a calibration of scores ({error!r}): make one with `vqathinker calibrate`."
        ) from None


def _curve(values: Mapping[str, Any]) -> MonotoneCurve:
    known = MonotoneCurve(**values)
    return replace(known, centres=tuple(known.centres), weights=tuple(known.weights))


def _ends(whole: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, whole[name]) for name in ("scores", "scale")]


def find_score_calibration(name: str | Path, checkpoint: str | Path) -> Path:
    """The file of a calibration: beside the checkpoint by name, or anywhere by its path, which ends in `.json`.

    Raises:
        FileNotFoundError: If there is none; the message has the names that there are.
    """
    folder = Path(checkpoint) / FOLDER
    path = Path(name) if Path(name).suffix == ".json" else folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"no calibration {str(name)!r}: {str(path)!r} is not a file. Beside this checkpoint there are: {known}. "
            "Name one, or a .json file, or make one with `vqathinker calibrate`."
        )
    return path


def calibration_for(scorer: QualityScorer, path: str | Path) -> ScoreCalibration:
    """A calibration, if it was made with this policy and these settings.

    Args:
        scorer: Made by `QualityScorer.from_pretrained`.
        path: Its file.

    Raises:
        ValueError: If it is no calibration, or of other settings.
        OSError: If it cannot be read.
    """
    found = load_score_calibration(path)
    check_settings(found.settings, settings_of(scorer))
    return found
