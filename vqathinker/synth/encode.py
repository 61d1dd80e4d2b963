"""Writing real video files."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np


def write_video(
    path: str | Path,
    frames: np.ndarray,
    fps: float = 12,
    crf: int = 12,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> None:
    """Encode frames with PyAV; the same frames always give the same bytes.

    Args:
        path: Written aside and renamed, so that a killed run leaves no half file.
        frames: (N, H, W, 3) uint8, H and W even.
        fps: Frames per second.
        crf: Constant rate factor.
        codec: FFmpeg encoder.
        pixel_format: FFmpeg pixel format.

    Raises:
        ValueError: If the frames do not have that shape.
    """
    import av

    # With look-ahead, x264's vector code gives one of several files for the same frames (seen with PyAV 18.1 wheels).
    x264 = {"preset": "veryfast", "threads": "1", "x264-params": "rc-lookahead=0:sync-lookahead=0:mbtree=0"}
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"frames has shape {frames.shape}: need (N, H, W, 3) with even H and W.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixel_format
        stream.options = {"crf": str(crf)} | (x264 if codec == "libx264" else {})
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    os.replace(partial, path)
