"""Reading video files, frame by frame as FFmpeg numbers them and a player shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from vqathinker.clips.errors import ClipError
from vqathinker.clips.frame_index import (
    FrameIndex,
    decode_all,
    frames_of,
    open_stream,
    read_index,
    time_base,
    video_streams,
)
from vqathinker.clips.hdr import TRANSFERS
from vqathinker.clips.picture import deinterlace, notes_on, to_rgb, visible_aspect
from vqathinker.clips.suffixes import IMAGE_SUFFIXES

READING = 2
"""Raised whenever some file begins to give other pictures, so that frames and scores kept from before are not used."""


IMAGE = "an image"
"""What a clip of one frame is noted as, whose file is an image."""


class _Again(Exception):
    """Something about the clip came to light, and the frames that are not given yet must be decoded another way."""


class Clip:
    """An open video file, see `open_clip`.

    Attributes:
        path: The file.
        num_frames: Number of frames N.
        fps: Frames per second, the average; NaN where the container does not say.
        times: (N,) seconds of each frame, from the first.
        rate: Frames per second of a grid on which all frames lie, where the container knows one; else `fps`.
        coded_size: Width and height of the first frame as stored, in pixels.
        coded_aspect: Width over height of the pixels that `for_encoder` gives.
    """

    def __init__(
        self, path: str, index: FrameIndex, first: av.VideoFrame, stream: av.VideoStream, notes: Sequence[str]
    ) -> None:
        self.path, self.num_frames, self._index = path, index.num_frames, index
        self.coded_size = first.width, first.height
        self.fps = float(stream.average_rate or stream.guessed_rate or "nan")
        self.rate = float(stream.guessed_rate or "nan")
        aspect = 1 if IMAGE in notes else stream.sample_aspect_ratio or 1  # an image's is that of its print
        self._pixel_aspect = visible_aspect(first, Fraction(aspect))
        self.coded_aspect = Fraction(1) if first.color_trc in TRANSFERS else self._pixel_aspect
        self._interlaced = first.interlaced_frame
        self._starts = sorted(index.starts) if index.pts is not None else []
        self._notes = (*notes, *notes_on(first, self._pixel_aspect))
        if index.pts is not None:
            self.times = (index.pts - index.pts[0]) * float(time_base(stream))
        else:
            self.times = np.arange(self.num_frames) / (self.rate if self.rate > 0 else 25.0)

    @property
    def duration(self) -> float:
        """Seconds that it lasts, its last frame included."""
        if self.rate > 0:
            last = 1 / self.rate
        else:
            last = float(np.median(np.diff(self.times))) if self.num_frames > 1 else 1 / 25
        return round(float(self.times[-1]) + last, 6)  # sums of floats

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to its frames, in words: "deinterlaced", "mirrored", ...; empty for an ordinary clip.

        Interlaced frames behind a progressive beginning count from when they are read.
        """
        return self._notes + (("deinterlaced",) if self._interlaced else ())

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Frames at `indices` (any order, repeats allowed; each is decoded once).

        Returns:
            (len(indices), H, W, 3) uint8 RGB.

        Raises:
            ClipError: If a frame cannot be decoded, or frames differ in size.
            IndexError: If an index lies outside [0, num_frames).
            ValueError: If there is none.
        """
        if not len(indices):
            raise ValueError("indices is empty: ask for at least one frame.")
        wanted, inverse = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise IndexError(
                f"frames {wanted[[0, -1]].tolist()} were asked for, but {self.path!r} has {self.num_frames}."
            )
        return np.stack(list(self.same_size(wanted.tolist())))[inverse]

    def same_size(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """As `pictures`, but all of one size.

        Raises:
            ClipError: If a frame cannot be decoded, or frames differ in size.
        """
        first = None
        for picture in self.pictures(wanted):
            first = picture.shape if first is None else first
            if picture.shape != first:
                raise ClipError(self.path, f"the frame size changes: {sorted({first[1::-1], picture.shape[1::-1]})}")
            yield picture

    def pictures(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames at ascending, different indices, one by one, (H, W, 3) uint8 RGB.

        Raises:
            ClipError: If a frame cannot be decoded.
        """
        convert = VideoReformatter()
        for frame in self._progressive(wanted):
            yield to_rgb(frame, self._pixel_aspect, convert)

    def for_encoder(self) -> Iterator[av.VideoFrame]:
        """All frames as they are stored, with their tags, times and orientation, for a `VideoWriter`.

        Interlaced ones are deinterlaced, and those of high dynamic range are pictures as `frames` gives them.

        Raises:
            ClipError: If a frame cannot be decoded.
        """
        convert = VideoReformatter()
        for number, frame in enumerate(self._progressive(range(self.num_frames))):
            ready = frame
            if frame.color_trc in TRANSFERS:
                ready = av.VideoFrame.from_ndarray(to_rgb(frame, self._pixel_aspect, convert), format="rgb24")
            pts = self._index.pts
            ready.pts = None if pts is None else int(pts[number] - pts[0])
            ready.time_base = frame.time_base
            yield ready

    def _progressive(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """Frames at ascending indices, none of them interlaced."""
        done = 0
        while done < len(wanted):
            try:
                for frame in (self._deinterlaced if self._interlaced else self._decoded)(wanted[done:]):
                    if frame.interlaced_frame and not self._interlaced:
                        self._interlaced = True
                        raise _Again
                    yield frame
                    done += 1
            except _Again:
                continue

    def _deinterlaced(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """Frames at ascending indices; interlaced ones are made of both neighbours."""
        needed = sorted({n for i in wanted for n in (i - 1, i, i + 1) if 0 <= n < self.num_frames})
        targets, window = set(wanted), {}
        for number, frame in zip(needed, self._decoded(needed), strict=True):
            window[number] = frame
            due = [number - 1] + ([number] if number == self.num_frames - 1 else [])
            for place in due:
                if place in targets:
                    yield deinterlace(window.get(place - 1), window[place], window.get(place + 1))
            window.pop(number - 2, None)

    def _decoded(self, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
        """Frames at ascending indices, each decoded from the key packet before it where that is shorter."""
        container, stream = open_stream(self.path)
        with container:
            frames, position = decode_all(self.path, container, stream), -1
            for target in wanted:
                place = int(np.searchsorted(self._starts, target, side="right")) - 1
                if place >= 0 and self._starts[place] > position + 1:
                    frames = self._from(container, stream, self._starts[place])
                for position, frame in frames:
                    self._check(position, frame)
                    if position == target:
                        yield frame
                        break
                else:
                    raise ClipError(
                        self.path,
                        f"damaged: {position + 1} of {self.num_frames} frames decode, frame {target} was asked for",
                    )

    def _check(self, number: int, frame: av.VideoFrame) -> None:
        if self._index.pts is not None and (number >= self.num_frames or frame.pts != self._index.pts[number]):
            raise ClipError(self.path, f"frame {number} decodes as a frame that no packet announces")

    def _from(
        self, container: InputContainer, stream: av.VideoStream, start: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames from that of a key packet on, each checked against the index.

        Raises:
            _Again: If other frames come than from the beginning; then it is never tried again.
        """
        pts, number, reached = self._index.pts, start, False
        if pts is None:
            self._from_the_beginning()
        try:
            container.seek(self._index.starts[start], stream=stream)
            for packet in container.demux(stream):
                reached = reached or (packet.is_keyframe and packet.pts is not None and packet.pts >= pts[start])
                for frame in frames_of(packet) if reached else ():
                    if number == start and frame.pts is not None and frame.pts < pts[start]:
                        continue  # shown before the key frame, and made of frames that were not decoded
                    # Where the first is no key frame, the picture is built up over several.
                    if number == self.num_frames or frame.pts != pts[number] or not (number > start or frame.key_frame):
                        self._from_the_beginning()
                    yield number, frame
                    number += 1
        except av.FFmpegError:
            self._from_the_beginning()
        if number < self.num_frames:
            self._from_the_beginning()

    def _from_the_beginning(self) -> NoReturn:
        self._starts = []
        raise _Again


def open_clip(path: str | Path) -> Clip:
    """Open a video file, or an image as a clip of one frame. Frame i is FFmpeg's i-th, in every container and codec.

    Of several video streams the one counts that FFmpeg calls best. Pictures come as a player shows them: turned and
    mirrored as the file says, without combing, with square pixels, high dynamic range brought to BT.709.

    Args:
        path: The file.

    Raises:
        ClipError: If the file is missing, empty, no video, truncated, or damaged beyond opening.
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
    container, stream = open_stream(str(path))
    with container:
        index, first = read_index(str(path), container, stream)
        notes = [IMAGE] if path.suffix.lower() in IMAGE_SUFFIXES and index.num_frames == 1 else []
        streams = video_streams(container)
        if len(streams) > 1:
            notes.append(f"video stream {streams.index(stream) + 1} of {len(streams)}")
        return Clip(str(path), index, first, stream, notes)
