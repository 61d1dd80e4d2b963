"""The sources of ladders: which they are, which encodes each gets, and how these are made and measured."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqathinker.clips import Clip, write_video
from vqathinker.clips.codecs import ENCODERS
from vqathinker.clips.rungs import Rung, encode_rungs, encoded_size, scaled_size
from vqathinker.data.scales import mos_scale
from vqathinker.evaluation.encodes import check_names, made_with
from vqathinker.scoring.table import stamp
from vqathinker.synth.build import GENERATOR, stream
from vqathinker.synth.own import codec_of, tell_compressed
from vqathinker.synth.scenes import render_scene
from vqathinker.synth.sources import scene_of, source_scenes
from vqathinker.synth.vmaf import Fidelity, measure
from vqathinker.wording import counted
from vqathinker.writing import write_whole

if TYPE_CHECKING:
    from vqathinker.synth.ladders import LadderSpec

logger = logging.getLogger(__name__)

SCALE = "vmaf:0,100"
"""From VMAF to the column `mos`."""
SOURCE_CRF = 1
"""Of the files of drawn scenes: next to lossless."""
RECORD = "rungs.json"
"""Beside the encodes of a source: what made them, and what was measured."""
ITSELF = "itself"
"""Names in the record the source, measured with itself."""


@dataclass(frozen=True)
class LadderSource:
    """A clip that is encoded.

    Attributes:
        name: Names it in the table, its ladders and its folder.
        split: The split that it belongs to.
        path: The file.
        scene: Names what it shows, which several of the user's own clips may.
        drawn: Number of the drawn scene; `None` for the user's own clips.
        size: Width and height, even, of its encodes at its own size, as stored.
        heights: Size of encodes -> the height that was asked for, 0 for its own.
        rungs: Its encodes, ladder by ladder.
    """

    name: str
    split: str
    path: Path
    scene: str
    drawn: int | None
    size: tuple[int, int]
    heights: dict[tuple[int, int], int]
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class MadeLadders:
    """The ladders of one source.

    Attributes:
        rows: Of the table, with the path as `video`.
        itself: The source, measured with itself.
        num_frames: Of the source, and of each encode.
    """

    rows: list[dict[str, Any]]
    itself: Fidelity
    num_frames: int


def find_sources(folder: Path, spec: LadderSpec) -> list[LadderSource]:
    """The sources of a spec, split by split, and their rungs. What gets no rungs at a height is told in a warning.

    Args:
        folder: Where the ladders are written.
        spec: What to make.

    Raises:
        ClipError: If a clip cannot be opened, or there are fewer scenes than splits.
        ValueError: If two clips share a name or one cannot stand in a table, one lies where the set is written, or is
            smaller than every height.
    """
    found = list(_own_clips(folder, spec) if spec.source else _scenes(folder, spec))
    for height in spec.heights:
        if small := [source.name for source in found if min(source.size) < height]:
            logger.warning(
                "%s smaller than %d: no encodes of that height of %s.",
                counted(len(small), "source is", "sources are"),
                height,
                ", ".join(small),
            )
    if without := [source.name for source in found if not source.rungs]:
        raise ValueError(
            f"heights={list(spec.heights)}: {without} are smaller than all of these. Add 0, their own size."
        )
    return found


def _scenes(folder: Path, spec: LadderSpec) -> Iterator[LadderSource]:
    size = (spec.size, spec.size)
    for split, count in spec.splits.items():
        for scene in range(count):
            name = f"{split}_{scene:05d}"
            sizes = _sizes(spec, size)
            rungs = _rungs(folder / "videos" / name, spec, sizes)
            yield LadderSource(name, split, folder / "sources" / f"{name}.mp4", name, scene, size, sizes, rungs)


def _own_clips(folder: Path, spec: LadderSpec) -> Iterator[LadderSource]:
    root, sizes = Path(str(spec.source)), dict[Path, tuple[int, int]]()
    places = (root.resolve(), folder.resolve())
    if any(one.is_relative_to(other) for one, other in (places, places[::-1])):
        raise ValueError(f"{folder} and source={spec.source!r} lie in one another: encodes would be taken for sources.")

    def takes(path: Path, clip: Clip) -> bool:
        sizes[path] = encoded_size(clip)
        return True

    shared = source_scenes(root, spec.splits, takes)
    check_names(path.relative_to(root) for path in sizes)
    tell_compressed(Counter(map(codec_of, sizes)))
    names = {path: "_".join(path.relative_to(root).with_suffix("").parts) for path in sizes}
    twice = [path for path, name in names.items() if list(names.values()).count(name) > 1]
    if twice:
        raise ValueError(f"{[str(path) for path in twice]} would share a name: rename all but one.")
    for split, paths in shared.items():
        for path in paths:
            heights = _sizes(spec, sizes[path])
            rungs = _rungs(folder / "videos" / names[path], spec, heights)
            scene = scene_of(path.relative_to(root))
            yield LadderSource(names[path], split, path, scene, None, sizes[path], heights, rungs)


def _sizes(spec: LadderSpec, size: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Size of encodes -> the height that was asked for; of two heights that give one size the first."""
    found: dict[tuple[int, int], int] = {}
    for height in spec.heights:
        if height <= min(size):
            found.setdefault(scaled_size(size, height), height)
    return found


