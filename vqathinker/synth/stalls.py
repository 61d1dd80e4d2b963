"""Synthetic streams: clips that playback stalls make longer, controls in which nothing moves but nothing stalled, and
texts that tell of the stalls truly, not at all, or falsely."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vqathinker.clips import write_video
from vqathinker.data.stalls import WORDINGS, Stalls
from vqathinker.synth.build import SynthSpec, check_sources, check_splits, run_jobs, stream, write_labels
from vqathinker.synth.distortions import distort
from vqathinker.synth.own import Source, frame_size, own_sources
from vqathinker.synth.scenes import render_scene
from vqathinker.synth.sources import cut_scene

GENERATOR = 1
"""Raised whenever the same spec begins to give other clips."""
PER_SECOND, PER_STALL = 0.45, 0.19
"""What a second of stalling, and each stall, takes: the form of Hossfeld et al. (2011), 3.5 exp(-(0.15 L + 0.19) N) +
1.5 for N stalls of L seconds, where seconds count three-fold, as our clips are that much shorter."""
STARTUP_SHARE = 1 / 9
"""A second before the start counts that much of one of stalling (SQI, KSQI)."""
SECONDS = (0.25, 1.5)
"""Shortest and longest stall, and start-up delay."""
MOST = 3
"""Stalls in a clip."""
STREAMED = ("compression", "rescale")
"""What low bitrates do to a picture."""
DIMMED = 0.6
"""Brightness of a frame under a spinner."""
DOTS = 8
TEXTS = {"": "true", "_missing": "missing", "_false": "false"}
"""End of a label file's name -> what its column `stalls` tells."""


@dataclass(frozen=True)
class StallSpec:
    """What to make.

    Args:
        splits: Split -> number of clips. Splits never share a scene.
        clips_per_scene: Versions of one scene, with 0, 1, 2 and 3 stalls in turn.
        static: Share of scenes in [0, 1] in which nothing moves; their clips never stall (negative controls).
        spinner: Share of stalled clips in [0, 1] whose player draws a spinner.
        distorted: Share of clips in [0, 1] that are compressed or enlarged too.
        num_frames: Frames that a clip plays; stalls come on top.
        size: Side in pixels, even, 32 or more; with a source also "WxH", or "source" for that of each.
        fps: Frames per second.
        seed: Decides everything.
        source: Folder of the user's own clips to cut scenes from, each long enough for the longest clip; default
            procedural scenes.

    Raises:
        ValueError: If a number is out of range.
    """

    splits: dict[str, int] = field(default_factory=lambda: {"train": 240, "val": 64, "test": 160})
    clips_per_scene: int = 4
    static: float = 0.25
    spinner: float = 0.5
    distorted: float = 0.5
    num_frames: int = 24
    size: int | str = 96
    fps: float = 12
    seed: int = 0
    source: str | None = None

    def __post_init__(self) -> None:
        check_splits(self.splits)
        if taken := [name for name in self.splits for end in TEXTS if end and name.endswith(end)]:
            raise ValueError(f"splits={taken}: names must not end in {[end for end in TEXTS if end]}.")
        for name in ("static", "spinner", "distorted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it is a share and must lie in [0, 1].")
        if self.clips_per_scene < 1 or self.num_frames < 2 * MOST + 2 or self.fps <= 0:
            raise ValueError(f"{self}: need clips_per_scene >= 1, num_frames >= {2 * MOST + 2} and fps > 0.")
        frame_size(self.size)
        if isinstance(self.size, str) and not self.source:
            raise ValueError(f"size={self.size!r} without a source: drawn scenes are square, so give a side in pixels.")

    @property
    def longest(self) -> int:
        """Frames of the longest clip."""
        return self.num_frames + (MOST + 1) * max(1, round(SECONDS[1] * self.fps))

    def to_json(self) -> str:
        """The spec as text."""
        return json.dumps({"generator": GENERATOR, "set": "stalls"} | asdict(self), indent=1)


