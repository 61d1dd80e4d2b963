"""Ladders: each clip encoded at many strengths, labelled by VMAF, split by source."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from vqathinker.clips.codecs import ENCODERS, MAX_CRF, check_codecs, check_crfs, encoder_settings
from vqathinker.evaluation.encodes import ABOUT, read_about
from vqathinker.metrics.correlation import srcc
from vqathinker.synth.build import check_splits, run_jobs, write_labels
from vqathinker.synth.codecs import crf_of
from vqathinker.synth.ladder_sources import (
    RECORD,
    SCALE,
    LadderSource,
    MadeLadders,
    find_sources,
    make_source,
    write_json,
)
from vqathinker.synth.vmaf import VMAF_MODEL, check_model, versions
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

SPLITS = {"train": 24, "val": 6, "test": 10}
"""Sources of each split."""
H264_CRFS = tuple(range(18, MAX_CRF["libx264"] + 1, 3))
"""From next to no loss to the strongest compression; other codecs get what compresses as strongly."""
LEAST_ITSELF = 95.0
"""VMAF of a source with itself; below this it is warned of."""


@dataclass(frozen=True)
class LadderSpec:
    """What to make.

    Args:
        splits: Split -> number of sources; of own clips its share, as in `source_scenes`. Splits never share a scene.
        source: Folder of the user's own clips, which are encoded as they are; default procedural scenes.
        codecs: Keys of `ENCODERS`.
        crfs: Constant rate factors, each on the codec's own scale; default as strong as `H264_CRFS`, as far as the
            codec goes.
        heights: Sizes to encode at, by the shorter side in pixels, even, 32 or more; 0 is the source's own. A source
            that is smaller than one gets no rungs there.
        num_frames: Frames of a drawn scene.
        size: Its side in pixels, even.
        fps: Its frames per second.
        seed: Decides the scenes.
        vmaf_model: See `vmaf.check_model`.

    Raises:
        ValueError: If a number is out of range, or a codec is not there.
    """

    splits: dict[str, int] = field(default_factory=lambda: dict(SPLITS))
    source: str | None = None
    codecs: tuple[str, ...] = ("h264",)
    crfs: tuple[int, ...] = ()
    heights: tuple[int, ...] = (0,)
    num_frames: int = 24
    size: int = 192
    fps: float = 12
    seed: int = 0
    vmaf_model: str = VMAF_MODEL

    def __post_init__(self) -> None:
        check_splits(self.splits)
        if not self.codecs:
            raise ValueError(f"codecs is empty: name at least one of {list(ENCODERS)}.")
        check_codecs(self.codecs)
        for codec in self.codecs:
            check_crfs(self.crfs_of(codec), codec)
        if len(self.crfs) == 1:
            raise ValueError(f"crfs={list(self.crfs)}: a ladder needs at least two.")
        wrong = [height for height in self.heights if height and (height < 32 or height % 2)]
        if wrong or not self.heights or len(set(self.heights)) < len(self.heights):
            raise ValueError(
                f"heights={list(self.heights)}: give different shorter sides in pixels, even and 32 or more; 0 is the "
                "source's own."
            )
        if self.num_frames < 2 or self.size < 32 or self.size % 2 or self.fps <= 0:
            raise ValueError(
                f"num_frames={self.num_frames}, size={self.size}, fps={self.fps}: need at least 2 frames, an even side "
                "of 32 pixels or more, and fps > 0."
            )

    def crfs_of(self, codec: str) -> tuple[int, ...]:
        """Constant rate factors of a codec's rungs, mildest first."""
        return tuple(sorted(self.crfs or {crf_of(codec, crf) for crf in H264_CRFS}))

    def to_json(self) -> dict[str, Any]:
        """The spec, as it stands in `ladder.json`."""
        given = json.loads(json.dumps(asdict(self)))
        if self.source:  # clips have their own
            given["source"] = str(Path(self.source).resolve())
            given = {name: value for name, value in given.items() if name not in ("num_frames", "size", "fps", "seed")}
        return given | {"crfs": {codec: list(self.crfs_of(codec)) for codec in self.codecs}}


def make_ladders(
    folder: str | Path, spec: LadderSpec, workers: int = 2, progress: bool = True, force: bool = False
) -> dict[str, Path]:
    """Encode, measure and label. A run that was ended goes on: what was made by the same settings stays.

    Args:
        folder: Gets a label file `SPLIT.csv` per split with the columns video (relative to the folder), mos (1 to 5,
            VMAF on the scale `vmaf:0,100`), vmaf, psnr, ssim, source, scene (what the source shows), codec, crf, width,
            height, height_asked (0 for the source's own), ladder (what can be ordered: source, codec and size) and rank
            (in its ladder; higher is worse); `videos/SOURCE/*.mp4`; for drawn scenes `sources/*.mp4`; and
            `ladder.json`: what made them, and what was found.
        spec: What to make.
        workers: Sources at a time.
        progress: Show a progress bar.
        force: Go on where the folder's ladders were made by another spec, or of other sources; encodes of what is no
            longer there are deleted. Without it only those of a source that has changed are, and made anew.

    Returns:
        Split -> label file. They are written last.

    Raises:
        ClipError: If a source cannot be read or measured, or there are fewer scenes than splits.
        ImportError: If `imageio-ffmpeg` is not installed.
        ValueError: If the folder holds other ladders, a name cannot stand in a table, or the VMAF model does not work.
    """
    folder = Path(folder)
    _check_folder(folder, spec, force)
    sources = find_sources(folder, spec)
    split_of = {source.name: source.split for source in sources}
    if not force:
        _check_sources(folder, split_of)
    smallest = min(sources, key=lambda source: min(source.size))
    check_model(spec.vmaf_model, smallest.size, str(smallest.path))
    about = _about(spec) | {"split_of": split_of}
    write_json(folder / ABOUT, about | {"finished": False})
    if force:
        _delete_others(folder, {rung.path for source in sources for rung in source.rungs})
    jobs = [(source, spec, about["measured_by"]) for source in sources]
    made = list(run_jobs(make_source, jobs, workers, progress, "source"))
    for split in spec.splits:
        own = [one for source, one in zip(sources, made, strict=True) if source.split == split]
        rows = [row | {"video": row["video"].relative_to(folder).as_posix()} for one in own for row in one.rows]
        write_labels(folder / f"{split}.csv", rows)
    write_json(folder / ABOUT, about | {"finished": True, "found": _found(sources, made)})
    return {split: folder / f"{split}.csv" for split in spec.splits}


