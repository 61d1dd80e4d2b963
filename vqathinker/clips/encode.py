"""Writing real video files. Every video of this library is written here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vqathinker.clips.errors import about, first_line
from vqathinker.clips.picture import crop, display_matrix

ENCODER_OPTIONS = {
    # With look-ahead, x264's vector code gives one of several files for the same frames, and x265 writes past its
    # buffers on frames of 48 pixels, which may end the process. x265 also gives one of several files for frames that
    # fit into one coding block, hence the small blocks. (All seen with PyAV 18.1 wheels.)
    "libx264": {"preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0:sync-lookahead=0:mbtree=0"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "pools=none:frame-threads=1:rc-lookahead=0:bframes=0:cutree=0:ctu=16:log-level=error",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"},
}
"""Encoder -> options besides the CRF: fast, and so that the same frames give the same bytes (HEVC: above 16 pixels)."""
WRITING = 2
"""Raised whenever the same frames begin to give other bytes, so that encodes kept from before are made anew."""


BT601, LIMITED = 6, 1
"""FFmpeg's numbers: the matrix of SD video (SMPTE 170M), and luma from 16 to 235."""


class VideoWriter(AbstractContextManager):
    """Encodes frames into one file, which appears under its name when it is whole.

    Args:
        path: Written aside and renamed, so that a killed run leaves no half file.
        fps: Frames per second; where frames have times of their own, these count.
        crf: Constant rate factor.
        codec: FFmpeg encoder.
        pixel_format: FFmpeg pixel format.
        pixel_aspect: Width of a pixel over its height, written as a tag.
        size: Width and height, even, that `av.VideoFrame`s are scaled to (bicubic); default theirs.

    Raises:
        ValueError: If this FFmpeg has no such encoder.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | Fraction = 12,
        crf: int = 12,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        pixel_aspect: Fraction = Fraction(1),
        size: tuple[int, int] | None = None,
    ) -> None:
        try:
            av.Codec(codec, "w")
        except ValueError:
            raise ValueError(
                f"codec={codec!r}: the FFmpeg of the installed PyAV {av.__version__} has no such encoder; install PyAV "
                "from its wheels (pip install --force-reinstall av), which have it."
            ) from None
        os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 else tells its settings on every clip
        self.path = Path(path)
        self._partial = self.path.with_name(f".{os.getpid()}-{self.path.name}")
        self._fps, self._codec, self._pixel_format = Fraction(fps).limit_denominator(1001), codec, pixel_format
        self._options: dict[str, object] = {"crf": str(crf), **ENCODER_OPTIONS.get(codec, {})}
        self._pixel_aspect, self._size = pixel_aspect, size
        self._convert, self._scale = VideoReformatter(), VideoReformatter()
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._named():
            try:
                self._container = av.open(str(self._partial), "w")
            except ValueError as error:
                raise ValueError(
                    f"path={str(self.path)!r}: FFmpeg cannot tell the container from the suffix ({first_line(error)}); "
                    "use .mp4 or .mkv."
                ) from None
        return self

    def __exit__(self, failed: type | None, *_: object) -> None:
        try:
            with self._named():
                if failed is None and self._stream is not None:
                    self._container.mux(self._stream.encode())
                self._container.close()
                if failed is None:
                    os.replace(self._partial, self.path)
        finally:
            with suppress(OSError):  # what went wrong before is what counts
                self._partial.unlink()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the disk are about the file that was asked for."""
        try:
            yield
        except OSError as error:
            raise about(self.path, error) from error

    def write(self, frame: np.ndarray | av.VideoFrame) -> None:
        """Encode one more frame.

        Args:
            frame: (H, W, 3) uint8 RGB, H and W even; or an `av.VideoFrame`, whose colours, orientation and times are
                kept and tagged. Of one with an odd side the last row or column is left out.
        """
        if isinstance(frame, np.ndarray):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            ready = self._convert.reformat(image, format=self._pixel_format)
            ready.pts = None
            self._tag(ready, BT601)
        else:
            ready = self._scaled(self._yuv(crop(frame)))
        ready.pict_type = PictureType.NONE  # else the encoder repeats the frame types of what it was decoded from
        with self._named():
            if self._stream is None:
                self._stream = self._start(ready, frame)
            self._container.mux(self._stream.encode(ready))

    def _yuv(self, frame: av.VideoFrame) -> av.VideoFrame:
        """In the encoder's pixel format; YUV keeps its matrix and range."""
        if frame.format.name == "bgr24":  # whose direct way to YUV loses brightness
            frame = self._convert.reformat(frame, format="rgb24")
        if frame.format.is_rgb or frame.format.name == "pal8":
            ready = self._convert.reformat(
                frame,
                format=self._pixel_format,
                interpolation=Interpolation.AREA,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            self._tag(ready, BT601)
            return ready
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        both = ColorRange.JPEG if full else ColorRange.MPEG
        ready = self._convert.reformat(
            frame,
            format=self._pixel_format,
            interpolation=Interpolation.AREA,
            src_color_range=both,
            dst_color_range=both,
        )
        ready.color_range, ready.colorspace = both, frame.colorspace
        return ready

    def _scaled(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self._size in (None, (frame.width, frame.height)):
            return frame
        ready = self._scale.reformat(
            frame,
            *self._size,
            interpolation=Interpolation.BICUBIC,
            src_color_range=frame.color_range,
            dst_color_range=frame.color_range,
        )
        ready.color_range, ready.colorspace = frame.color_range, frame.colorspace
        return ready

    @staticmethod
    def _tag(frame: av.VideoFrame, matrix: int) -> None:
        frame.colorspace = frame.color_primaries = frame.color_trc = matrix
        frame.color_range = LIMITED

    def _start(self, ready: av.VideoFrame, given: np.ndarray | av.VideoFrame) -> av.VideoStream:
        """Open the encoder for frames like the first one."""
        stream = self._container.add_stream(self._codec, rate=self._fps)
        if not isinstance(stream, av.VideoStream):
            raise ValueError(f"codec={self._codec!r}: this is not a video codec.")
        stream.width, stream.height, stream.pix_fmt = ready.width, ready.height, self._pixel_format
        stream.options = self._options
        codec = stream.codec_context
        codec.color_range, codec.colorspace = ready.color_range, ready.colorspace
        codec.color_primaries, codec.color_trc = ready.color_primaries, ready.color_trc
        if self._pixel_aspect != 1:
            codec.sample_aspect_ratio = self._pixel_aspect
        if isinstance(given, av.VideoFrame):
            if given.pts is not None:
                codec.time_base = given.time_base  # type: ignore[assignment]  # a frame with a time has one
            matrix = display_matrix(given)
            if matrix is not None:
                stream.set_display_matrix(matrix)
        return stream


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float = 12,
    crf: int = 12,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> None:
    """Encode RGB frames; with the encoders of `ENCODER_OPTIONS` the same frames always give the same bytes.

    Args:
        path: See `VideoWriter`, as for what follows.
        frames: (N, H, W, 3) uint8, H and W even.
        fps: Frames per second.
        crf: Constant rate factor.
        codec: FFmpeg encoder.
        pixel_format: FFmpeg pixel format.

    Raises:
        ValueError: If the frames do not have that shape, or this FFmpeg has no such encoder.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"frames has shape {frames.shape}: need (N, H, W, 3) with even H and W.")
    with VideoWriter(path, fps, crf, codec, pixel_format) as writer:
        for frame in frames:
            writer.write(frame)
