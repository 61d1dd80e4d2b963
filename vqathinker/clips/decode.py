"""Reading video files: decord first, PyAV where decord is missing or cannot read the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

VIDEO_SUFFIXES = (
    ".mp4",
    ".mkv",
    ".mov",
    ".webm",
    ".avi",
    ".y4m",
    ".m4v",
    ".ts",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
)
"""What a file must end on, in lower case, to be taken for a video where a folder is searched."""


class ClipError(ValueError):
    """A video file that cannot be read.

    Attributes:
        path: The file.
        reason: What is wrong with it, in words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read clip {str(path)!r}: {reason}")
        self.path, self.reason = str(path), reason

    def __reduce__(self) -> tuple:
        return ClipError, (self.path, self.reason)


class Clip:
    """An open video file.

    Args:
        path: The file.
        num_frames: Number of frames.
        fps: Frames per second; NaN where the container does not say.
        decoder: `"decord"` or `"pyav"`.
        fetch: Returns the frames at ascending, distinct indices as (N, H, W, 3) uint8.
    """

    def __init__(
        self, path: str, num_frames: int, fps: float, decoder: str, fetch: Callable[[list[int]], np.ndarray]
    ) -> None:
        self.path, self.num_frames, self.fps, self.decoder = path, num_frames, fps, decoder
        self._fetch = fetch

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames at `indices` (any order, repeats allowed; each is decoded once).

        Returns:
            (len(indices), H, W, 3) uint8 RGB.

        Raises:
            ClipError: If a frame cannot be decoded: the file is truncated or damaged.
            IndexError: If an index lies outside [0, num_frames).
        """
        wanted, inverse = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise IndexError(f"frames {wanted[[0, -1]].tolist()} asked of {self.path!r}, which has {self.num_frames}.")
        return self._fetch(wanted.tolist())[inverse]


def open_clip(path: str | Path, decoder: str | None = None) -> Clip:
    """Open a video file.

    Args:
        path: The file. H.264, HEVC, VP9 (decord) and everything else FFmpeg reads, AV1 among it (PyAV).
        decoder: `"decord"` or `"pyav"` to insist on one; by default decord, then PyAV.

    Raises:
        ClipError: If the file is missing, empty, no video, or damaged beyond opening.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ClipError(path, "it is a folder")
        if not path.is_file():
            raise ClipError(path, "no such file")
        if path.stat().st_size == 0:
            raise ClipError(path, "the file is empty (0 bytes)")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ClipError(path, str(error.strerror)) from error
    if decoder == "pyav":
        return _open_pyav(path)
    if decoder == "decord":
        return _open_decord(path, None)
    try:
        return _open_decord(path, fallback=lambda: _open_pyav(path))
    except (ImportError, ClipError):
        return _open_pyav(path)


def _open_decord(path: Path, fallback: Callable[[], Clip] | None) -> Clip:
    import decord

    # DECORDError derives from Exception, not from RuntimeError.
    failures = (decord.DECORDError, RuntimeError, IndexError, UnicodeError)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        num_frames, fps = len(reader), float(reader.get_avg_fps())
    except failures as error:
        raise ClipError(path, f"decord cannot open it ({_first_line(error)})") from error
    if num_frames < 1:
        raise ClipError(path, "it has no frames")

    def fetch(indices: list[int]) -> np.ndarray:
        try:
            return reader.get_batch(indices).asnumpy()
        except failures as error:
            if fallback is not None:
                return _checked(fallback(), indices)
            raise ClipError(path, f"decord cannot decode frames {indices} ({_first_line(error)})") from error

    return Clip(str(path), num_frames, fps, "decord", fetch)


def _open_pyav(path: Path) -> Clip:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ClipError(path, "it has no video stream")
            stream = container.streams.best("video")
            num_frames = stream.frames or sum(1 for _ in container.decode(stream))
            fps = float(stream.average_rate) if stream.average_rate else float("nan")
    except (av.FFmpegError, UnicodeError) as error:
        raise ClipError(path, f"no readable video ({_first_line(error)})") from error
    if num_frames < 1:
        raise ClipError(path, "it has no frames")

    def fetch(indices: list[int]) -> np.ndarray:
        wanted, found, decoded = set(indices), [], 0
        try:
            with av.open(str(path)) as container:
                stream = container.streams.best("video")
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    if decoded in wanted:
                        # decord turns frames upright by itself
                        found.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                    decoded += 1
                    if decoded > indices[-1]:
                        break
        except av.FFmpegError as error:
            raise ClipError(path, f"damaged after frame {decoded} of {num_frames} ({_first_line(error)})") from error
        if len(found) < len(indices):
            raise ClipError(path, f"truncated: {decoded} of {num_frames} frames decode, frame {indices[-1]} was asked")
        if len({frame.shape for frame in found}) > 1:
            raise ClipError(path, f"frames change their size: {sorted({frame.shape[:2] for frame in found})}")
        return np.stack(found)

    return Clip(str(path), num_frames, fps, "pyav", fetch)


def _checked(clip: Clip, indices: list[int]) -> np.ndarray:
    """Frames from a second decoder, which may count fewer of them."""
    if indices[-1] >= clip.num_frames:
        raise ClipError(clip.path, f"truncated: {clip.num_frames} frames decode, frame {indices[-1]} was asked")
    return clip.frames(indices)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