@dataclass(frozen=True)
class Plan:
    """Where a clip of N frames stalls.

    Attributes:
        after: Frames played before each stall, ascending, each in [1, N).
        lengths: Frames that each takes, > 0.
        startup: Frames before the first one is shown.
    """

    after: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    startup: int = 0

    @property
    def total(self) -> int:
        """Frames by which the clip gets longer."""
        return self.startup + sum(self.lengths)

    def stalls(self, num_frames: int, fps: float, wording: str = WORDINGS[0]) -> Stalls:
        """The events of a clip that plays so many frames, in seconds of what is shown."""
        starts = np.array(self.after) + self.startup + np.cumsum((0, *self.lengths))[:-1]
        events = tuple((float(a) / fps, n / fps) for a, n in zip(starts, self.lengths, strict=True))
        return Stalls(events, self.startup / fps, (num_frames + self.total) / fps, fps, wording)


def draw_plan(rng: np.random.Generator, count: int, num_frames: int, fps: float) -> Plan:
    """A plan with `count` stalls, and in one clip of two a start-up delay."""
    shortest, longest = (max(1, round(seconds * fps)) for seconds in SECONDS)
    after = sorted(rng.choice(np.arange(2, num_frames - 1), count, replace=False).tolist())
    lengths = rng.integers(shortest, longest + 1, count).tolist()
    startup = int(rng.integers(shortest, longest + 1)) if rng.random() < 0.5 else 0
    return Plan(tuple(after), tuple(lengths), startup)


def stall(frames: np.ndarray, plan: Plan, spinner: bool = False) -> np.ndarray:
    """A clip as a player shows it that runs out of frames: it waits, and goes on where it stopped.

    Args:
        frames: (N, H, W, 3) uint8.
        plan: Where it stalls. Before the start there is a black picture.
        spinner: Whether the player draws one over the dimmed frame while it waits.

    Returns:
        (N + `plan.total`, H, W, 3) uint8.
    """
    shown, played = list[np.ndarray](), 0
    waits = [(0, plan.startup, np.zeros_like(frames[0]))]
    waits += [(a, n, frames[a - 1]) for a, n in zip(plan.after, plan.lengths, strict=True)]
    for after, length, still in waits:
        shown += [*frames[played:after]]
        shown += [with_spinner(still, step) if spinner else still for step in range(length)]
        played = after
    return np.stack([*shown, *frames[played:]])


def with_spinner(frame: np.ndarray, step: int) -> np.ndarray:
    """A dimmed frame with a ring of dots, of which another one is bright at each step.

    Args:
        frame: (H, W, 3) uint8.
        step: Frames since the stall began.
    """
    image = Image.fromarray((frame * DIMMED).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    side = min(image.size)
    for dot in range(DOTS):
        angle, age = 2 * math.pi * dot / DOTS, (step - dot) % DOTS
        x, y = image.width / 2 + side / 7 * math.cos(angle), image.height / 2 + side / 7 * math.sin(angle)
        grey, radius = 255 - 22 * age, side / 28
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(grey, grey, grey))
    return np.asarray(image)


def stall_severity(stalls: Stalls) -> float:
    """How much of the quality the stalls take: 1 - exp(-(a T + b N + a T0 / 9)), of N stalls of T seconds together and
    a start-up delay of T0 seconds; a = `PER_SECOND`, b = `PER_STALL`."""
    seconds = stalls.total + STARTUP_SHARE * stalls.startup
    return 1 - math.exp(-(PER_SECOND * seconds + PER_STALL * len(stalls.stalls)))


def stalled_mos(stalls: Stalls, severity: float, rng: np.random.Generator | None = None) -> float:
    """clip(1 + 4 (1 - severity) (1 - `stall_severity`) + e, 1, 5) with e ~ N(0, 0.1), rounded to two decimals.

    Args:
        stalls: The clip's.
        severity: Of what else is wrong with it, in [0, 1].
        rng: For e; `None` leaves it out.
    """
    mos = 1 + 4 * (1 - severity) * (1 - stall_severity(stalls)) + (0 if rng is None else rng.normal(0, 0.1))
    return round(float(np.clip(mos, 1, 5)), 2)


