"""What exact frames cost: the parts of a clip's way, plain decoding, decoding from the start, and the frame cache.

python -m benchmarks.decoding            # two minutes; prints tables and writes runs/decoding.json
python -m benchmarks.decoding --quick    # seconds, with small pictures: says nothing of speed
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from benchmarks import measure
from benchmarks.models import tokenizer_of_all
from vqathinker.clips import open_clip, uniform_indices
from vqathinker.clips.encode import VideoWriter
from vqathinker.clips.picture import to_rgb
from vqathinker.clips.resize import fit_frames
from vqathinker.policy import VQAThinkerProcessor

FPS, ROUNDS = 30, 7
PLAIN, START, RAW = "plain", "from the start", "the file's bytes"
"""The other ways: one frame after another with nothing checked, the same reader without seeking, `open(...).read()`."""
PROCESSOR = {"num_frames": 6, "image_size": 448, "patch_size": 14, "downsample_ratio": 0.5}
PROCESSOR |= {"motion_tokens": 1, "motion_image_size": 224}
ORDINARY = {  # name -> size, seconds, frames between key frames
    "720p, 10 s, key frames 48 apart": ((1280, 720), 10, 48),
    "720p, 10 s, key frames 250 apart": ((1280, 720), 10, 250),
}
LONG = {  # and suffix, encoder
    "MP4, H.264": ((320, 180), 300, 60, ".mp4", "libx264"),
    "MPEG-TS, H.264": ((320, 180), 300, 60, ".ts", "libx264"),
    "MP4, AV1": ((320, 180), 300, 60, ".mp4", "libsvtav1"),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small pictures, short clips")
    parser.add_argument("--out", type=Path, default=Path("runs/decoding.json"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # as the loader's threads are one for each clip
    found = measured(options.quick)
    show(found)
    measure.save({"quick": options.quick, **found}, options.out)


def measured(quick: bool) -> dict[str, Any]:
    """Sections `clip_parts`, `exact_frames` and `kept_frames`, each with `rows`."""
    parts, exact = [], []
    rounds, size, seconds = (1, (64, 48), 3) if quick else (ROUNDS, None, None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, (side, length, gap) in ORDINARY.items():
            path = write_clip(folder / "a.mp4", size or side, seconds or length, gap)
            wanted = uniform_indices(open_clip(path).num_frames, PROCESSOR["num_frames"])
            parts.append({"name": title, "seconds": parts_of(path, rounds)})
            exact.append({"name": title, "frames": in_turns(path, wanted, {PLAIN: plain}, rounds)})
        for title, (side, length, gap, suffix, codec) in LONG.items():
            path = write_clip(folder / f"b{suffix}", size or side, seconds or length, gap, codec)
            of_twelve = uniform_indices(open_clip(path).num_frames, 12)
            for place, wanted in {"the last 3 of 12 frames": of_twelve[-3:], "all 12 frames": of_twelve}.items():
                timed = in_turns(path, wanted, {START: from_the_start}, rounds)
                exact.append({"name": f"{title}, 5 minutes, {place}", "frames": timed})
        kept = [kept_frames(folder, rounds)]
    return {name: {"rows": rows} for name, rows in zip(SECTIONS, (parts, exact, kept), strict=True)}


SECTIONS = ("clip_parts", "exact_frames", "kept_frames")


def write_clip(path: Path, size: tuple[int, int], seconds: int, gap: int, codec: str = "libx264") -> str:
    """A moving texture under grain, with key frames `gap` frames apart."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 224, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width]
    grain = rng.integers(0, 16, (8, height, width, 3), dtype=np.uint8)
    with VideoWriter(path, fps=FPS, crf=26, codec=codec) as writer:
        writer._options |= {"g": str(gap)}
        for number in range(seconds * FPS):
            writer.write(np.roll(texture, (number, 2 * number), (0, 1)) + grain[number % 8])
    return str(path)


