"""Scenes cut from the user's own clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vqathinker.clips import VIDEO_SUFFIXES, Clip, ClipError, open_clip
from vqathinker.wording import counted


def source_scenes(
    folder: str | Path, splits: Mapping[str, int], takes: Callable[[Path, Clip], bool] = lambda path, clip: True
) -> dict[str, list[Path]]:
    """Share out the video files of a folder among the splits, so that no scene is in two.

    Files are taken to show one scene when they lie in one sub-folder, or when their names differ only in a last part
    behind "_" or "-" that is no number: `park_clean.mp4` and `park_h264.mp4`, but not `clip_01.mp4` and `clip_02.mp4`.

    Args:
        folder: Searched with its sub-folders.
        splits: Name -> clips. Each gets at least one scene and the others in proportion to its clips; the first also
            what is left.
        takes: Whether a file, which is open, is taken; the others do not count.

    Returns:
        Split -> files, in a fixed order.

    Raises:
        ClipError: If a file cannot be opened, or there are fewer scenes than splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ClipError(folder, "no such folder; name one that holds your clips")
    scenes: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if not takes(path, open_clip(path)):  # raises now rather than half-way
                continue
            scenes.setdefault(scene_of(path.relative_to(folder)), []).append(path)
    if len(scenes) < len(splits):
        raise ClipError(
            folder,
            f"it holds {counted(len(scenes), 'scene')} {list(scenes)} for the {counted(len(splits), 'split')} "
            f"{list(splits)}: each split needs its own. Add clips, ask for fewer splits, or sort the files of each "
            "scene into a sub-folder",
        )
    names, spare = list(scenes), len(scenes) - len(splits)
    first, *others = splits
    shared = {}
    for split in others:
        number = 1 + spare * splits[split] // sum(splits.values())
        shared[split] = [path for _ in range(number) for path in scenes[names.pop()]]
    return {first: [path for name in names for path in scenes[name]]} | shared


def scene_of(path: Path) -> str:
    """The scene that a file shows, by its name.

    Args:
        path: Relative to the folder of clips.
    """
    if len(path.parts) > 1:
        return path.parts[0]
    start, _, end = path.stem.replace("-", "_").rpartition("_")
    return start if start and not end.isdigit() else path.stem


def cut_scene(
    path: Path, num_frames: int, size: int | tuple[int, int] | None
) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that cuts a random run of frames out of a file.

    Args:
        path: The file.
        num_frames: Frames N.
        size: Side or (width, height) in pixels, even: pictures are resized to cover it, their middle is kept. `None`:
            they stay as they are, but for an odd last row or column.

    Returns:
        rng -> (N, height, width, 3) uint8. It raises `ClipError` if the file has fewer frames: none is shown twice.
    """
    shape = (size, size) if isinstance(size, int) else size

    def render(rng: np.random.Generator) -> np.ndarray:
        clip = open_clip(path)
        if clip.num_frames < num_frames:
            raise ClipError(
                path, f"it has {counted(clip.num_frames, 'frame')} and {num_frames} are needed: use a longer clip"
            )
        start = int(rng.integers(0, clip.num_frames - num_frames + 1))
        return np.stack([_fitted(frame, shape) for frame in clip.pictures(range(start, start + num_frames))])

    return render


def _fitted(frame: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    height, width = frame.shape[:2]
    if size is None:
        return frame[: height // 2 * 2, : width // 2 * 2]
    scale = max(size[0] / width, size[1] / height)
    image = Image.fromarray(frame).resize((max(size[0], round(width * scale)), max(size[1], round(height * scale))))
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return np.asarray(image.crop((left, top, left + size[0], top + size[1])))