def make_stalls(folder: str | Path, spec: StallSpec, workers: int = 2, progress: bool = True) -> dict[str, Path]:
    """Render, distort, stall, encode and label.

    Args:
        folder: Gets `videos/SPLIT/*.mp4` and three label files for each split, which differ in the column `stalls`
            only: `SPLIT.csv` tells them truly, `SPLIT_missing.csv` of none, and `SPLIT_false.csv` of none where there
            are some and of some where there are none. Further columns: video, mos, kind and severity (`stall` among
            the kinds), scene, static and spinner (0 or 1).
        spec: What to make. The same spec always gives the same files.
        workers: Scenes made at a time.
        progress: Show a progress bar.

    Returns:
        Name of a label file without its suffix -> label file. `spec.json` is written last.

    Raises:
        ClipError: If a source clip cannot be read, or there are fewer than splits.
        ValueError: If a source clip lies where the set is written.
    """
    folder = Path(folder)
    sources: Mapping[str, Sequence[Source]] = {}
    if spec.source:
        like = SynthSpec(spec.splits, num_frames=spec.longest, size=spec.size, fps=spec.fps, source=spec.source)
        sources = own_sources(like, skips=False)
        check_sources(folder, list(spec.splits), sources, spec.source)
    (folder / "spec.json").unlink(missing_ok=True)
    jobs = [
        (folder, spec, name, range(first, min(first + spec.clips_per_scene, count)), sources.get(name))
        for name, count in spec.splits.items()
        for first in range(0, count, spec.clips_per_scene)
    ]
    for name in spec.splits:
        shutil.rmtree(folder / "videos" / name, ignore_errors=True)
    rows: dict[str, list[dict]] = {name: [] for name in spec.splits}
    for (_, _, name, *_), lines in zip(jobs, run_jobs(_make_scene, jobs, workers, progress, "scene"), strict=True):
        rows[name] += lines
    files = {}
    for name, lines in rows.items():
        for end, text in TEXTS.items():
            files[name + end] = folder / f"{name}{end}.csv"
            write_labels(files[name + end], [{**row["labels"], "stalls": row[text]} for row in lines])
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    return files


def _make_scene(job: tuple[Path, StallSpec, str, Sequence[int], Sequence[Source] | None]) -> list[dict[str, Any]]:
    """The clips of one scene."""
    folder, spec, name, indices, sources = job
    return [_make_clip(folder, spec, name, index, sources) for index in indices]


def _make_clip(
    folder: Path, spec: StallSpec, name: str, index: int, sources: Sequence[Source] | None
) -> dict[str, Any]:
    """One clip: its scene from (seed, split, scene), its stalls from (seed, split, clip), whatever the process.

    One without a stall is as long as one with those that its false text tells of: the length says nothing.
    """
    scene, version = divmod(index, spec.clips_per_scene)
    of_scene = stream(spec.seed, name, "stalls", scene)
    static, first = of_scene.random() < spec.static, int(of_scene.integers(MOST + 1))
    rng = stream(spec.seed, name, "stalls", scene, version + 1)
    count = 0 if static else (first + version) % (MOST + 1)
    plan = draw_plan(rng, count or int(rng.integers(1, MOST + 1)), spec.num_frames, spec.fps)
    severity = float(rng.random()) if rng.random() < spec.distorted else 0.0
    kind, spinner = str(rng.choice(STREAMED)), bool(count and rng.random() < spec.spinner)
    wording = str(rng.choice(WORDINGS))

    length = spec.num_frames if count else spec.num_frames + plan.total
    of_scene, needed = stream(spec.seed, name, "scene", scene), 1 if static else length
    if sources:
        frames = cut_scene(sources[scene % len(sources)].path, needed, frame_size(spec.size))(of_scene)
    else:
        frames = render_scene(of_scene, needed, int(spec.size))
    pristine = np.repeat(frames, length, axis=0) if static else frames
    distorted = distort(pristine, {kind: severity} if severity else {}, rng)
    shown = stall(distorted.frames, plan, spinner) if count else distorted.frames
    video = f"videos/{name}/{index:05d}.mp4"
    write_video(folder / video, shown, spec.fps, distorted.crf)

    told, none = plan.stalls(spec.num_frames, spec.fps, wording), Plan().stalls(len(shown), spec.fps, wording)
    true, false = (told, none) if count else (none, told)
    kinds = {kind: severity} if severity else {}
    kinds |= {"stall": stall_severity(true)} if count else {}
    labels: Mapping[str, Any] = {
        "video": video,
        "mos": stalled_mos(true, severity, rng),
        "kind": "+".join(kinds),
        "severity": "+".join(f"{degree:.4f}" for degree in kinds.values()),
        "scene": f"{name}_{scene:05d}",
        "static": int(static),
        "spinner": int(spinner),
    }
    return {"labels": labels, "true": true.to_json(), "missing": "", "false": false.to_json()}