def _rungs(folder: Path, spec: LadderSpec, sizes: Iterable[tuple[int, int]]) -> tuple[Rung, ...]:
    """Mildest first within each ladder."""
    return tuple(
        Rung(folder / f"{codec}_{width}x{height}_crf{crf:02d}.mp4", ENCODERS[codec], crf, (width, height))
        for width, height in sizes
        for codec in spec.codecs
        for crf in spec.crfs_of(codec)
    )


def make_source(job: tuple[LadderSource, LadderSpec, dict[str, str]]) -> MadeLadders:
    """Encode what is missing of a source's ladders, and measure what has not been.

    Args:
        job: The source, the spec, and what measures, as it stands in `ladder.json`.

    Raises:
        ClipError: If the source cannot be decoded, or an encode cannot be measured.
    """
    source, spec, measured_by = job
    folder = source.rungs[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if source.drawn is not None:
        _draw(source, spec)
    record = _read_record(source, spec, measured_by)
    missing = [rung for rung in source.rungs if not rung.path.exists()]
    due = [rung for rung in source.rungs if rung in missing or rung.path.name not in record["measured"]]
    if due or ITSELF not in record["measured"]:
        reference = folder / ".source.mkv"  # what the encoders get, without loss: upright, progressive, even, 8 bits
        try:
            record["num_frames"] = encode_rungs(source.path, [*missing, Rung(reference, "ffv1", 0)])
            for name, path in ({ITSELF: reference} | {rung.path.name: rung.path for rung in due}).items():
                found = measure(path, reference, source.size, record["num_frames"], spec.vmaf_model)
                record["measured"][name] = asdict(found)
                write_json(folder / RECORD, record)
        finally:
            reference.unlink(missing_ok=True)
    fidelity = {name: Fidelity(**values) for name, values in record["measured"].items()}
    rows = [_row(source, rung, fidelity[rung.path.name]) for rung in source.rungs]
    return MadeLadders(rows, fidelity[ITSELF], record["num_frames"])


def _row(source: LadderSource, rung: Rung, found: Fidelity) -> dict[str, Any]:
    codec = next(name for name, encoder in ENCODERS.items() if encoder == rung.encoder)
    width, height = rung.size or source.size
    return {
        "video": rung.path,
        "mos": round(mos_scale(SCALE)(found.vmaf), 4),
        "vmaf": round(found.vmaf, 4),
        "psnr": round(found.psnr, 4),
        "ssim": round(found.ssim, 6),
        "source": source.name,
        "scene": source.scene,
        "codec": codec,
        "crf": rung.crf,
        "width": width,
        "height": height,
        "height_asked": source.heights[width, height],
        "ladder": f"{source.name}/{codec}/{width}x{height}",
        "rank": float(rung.crf),
    }


def _draw(source: LadderSource, spec: LadderSpec) -> None:
    """The file of a drawn scene, unless it is there already."""
    made_from, marker = _origin(source, spec), source.path.with_suffix(".txt")
    if source.path.exists() and marker.exists() and marker.read_text(encoding="utf-8") == made_from:
        return
    rng = stream(spec.seed, source.split, "scene", source.drawn or 0)
    write_video(source.path, render_scene(rng, spec.num_frames, spec.size), spec.fps, SOURCE_CRF)
    marker.write_text(made_from, encoding="utf-8")


def _origin(source: LadderSource, spec: LadderSpec) -> str:
    """What a source is made from, or which file it is."""
    if source.drawn is None:
        return stamp(source.path)
    drawn = f"scene {source.drawn} of {source.split}, seed {spec.seed}, generator {GENERATOR}"
    return f"{drawn}, {spec.num_frames} frames of {spec.size} pixels, {spec.fps} per second"


def _read_record(source: LadderSource, spec: LadderSpec, measured_by: dict[str, str]) -> dict[str, Any]:
    """What is known of a source's encodes. Those that other settings made are deleted, measures of others dropped."""
    folder = source.rungs[0].path.parent
    made_from = made_with(_origin(source, spec))
    fresh = {"made_from": made_from, "measured_by": measured_by, "num_frames": 0, "measured": {}}
    for partial in folder.glob(".*"):  # of a run that was killed
        partial.unlink()
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {}
    if record.get("made_from") != made_from:
        old = list(folder.glob("*.mp4"))
        if old:
            logger.warning("%s has changed, or what encodes it: its encodes are made anew.", source.path)
        for file in old:
            file.unlink()
        write_json(folder / RECORD, fresh)
        return fresh
    return record if record["measured_by"] == measured_by else fresh


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file aside and rename it, so that a run that is killed leaves a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1) + "\n")
