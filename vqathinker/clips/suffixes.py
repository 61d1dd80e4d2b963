"""What the end of a file's name says."""

from __future__ import annotations

VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".mov", ".qt", ".webm", ".avi", ".y4m", ".m4v", ".3gp", ".3g2"),
    *(".ts", ".m2ts", ".mts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m2p", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf"),
)
"""What a file must end on, in lower case, to be taken for a video where a folder is searched."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Images: clips of one frame."""
PASSED_OVER_SUFFIXES = (
    *(
        ".gif",
        ".apng",
        ".avif",
        ".heic",
        ".heif",
        ".jxl",
        ".jp2",
        ".jfif",
        ".jpe",
        ".ppm",
        ".tga",
        ".exr",
        ".dpx",
        ".dng",
    ),
    *(".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".266", ".ivf", ".obu", ".av1", ".vp9", ".h261"),
    *(".m1v", ".m2v", ".mpv", ".mjpeg", ".mjpg", ".m4s", ".yuv", ".rgb", ".raw", ".nv12", ".p010"),
    *(".rm", ".rmvb", ".ogm", ".divx", ".dv", ".nut", ".tp", ".trp", ".mod", ".wtv", ".mj2", ".insv", ".lrv", ".amv"),
)
"""Animations, streams without time stamps, raw pixels, rare containers: named where a folder is searched, not taken."""
