"""What calibrates the choice of a rung: tables of labelled ladders, and a file with a policy's scores of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.clips import open_clip
from vqathinker.data import read_labels
from vqathinker.data.labels import LabelRow
from vqathinker.data.scales import LABEL_RANGE, mos_scale
from vqathinker.evaluation.benchmark import finite
from vqathinker.evaluation.encodes import ABOUT, read_about
from vqathinker.evaluation.ladder_choice import SourceLadder, conformal_threshold, count_scenes, scene_thresholds
from vqathinker.scoring.provenance import check_settings
from vqathinker.writing import write_whole

ENCODING = ("encoder", "options")
"""What of a codec's entry there decides what an encode looks like, but for versions."""


@dataclass(frozen=True, order=True)
class RungKind:
    """A way to encode any clip.

    Attributes:
        codec: Key of `ENCODERS`.
        height: Shorter side in pixels that was asked for; 0 for the clip's own size.
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
        sizes: Source -> its width and height.
        encoders: Codec -> what encoded it, see `encoder_settings`.
        labels: What the labels are, in words.
    """

    path: Path
    kinds: tuple[RungKind, ...]
    videos: dict[str, list[str]]
    ladders: tuple[SourceLadder, ...]
    sizes: dict[str, tuple[int, int]]
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

    def of_sources(self, names: Collection[str]) -> LadderTable:
        """With these sources only."""
        videos = {source: files for source, files in self.videos.items() if source in names}
        return replace(self, videos=videos, ladders=tuple(one for one in self.ladders if one.source in names))


def read_ladder_table(path: str | Path) -> LadderTable:
    """A table of `vqathinker synth --ladder`, with `ladder.json` beside it.

    Raises:
        LabelError: If it cannot be read as a label file, see `read_labels`.
        ValueError: If `ladder.json` or a column is missing, or the sources do not have the same kinds of rungs.
        OSError: If an encode is missing.
    """
    path = Path(path)
    about = read_about(path.parent, ["encodes", "found", "measured_by"])
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
            next(iter(rungs.values())).extra.get("scene", ""),
        )
        for source, rungs in rows.items()
    )
    sizes = {source: _size(about, source) for source in rows}
    return LadderTable(path, kinds, videos, ladders, sizes, about["encodes"]["codecs"], _labels_of(rows, about))


def _size(about: Mapping[str, Any], source: str) -> tuple[int, int]:
    width, height = about["found"]["sources"][source]["size"]
    return width, height


def _kind_of(path: Path, row: LabelRow, about: Mapping[str, Any]) -> RungKind:
    try:
        source, codec = row.extra["source"], row.extra["codec"]
        size, crf = (int(row.extra["width"]), int(row.extra["height"])), int(row.extra["crf"])
        own = _size(about, source)
        # Tables of before lack the column; there a height that is the source's own cannot be told from 0.
        height = int(row.extra.get("height_asked", 0 if size == own else min(size)))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: {row.video_id!r} does not fit ({error!r}): the table needs the columns source, codec, crf, width "
            f"and height, whole numbers, and sources that {ABOUT} knows."
        ) from None
    return RungKind(codec, height, crf)


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
        sizes: Source -> its width and height.
    """

    policy: dict[str, Any]
    table: str
    labels: str
    encoders: dict[str, Any]
    kinds: tuple[RungKind, ...]
    ladders: tuple[SourceLadder, ...]
    sizes: dict[str, tuple[int, int]]

    @property
    def scenes(self) -> int:
        """Number of scenes: what a risk is bounded by."""
        return count_scenes(self.ladders)

    @property
    def sides(self) -> tuple[int, int]:
        """Of the sources' shorter sides the smallest and the largest, in pixels."""
        sides = [min(size) for size in self.sizes.values()]
        return min(sides), max(sides)

    def holds_for(self, size: tuple[int, int]) -> bool:
        """Whether a clip is as large as the sources: its width and height, or the reverse."""
        return self.sides[0] <= min(size) <= self.sides[1]

    def threshold(self, target: float, risk: float) -> float:
        """The predicted score that a rung must pass, see `conformal_threshold`; -inf where every rung will do.

        Raises:
            ValueError: If the target is no score, or there are too few scenes for the risk.
        """
        if not LABEL_RANGE[0] < target <= LABEL_RANGE[1]:
            raise ValueError(f"target {target}: must be a score above {LABEL_RANGE[0]:g}, at most {LABEL_RANGE[1]:g}.")
        return conformal_threshold(scene_thresholds(self.ladders, target), risk)

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
        check_settings(self.policy, settings)

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
        """Raise ValueError if a source of a table has the very labels and rates of one that this was made with.

        Args:
            table: All that it holds. Rungs that the two share are compared, so call it before narrowing.
        """
        shared = [kind for kind in self.kinds if kind in table.kinds]
        if not shared:
            return
        known = {_traits(ladder) for ladder in self.narrowed(lambda kind: kind in shared).ladders}
        if same := [ladder.source for ladder in table.narrowed(shared).ladders if _traits(ladder) in known]:
            raise ValueError(
                f"{table.path}: the calibration was made with {len(same)} of its sources, {same[:3]}: check with "
                "sources that are in neither the training set nor the calibration."
            )

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        sources: dict[str, dict[str, Any]] = {
            ladder.source: {
                "scene": ladder.scene,
                "size": list(self.sizes[ladder.source]),
                "kbps": ladder.rates.tolist(),
                "predicted": ladder.predicted.tolist(),
                "label": ladder.quality.tolist(),
            }
            for ladder in self.ladders
        }
        whole: dict[str, Any] = {name: getattr(self, name) for name in ("policy", "table", "labels", "encoders")}
        whole |= {"rungs": [asdict(kind) for kind in self.kinds], "sources": finite(sources)}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(whole, indent=1) + "\n")


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
        sizes = {name: (int(rungs["size"][0]), int(rungs["size"][1])) for name, rungs in whole["sources"].items()}
        if not sizes:
            raise ValueError("it has no sources")
        return Calibration(whole["policy"], whole["table"], whole["labels"], whole["encoders"], kinds, ladders, sizes)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{str(path)!r} is not a calibration ({error!r}): make one with `vqathinker ladder --calibrate`."
        ) from None


def _traits(ladder: SourceLadder) -> tuple[float, ...]:
    """Labels and rates, by which a source is known again under another name."""
    return (*np.round(ladder.quality, 4), *np.round(ladder.rates, 3))


def _ladder(name: str, kinds: Sequence[RungKind], rungs: Mapping[str, Any]) -> SourceLadder:
    keys = ("kbps", "predicted", "label")
    values = [np.array([math.nan if value is None else value for value in rungs[key]], float) for key in keys]
    if any(len(value) != len(kinds) for value in values):
        raise ValueError(f"source {name!r} does not have {len(kinds)} rungs")
    kbps, predicted, quality = values
    for key, known in (("kbps", kbps), ("label", quality)):
        if not np.isfinite(known).all():
            raise ValueError(f"source {name!r} has rungs without a {key}: only `predicted` may be null")
    return SourceLadder(name, tuple(kind.ladder for kind in kinds), kbps, predicted, quality, rungs["scene"])


def _part(ladder: SourceLadder, places: Sequence[int]) -> SourceLadder:
    names, values = tuple(ladder.ladders[i] for i in places), (ladder.rates, ladder.predicted, ladder.quality)
    kbps, predicted, quality = (value[list(places)] for value in values)
    return SourceLadder(ladder.source, names, kbps, predicted, quality, ladder.scene)


def hash_of(path: str | Path) -> str:
    """Sixteen hex digits that name a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
