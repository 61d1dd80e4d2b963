"""What calibrates the choice of a rung: tables of labelled ladders, and a file with a policy's scores of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.clips import open_clip
from vqathinker.data import read_labels
from vqathinker.data.labels import LabelRow
from vqathinker.data.scales import LABEL_RANGE, mos_scale
from vqathinker.evaluation.benchmark import finite
from vqathinker.evaluation.ladder_choice import SourceLadder, conformal_threshold, threshold_of

ABOUT = "ladder.json"
"""Beside a table of `vqathinker synth --ladder`: what its encodes were made with."""
ENCODING = ("encoder", "options")
"""What of a codec's entry there decides what an encode looks like, but for versions."""


@dataclass(frozen=True, order=True)
class RungKind:
    """A way to encode any clip.

    Attributes:
        codec: Key of `ENCODERS`.
        height: Shorter side in pixels; 0 for the clip's own size.
        crf: Constant rate factor.
    """

    codec: str
    height: int
    crf: int

    @property
    def ladder(self) -> str:
        """What can be ordered by CRF."""
        return f"{self.codec} {self.height or 'own size'}"

    def __str__(self) -> str:
        return f"{self.ladder} CRF {self.crf}"


@dataclass(frozen=True)
class LadderTable:
    """Labelled ladders, every source with the same kinds of rungs.

    Attributes:
        path: The table.
        kinds: N kinds of rungs.
        videos: Source -> N files.
        ladders: One per source, with labels and without scores.
        encoders: Codec -> what encoded it, see `encoder_settings`.
        labels: What the labels are, in words.
    """

    path: Path
    kinds: tuple[RungKind, ...]
    videos: dict[str, list[str]]
    ladders: tuple[SourceLadder, ...]
    encoders: dict[str, Any]
    labels: str

    def scored(self, scores: Mapping[str, float]) -> tuple[SourceLadder, ...]:
        """The ladders with scores.

        Args:
            scores: Video -> score; NaN where there is none.
        """
        return tuple(
            replace(ladder, predicted=np.array([scores[video] for video in self.videos[ladder.source]], float))
            for ladder in self.ladders
        )

    def narrowed(self, kinds: Sequence[RungKind]) -> LadderTable:
        """With these kinds of rungs only, in this order."""
        places = [self.kinds.index(kind) for kind in kinds]
        videos = {source: [files[i] for i in places] for source, files in self.videos.items()}
        ladders = tuple(_part(ladder, places) for ladder in self.ladders)
        return replace(self, kinds=tuple(kinds), videos=videos, ladders=ladders)


def read_ladder_table(path: str | Path) -> LadderTable:
    """A table of `vqathinker synth --ladder`, with `ladder.json` beside it.

    Raises:
        LabelError: If it cannot be read as a label file, see `read_labels`.
        ValueError: If `ladder.json` or a column is missing, or the sources do not have the same kinds of rungs.
        OSError: If an encode is missing.
    """
    path = Path(path)
    about = _read_about(path)
    rows: dict[str, dict[RungKind, LabelRow]] = {}
    for row in read_labels(path, path.parent, "identity"):
        kind = _kind_of(path, row, about)
        others = rows.setdefault(row.extra["source"], {})
        if kind in others:
            raise ValueError(f"{path}: source {row.extra['source']!r} has two rungs {kind}. Keep one of them.")
        others[kind] = row
    kinds = tuple(sorted({kind for rungs in rows.values() for kind in rungs}))
    for source, rungs in rows.items():
        if lacking := [str(kind) for kind in kinds if kind not in rungs]:
            raise ValueError(
                f"{path}: source {source!r} has no rungs {lacking[:3]}, which others have. The choice is calibrated "
                "over sources with the same rungs: make ladders with --heights that every source has."
            )
    videos = {source: [rungs[kind].video for kind in kinds] for source, rungs in rows.items()}
    ladders = tuple(
        SourceLadder(
            source,
            tuple(kind.ladder for kind in kinds),
            rates(videos[source]),
            np.full(len(kinds), np.nan),
            np.array([rungs[kind].mos for kind in kinds]),
        )
        for source, rungs in rows.items()
    )
    return LadderTable(path, kinds, videos, ladders, about["encodes"]["codecs"], _labels_of(rows, about))