def parts_of(path: str, rounds: int) -> dict[str, float]:
    """Median seconds of each part of what `VQAThinkerProcessor.load_clip` does, and of all of it."""
    processor = VQAThinkerProcessor(tokenizer_of_all(), **PROCESSOR)
    whole = processor.load_clip(path)
    taken: list[dict[str, float]] = []
    for _ in range(rounds):
        clock = Clock()
        clip = open_clip(path)
        clock.lap("index")
        decoded = list(clip._progressive(uniform_indices(clip.num_frames, PROCESSOR["num_frames"]).tolist()))
        clock.lap("decoding")
        convert = VideoReformatter()
        rgb = [to_rgb(frame, Fraction(1), convert) for frame in decoded]
        clock.lap("colours")
        raw = np.stack(rgb)
        clock.lap("stacking")
        frames = fit_frames(raw, PROCESSOR["image_size"])
        clock.lap("resizing, frames")
        motion = fit_frames(raw, PROCESSOR["motion_image_size"])
        clock.lap("resizing, motion")
        batch = [torch.from_numpy(array)[None].clone() for array in (frames, motion)]
        clock.lap("batch")
        taken.append({**clock.seconds, "whole": measure.clock(lambda: processor.load_clip(path))})
    assert torch.equal(batch[0][0], whole.frames) and torch.equal(batch[1][0], whole.motion_frames[:, 0])
    return {name: statistics.median(own[name] for own in taken) for name in taken[0]}


class Clock:
    """Seconds between calls of `lap`, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def in_turns(
    path: str, wanted: np.ndarray, others: dict[str, Callable[[str, np.ndarray], np.ndarray]], rounds: int
) -> dict[str, Any]:
    """Ours, from opening the file on, and other ways, whose frames must be the same."""
    ways = {measure.OURS: exact_frames, **others}
    first = exact_frames(path, wanted)
    for name, way in others.items():
        if not np.array_equal(first, way(path, wanted)):
            raise ValueError(f"{path}: {name} gives other frames.")
    return measure.in_turns({name: lambda way=way: way(path, wanted) for name, way in ways.items()}, rounds, False)


def exact_frames(path: str, wanted: np.ndarray) -> np.ndarray:
    return open_clip(path).frames(wanted)


def plain(path: str, wanted: np.ndarray) -> np.ndarray:
    """PyAV's frames, one after another, up to the last that is wanted."""
    numbers, found = set(wanted.tolist()), []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                found.append(frame.to_ndarray(format="rgb24"))
            if len(found) == len(numbers):
                break
    return np.stack(found)


def from_the_start(path: str, wanted: np.ndarray) -> np.ndarray:
    clip = open_clip(path)
    clip._starts = []
    return clip.frames(wanted)


def kept_frames(folder: Path, rounds: int) -> dict[str, Any]:
    """Reading a clip from the frame cache, and the bytes of its file, which the system has in memory."""
    path = write_clip(folder / "c.mp4", (64, 48), 1, 30)
    processor = VQAThinkerProcessor(tokenizer_of_all(), **PROCESSOR)
    processor.use_cache(folder / "cache")
    processor.load_clip(path)
    [file] = (folder / "cache").iterdir()
    ways = {measure.OURS: lambda: processor.load_clip(path), RAW: file.read_bytes}
    return {"bytes": file.stat().st_size, "read": measure.in_turns(ways, 5 * rounds)}


def show(found: dict[str, Any]) -> None:
    """Print tables."""
    parts, exact, kept = (found[name]["rows"] for name in SECTIONS)
    names = list(parts[0]["seconds"])
    lines = [[row["name"], *(1000 * row["seconds"][name] for name in names)] for row in parts]
    measure.show("Parts of a clip (ms)", ["clip", *names], lines)
    lines = []
    for row in exact:
        [(other, ratio)] = row["frames"]["ratios"].items()
        medians = [1000 * row["frames"]["arms"][way]["median"] for way in (measure.OURS, other)]
        lines.append([row["name"], other, *medians, ratio])
    measure.show("Exact frames", ["clip", "other way", "ours (ms)", "other (ms)", "other / ours"], lines)
    lines = [[way, row["bytes"] / arm["median"] / 1e9] for row in kept for way, arm in row["read"]["arms"].items()]
    measure.show("Kept frames", ["way", "GB a second"], lines)


if __name__ == "__main__":
    measure.quiet()
    main()
