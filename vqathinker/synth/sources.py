"""Scenes cut from the user's own clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vqathinker.clips import ClipError, open_clip

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".m4v")


def source_scenes(folder: str | Path, splits: Sequence[str]) -> dict[str, list[Path]]:
    """Share out the video files of a folder among the splits, so that no file is in two.

    Args:
        folder: Searched with its sub-folders.
        splits: Names; the first gets what is left after one file for each of the others in turn.

    Returns:
        Split -> files, in a fixed order.

    Raises:
        ClipError: If the folder holds fewer readable files than there are splits.
    """
    files = []
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            open_clip(path)  # raises now rather than half-way
            files.append(path)
    if len(files) < len(splits):
        raise ClipError(
            folder,
            f"{len(files)} video files for the {len(splits)} splits {list(splits)}: each split needs a file of its own "
            "so that train and held-out scenes differ. Add clips or ask for fewer splits",
        )
    held_out = {name: [files[-1 - i]] for i, name in enumerate(splits[1:])}
    return {splits[0]: files[: len(files) - len(held_out)]} | held_out


def cut_scene(path: Path, num_frames: int, size: int) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that cuts a random run of frames out of a file.

    Args:
        path: The file.
        num_frames: Frames N; a shorter file repeats its last frame.
        size: Side in pixels: the short side is resized to it, the middle square kept.

    Returns:
        rng -> (N, size, size, 3) uint8.
    """

    def render(rng: np.random.Generator) -> np.ndarray:
        clip = open_clip(path)
        start = int(rng.integers(0, max(1, clip.num_frames - num_frames + 1)))
        index = np.minimum(start + np.arange(num_frames), clip.num_frames - 1)
        return np.stack([_square(frame, size) for frame in clip.frames(index)])

    return render


def _square(frame: np.ndarray, size: int) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = size / min(height, width)
    image = Image.fromarray(frame).resize((max(size, round(width * scale)), max(size, round(height * scale))))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