def _read_about(path: Path) -> dict[str, Any]:
    file = path.parent / ABOUT
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        missing = [name for name in ("encodes", "found", "measured_by") if name not in about]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: {file} cannot be read ({error}). It says what encoded the rungs, as a clip will be: name a table "
            "that `vqathinker synth --ladder` made (its column `mos` may hold other labels)."
        ) from None
    if missing:
        raise ValueError(f"{file} has no {missing}: let `vqathinker synth --ladder` finish first.")
    return about


def _kind_of(path: Path, row: LabelRow, about: Mapping[str, Any]) -> RungKind:
    try:
        source, codec = row.extra["source"], row.extra["codec"]
        size, crf = (int(row.extra["width"]), int(row.extra["height"])), int(row.extra["crf"])
        own = tuple(about["found"]["sources"][source]["size"])
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: {row.video_id!r} does not fit ({error!r}): the table needs the columns source, codec, crf, width "
            f"and height, whole numbers, and sources that {ABOUT} knows."
        ) from None
    return RungKind(codec, 0 if size == own else min(size), crf)


def _labels_of(rows: Mapping[str, Mapping[RungKind, LabelRow]], about: Mapping[str, Any]) -> str:
    """VMAF, if the labels are those of the column `vmaf`."""
    scale = mos_scale("vmaf:0,100")
    flat = [row for rungs in rows.values() for row in rungs.values()]
    try:
        if all(abs(scale(float(row.extra["vmaf"])) - row.mos) < 1e-3 for row in flat):
            return f"{about['measured_by']['model']}, as 1 + VMAF / 25"
    except (KeyError, ValueError):
        pass
    return "the labels of the column mos"


def rates(videos: Sequence[str | Path]) -> np.ndarray:
    """Bit rates of encodes of one clip, kbit/s: size of the file over the time that the clip takes.

    Args:
        videos: N files of equally many frames and one rate.

    Returns:
        (N,) float.

    Raises:
        ClipError: If the first one cannot be read.
        OSError: If one is missing.
    """
    clip = open_clip(videos[0])
    seconds = clip.num_frames / clip.fps
    return np.array([Path(video).stat().st_size for video in videos]) * 8 / 1000 / seconds


