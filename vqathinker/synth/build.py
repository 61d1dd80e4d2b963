"""Making a labelled set of synthetic clips."""

from __future__ import annotations

import csv
import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from vqathinker.clips import write_video
from vqathinker.clips.codecs import ENCODERS, check_codecs
from vqathinker.synth.codecs import crf_of, strongest
from vqathinker.synth.distortions import (
    DISTORTIONS,
    OOD_DISTORTIONS,
    PAIRS,
    distort,
    pseudo_mos,
    source_length,
    split_severity,
)
from vqathinker.synth.own import SHORT, SOURCE, Source, frame_size, own_sources
from vqathinker.synth.scenes import render_scene
from vqathinker.synth.sources import cut_scene

J = TypeVar("J")
T = TypeVar("T")
GENERATOR = 3
"""Raised whenever the same spec begins to give other clips, so that old sets are not taken for new ones."""

USES = ("scene", "clip", "questions", "question clip", "codec", "stalls")
"""What streams of random numbers decide; an entry's place is part of its stream's key."""


@dataclass(frozen=True)
class SynthSpec:
    """What to make.

    Args:
        splits: Split -> number of clips. Splits never share a scene.
        ood: Clips in each out-of-distribution set, one set per kind of `OOD_DISTORTIONS`; 0 = none.
        clips_per_scene: Versions of one scene, each with its own distortion and severity.
        pairs: Share of clips in [0, 1] with two distortions at once, see `PAIRS`; never in the ood sets.
        num_frames: Frames per clip; 0, with the source's rate: two seconds.
        size: Side in pixels, even; with a source also "WxH", or "source" for that of each.
        fps: Frames per second; with a source also "source" for the rate of each.
        seed: Decides everything.
        source: Folder of the user's own clips to cut scenes from; default procedural scenes.
        codecs: Of the files, keys of `ENCODERS`, one drawn for each clip; none: H.264 and no column `codec`.
        short: "skip": sources with fewer frames than a clip are left out; "take": what they have is the clip.

    Raises:
        ValueError: If a number is out of range.
    """

    splits: dict[str, int] = field(default_factory=lambda: {"train": 240, "val": 64, "test": 160})
    ood: int = 0
    clips_per_scene: int = 4
    pairs: float = 0.25
    num_frames: int = 24
    size: int | str = 96
    fps: float | str = 12
    seed: int = 0
    source: str | None = None
    codecs: tuple[str, ...] = ()
    short: str = "skip"

    def __post_init__(self) -> None:
        check_splits(self.splits)
        if self.ood < 0:
            raise ValueError(f"ood={self.ood}: it is the number of clips in each set and must be 0 or more.")
        if not 0 <= self.pairs <= 1:
            raise ValueError(f"pairs={self.pairs}: it is a share of the clips and must lie in [0, 1].")
        frame_size(self.size)
        check_codecs(self.codecs)
        fps = 1.0 if self.fps == SOURCE else self.fps
        few = self.num_frames < 2 and (self.num_frames, self.fps) != (0, SOURCE)
        if self.clips_per_scene < 1 or few or isinstance(fps, str) or fps <= 0:
            raise ValueError(f"{self}: need clips_per_scene >= 1, num_frames >= 2, and fps > 0 or 'source'.")
        if self.short not in SHORT:
            raise ValueError(f"short={self.short!r}: must be one of {SHORT}.")
        if not self.source and (isinstance(self.size, str) or self.fps == SOURCE):
            raise ValueError(
                f"size={self.size!r}, fps={self.fps!r} without a source: drawn scenes are square, so give a side in "
                "pixels and a number of frames per second, or a folder of clips."
            )

    def to_json(self) -> str:
        """The spec as text."""
        given = asdict(self)
        for name in ("codecs", "short"):  # the text of sets from before these were known stays theirs
            if given[name] == getattr(type(self), name):
                del given[name]
        return json.dumps({"generator": GENERATOR} | given, indent=1)

    @property
    def sets(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Set name -> (clips, distortion kinds)."""
        known = {name: (count, tuple(DISTORTIONS)) for name, count in self.splits.items()}
        unseen = {f"ood_{kind}": (self.ood, (kind,)) for kind in OOD_DISTORTIONS} if self.ood else {}
        return known | unseen


def make_set(folder: str | Path, spec: SynthSpec, workers: int = 2, progress: bool = True) -> dict[str, Path]:
    """Render, distort, encode and label.

    Args:
        folder: Gets `videos/SET/*.mp4` and a label file `SET.csv` per set with the columns video (relative to the
            folder), mos, kind and severity (of two distortions: `blur+stutter` and `0.31+0.52`), when (where a
            temporal distortion sits: early, midway, late, throughout) and scene.
        spec: What to make. The same spec always gives the same files.
        workers: Clips made at a time.
        progress: Show a progress bar.

    Returns:
        Set name -> label file. `spec.json` is written last: where it stands, the set is complete.

    Raises:
        ClipError: If a source clip cannot be read.
        ValueError: If a source clip lies where the set is written.
    """
    folder = Path(folder)
    sources = own_sources(spec) if spec.source else {}
    check_sources(folder, list(spec.sets), sources, spec.source)
    held_out = sources.get(list(spec.splits)[-1])  # what the sets of unseen kinds are cut from
    (folder / "spec.json").unlink(missing_ok=True)
    for name in spec.sets:
        shutil.rmtree(folder / "videos" / name, ignore_errors=True)
    jobs = [
        (folder, spec, name, range(first, min(first + spec.clips_per_scene, count)), kinds, sources.get(name, held_out))
        for name, (count, kinds) in spec.sets.items()
        for first in range(0, count, spec.clips_per_scene)
    ]
    rows: dict[str, list[dict]] = {name: [] for name in spec.sets}
    made = run_jobs(_make_scene, jobs, workers, progress, "scene")
    for (_, _, name, *_), lines in zip(jobs, made, strict=True):
        rows[name] += lines
    for name, lines in rows.items():
        write_labels(folder / f"{name}.csv", lines)
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    return {name: folder / f"{name}.csv" for name in rows}


def check_splits(splits: dict[str, int]) -> None:
    """Refuse names of splits that cannot be those of files, and numbers of clips below 1.

    Raises:
        ValueError: If one does not fit, or there is none.
    """
    wrong = [name for name in splits if not name.replace("_", "").isalnum() or name.startswith("ood_")]
    if wrong:
        raise ValueError(f"splits={wrong}: names must be letters, digits and '_', and not start with 'ood_'.")
    if not splits or any(count < 1 for count in splits.values()):
        raise ValueError(f"splits={splits}: every split needs at least 1 clip; name at least one.")


def check_sources(
    folder: Path, names: Sequence[str], sources: Mapping[str, Sequence[Source]], source: str | None
) -> None:
    """Refuse source clips that lie where the sets `names` are written, and would be deleted.

    Raises:
        ValueError: If one does.
    """
    written = {(folder / "videos" / name).resolve() for name in names}
    for file in (one.path for taken in sources.values() for one in taken):
        if written & set(file.resolve().parents):
            raise ValueError(
                f"source={source!r}: {file} lies where the new set would be written: choose another folder."
            )


class Spec(Protocol):
    """What a set is made from."""

    def to_json(self) -> str:
        """The spec as text."""
        ...


def is_made(folder: str | Path, spec: Spec) -> bool:
    """Whether `folder` already holds exactly the set that `spec` describes, finished."""
    file = Path(folder) / "spec.json"
    return file.exists() and file.read_text(encoding="utf-8") == spec.to_json()


def run_jobs(
    make: Callable[[J], T], jobs: Sequence[J], workers: int, progress: bool, unit: str = "clip"
) -> Iterator[T]:
    """What `make` returns for `jobs` (label rows), in their order, `workers` at a time."""
    # Threads are enough: the encoder releases the interpreter lock, and two make 1.6 times as many clips as one.
    with ThreadPoolExecutor(workers) as pool:
        yield from tqdm(pool.map(make, jobs), total=len(jobs), desc="synth", unit=unit, disable=not progress)


def stream(seed: int, name: str, use: str, scene: int = 0, version: int = 0) -> np.random.Generator:
    """Random numbers that depend on nothing but the arguments, whatever the process.

    Args:
        seed: The set's.
        name: The split's.
        use: One of `USES`: what they decide. Sets of one seed and split share their scenes.
        scene: Number of the scene.
        version: Number of the clip of the scene.
    """
    # Keys of one length that differ in the third place: numpy pads with zeros, so [a, b] and [a, b, 0] are one stream.
    return np.random.default_rng([seed, zlib.crc32(name.encode()), USES.index(use), scene, version])


def write_labels(path: Path, rows: Sequence[dict]) -> None:
    """Write label rows, at least one, as CSV; their keys are the columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _make_scene(job: tuple) -> list[dict]:
    """The clips of one scene, which is rendered once for each number of frames."""
    _, _, _, indices, _, _ = job
    rendered: dict[int, np.ndarray] = {}
    return [_make_clip(job, index, rendered) for index in indices]


def _make_clip(job: tuple, index: int, rendered: dict[int, np.ndarray]) -> dict:
    """One clip: its scene from (seed, set, scene), its distortion from (seed, set, clip), whatever the process.

    `rendered` keeps the scene's frames by their number, for its other clips.
    """
    folder, spec, name, _, kinds, sources = job
    scene, version = divmod(index, spec.clips_per_scene)
    source = sources[scene % len(sources)] if sources else None
    num_frames, fps = (source.num_frames, source.fps) if source else (spec.num_frames, spec.fps)
    scene_rng = stream(spec.seed, name, "scene", scene)
    rng = stream(spec.seed, name, "clip", scene, version)
    # Stratified: the versions of a scene spread over the whole range of severities.
    severity = float((version + rng.random()) / spec.clips_per_scene)
    # Frames are skipped only where the source has them.
    left_out = "frame_drop" if source and source.frames < source_length({"frame_drop": 1}, num_frames) else ""
    degrees = _degrees(severity, [kind for kind in kinds if kind != left_out], left_out, spec.pairs, rng)
    codec = str(stream(spec.seed, name, "codec", scene, version).choice(spec.codecs)) if spec.codecs else "h264"
    if degrees.get("compression", 0) > strongest(codec):
        degrees["compression"] = strongest(codec)
        severity = 1 - math.prod(1 - degree for degree in degrees.values())
    length = source_length(degrees, num_frames)
    if length not in rendered:
        rendered[length] = _render(source, length, spec.size, scene_rng)
    distorted = distort(rendered[length], degrees, rng)
    video = f"videos/{name}/{index:05d}.mp4"
    write_video(folder / video, distorted.frames, fps, crf_of(codec, distorted.crf), ENCODERS[codec])
    return {
        "video": video,
        "mos": pseudo_mos(severity, rng),
        "kind": "+".join(degrees),
        "severity": "+".join(f"{degree:.4f}" for degree in degrees.values()),
        "when": distorted.when,
        "scene": f"{source.path.stem if source else name}_{scene:05d}",
    } | ({"codec": codec} if spec.codecs else {})


def _degrees(
    severity: float, kinds: Sequence[str], left_out: str, pairs: float, rng: np.random.Generator
) -> dict[str, float]:
    """Kind -> severity of a clip that is as bad as `severity`; a pair of kinds with the probability `pairs`."""
    if len(kinds) > 1 and rng.random() < pairs:
        pair = rng.choice([pair for pair in PAIRS if left_out not in pair]).tolist()
        return dict(zip(pair, split_severity(severity, rng), strict=True))
    return {str(rng.choice(kinds)): severity}


def _render(source: Source | None, length: int, size: int | str, rng: np.random.Generator) -> np.ndarray:
    return cut_scene(source.path, length, frame_size(size))(rng) if source else render_scene(rng, length, int(size))