def found_line(folder: str | Path) -> str:
    """What `ladder.json` tells of finished ladders, in one line."""
    found = read_about(folder, ["found"])["found"]
    srccs = found["srcc"]
    ladders, (low, high), itself = counted(found["ladders"], "ladder"), found["vmaf"], found["vmaf_of_itself"][0]
    order = f" (SRCC with the rank: {srccs[0]:.3f} on average, {srccs[1]:.3f} at worst)" if srccs else ""
    return (
        f"{counted(found['encodes'], 'encode')} of {counted(len(found['sources']), 'source')}: VMAF {low:.1f} to "
        f"{high:.1f}, of sources with themselves {itself:.1f} and more; it falls with every rung in {found['falling']} "
        f"of {ladders}{order}"
    )


def _check_folder(folder: Path, spec: LadderSpec, force: bool) -> None:
    file = folder / ABOUT
    if force:
        return
    if not file.exists():
        there = [name for name in ("spec.json", "videos", *(f"{split}.csv" for split in spec.splits))]
        if there := [name for name in there if (folder / name).exists()]:
            raise ValueError(f"{folder} already holds {', '.join(there)}: choose another folder, or add --force.")
        return
    before, now = read_about(folder, [])["spec"], spec.to_json()
    if other := [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]:
        told = ", ".join(f"{name} {before.get(name)} and not {now.get(name)}" for name in other)
        raise ValueError(
            f"{folder} holds ladders with {told}: choose another folder, or add --force to go on there, which keeps "
            "the encodes that both have."
        )


def _check_sources(folder: Path, split_of: dict[str, str]) -> None:
    """Refuse to deal out anew what was dealt out when the folder was begun.

    Args:
        folder: With the ladders.
        split_of: Source -> split, as they are now.
    """
    if not (folder / ABOUT).exists():
        return
    before = read_about(folder, []).get("split_of", split_of)
    parts = {
        "missing": [name for name in before if name not in split_of],
        "new": [name for name in split_of if name not in before],
        "in another split": [name for name in split_of if before.get(name, split_of[name]) != split_of[name]],
    }
    if told := [f"{counted(len(names), 'source')} {what} ({_few(names)})" for what, names in parts.items() if names]:
        raise ValueError(
            f"{folder} holds ladders of other sources, now {'; '.join(told)}: bring the clips back (is a disk not "
            "mounted?), choose another folder, or add --force, which splits the clips anew and deletes encodes of "
            "missing ones."
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _about(spec: LadderSpec) -> dict[str, Any]:
    """What the encodes are made and measured by."""
    return {
        "spec": spec.to_json(),
        "encodes": encoder_settings({codec: spec.crfs_of(codec) for codec in spec.codecs}),
        "measured_by": versions() | {"model": spec.vmaf_model},
        "scale": SCALE,
    }


def _found(sources: Sequence[LadderSource], made: Sequence[MadeLadders]) -> dict[str, Any]:
    """Whether the labels are sane: VMAF of each source with itself, and its order within each ladder."""
    own = {source.name: round(one.itself.vmaf, 3) for source, one in zip(sources, made, strict=True)}
    if low := [f"{name} ({value:.1f})" for name, value in own.items() if value < LEAST_ITSELF]:
        logger.warning(
            "%s a VMAF below %g with themselves, so that their labels start there: %s.",
            counted(len(low), "source has", "sources have"),
            LEAST_ITSELF,
            ", ".join(low),
        )
    ladders: dict[str, list[tuple[float, float]]] = {}
    for row in (row for one in made for row in one.rows):
        ladders.setdefault(row["ladder"], []).append((row["rank"], row["vmaf"]))
    orders = [srcc(*zip(*ladder, strict=True)) for ladder in ladders.values()]
    known = [order for order in orders if not math.isnan(order)]  # of one VMAF throughout, e.g. 0, there is none
    falling = [all(a > b for (_, a), (_, b) in pairwise(sorted(ladder))) for ladder in ladders.values()]
    scores = [vmaf for ladder in ladders.values() for _, vmaf in ladder]
    return {
        "encodes": len(scores),
        "ladders": len(ladders),
        "vmaf": [min(scores), max(scores)],
        "vmaf_of_itself": [min(own.values()), max(own.values())],
        "srcc": [round(fmean(known), 4), round(max(known), 4)] if known else [],
        "falling": sum(falling),
        "sources": {
            source.name: {"frames": one.num_frames, "size": source.size, "vmaf_of_itself": own[source.name]}
            for source, one in zip(sources, made, strict=True)
        },
    }


def _delete_others(folder: Path, rungs: set[Path]) -> None:
    """Encodes of what is no longer asked for."""
    for file in (folder / "videos").rglob("*.mp4"):
        if file not in rungs:
            file.unlink()
    for source in (folder / "videos").glob("*/"):
        if not any(path.parent == source for path in rungs):
            (source / RECORD).unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else
                source.rmdir()