@dataclass(frozen=True)
class Calibration:
    """A policy's scores of labelled ladders: what any target and risk is calibrated with.

    Attributes:
        policy: Settings of the scorer, see `settings_of`.
        table: The table, and its hash.
        labels: What the labels are, in words.
        encoders: Codec -> what encoded it.
        kinds: N kinds of rungs.
        ladders: One per source, with scores.
    """

    policy: dict[str, Any]
    table: str
    labels: str
    encoders: dict[str, Any]
    kinds: tuple[RungKind, ...]
    ladders: tuple[SourceLadder, ...]

    def threshold(self, target: float, risk: float) -> float:
        """The predicted score that a rung must pass, see `conformal_threshold`; -inf where every rung will do.

        Raises:
            ValueError: If the target is no score, or there are too few sources for the risk.
        """
        if not LABEL_RANGE[0] < target <= LABEL_RANGE[1]:
            raise ValueError(f"target {target}: must be a score above {LABEL_RANGE[0]:g}, at most {LABEL_RANGE[1]:g}.")
        return conformal_threshold([threshold_of(ladder, target) for ladder in self.ladders], risk)

    def narrowed(self, keep: Callable[[RungKind], bool]) -> Calibration:
        """With only some kinds of rungs, at least one."""
        places = [i for i, kind in enumerate(self.kinds) if keep(kind)]
        kinds = tuple(self.kinds[i] for i in places)
        return replace(self, kinds=kinds, ladders=tuple(_part(ladder, places) for ladder in self.ladders))

    def check_policy(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError for another policy, or one that sees, reads or answers otherwise.

        Args:
            settings: Of the scorer, see `settings_of`.
        """
        names = [name for name in {**self.policy, **settings} if name != "checkpoint"]
        if other := [name for name in names if self.policy.get(name) != settings.get(name)]:
            told = ", ".join(f"{name} {settings.get(name)!r} and not {self.policy.get(name)!r}" for name in other)
            raise ValueError(
                f"the calibration was made with other settings (policy {self.policy.get('checkpoint')!r}); now {told}. "
                "Score with those, or calibrate again."
            )

    def check_encoders(self, encoders: Mapping[str, Any]) -> list[str]:
        """Raise ValueError where other options encode.

        Args:
            encoders: Codec -> what encodes now, see `encoder_settings`.

        Returns:
            Codecs whose library has another version.
        """
        codecs = sorted({kind.codec for kind in self.kinds})
        for codec in codecs:
            known, now = self.encoders[codec], encoders[codec]
            if other := [name for name in ENCODING if known[name] != now[name]]:
                told = ", ".join(f"{name} {now[name]} and not {known[name]}" for name in other)
                raise ValueError(f"{codec}: its encodes have {told}. Calibrate with ladders that are encoded this way.")
        return [codec for codec in codecs if encoders[codec]["library"] != self.encoders[codec]["library"]]

    def check_held_out(self, table: LadderTable) -> None:
        """Raise ValueError if a source of a table has the very labels of one that this was made with."""
        known = {tuple(np.round(ladder.quality, 4)) for ladder in self.ladders}
        if same := [ladder.source for ladder in table.ladders if tuple(np.round(ladder.quality, 4)) in known]:
            raise ValueError(
                f"{table.path}: the calibration was made with {len(same)} of its sources, {same[:3]}: check with "
                "sources that are in neither the training set nor the calibration."
            )

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        sources: dict[str, dict[str, list[float]]] = {
            ladder.source: {
                "kbps": ladder.rates.tolist(),
                "predicted": ladder.predicted.tolist(),
                "label": ladder.quality.tolist(),
            }
            for ladder in self.ladders
        }
        whole: dict[str, Any] = {name: getattr(self, name) for name in ("policy", "table", "labels", "encoders")}
        whole |= {"rungs": [asdict(kind) for kind in self.kinds], "sources": finite(sources)}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def load_calibration(path: str | Path) -> Calibration:
    """What `Calibration.save` wrote.

    Raises:
        ValueError: If it is anything else.
        OSError: If it cannot be read.
    """
    try:
        whole = json.loads(Path(path).read_text(encoding="utf-8"))
        kinds = tuple(RungKind(**kind) for kind in whole["rungs"])
        ladders = tuple(_ladder(name, kinds, rungs) for name, rungs in whole["sources"].items())
        return Calibration(whole["policy"], whole["table"], whole["labels"], whole["encoders"], kinds, ladders)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a calibration ({error!r}): make one with `vqathinker ladder --calibrate`."
        ) from None


def _ladder(name: str, kinds: Sequence[RungKind], rungs: Mapping[str, Sequence[float | None]]) -> SourceLadder:
    keys = ("kbps", "predicted", "label")
    values = [np.array([math.nan if value is None else value for value in rungs[key]], float) for key in keys]
    if any(len(value) != len(kinds) for value in values):
        raise ValueError(f"source {name!r} does not have {len(kinds)} rungs")
    return SourceLadder(name, tuple(kind.ladder for kind in kinds), *values)


def _part(ladder: SourceLadder, places: Sequence[int]) -> SourceLadder:
    names, values = tuple(ladder.ladders[i] for i in places), (ladder.rates, ladder.predicted, ladder.quality)
    return SourceLadder(ladder.source, names, *(value[list(places)] for value in values))


def hash_of(path: str | Path) -> str:
    """Sixteen hex digits that name a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
