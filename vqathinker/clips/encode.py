"""Writing real video files."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

# With the package, not where it is used: a PyAV that is loaded after decord finds decord's libvpx instead of its own,
# which cannot encode VP9.
import av
import numpy as np

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


def write_video(
    path: str | Path,
    frames: np.ndarray,
    fps: float = 12,
    crf: int = 12,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> None:
    """Encode frames with PyAV; with the encoders of `ENCODER_OPTIONS` the same frames always give the same bytes.

    Args:
        path: Written aside and renamed, so that a killed run leaves no half file.
        frames: (N, H, W, 3) uint8, H and W even.
        fps: Frames per second.
        crf: Constant rate factor.
        codec: FFmpeg encoder.
        pixel_format: FFmpeg pixel format.

    Raises:
        ValueError: If the frames do not have that shape, or this FFmpeg has no such encoder.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"frames has shape {frames.shape}: need (N, H, W, 3) with even H and W.")
    try:
        av.Codec(codec, "w")
    except ValueError:
        raise ValueError(
            f"codec={codec!r}: the FFmpeg of the installed PyAV {av.__version__} has no such encoder; install PyAV "
            "from its wheels (pip install --force-reinstall av), which have it."
        ) from None
    os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 else tells its settings on every clip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixel_format
        stream.options = {"crf": str(crf)} | ENCODER_OPTIONS.get(codec, {})
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    os.replace(partial, path)
