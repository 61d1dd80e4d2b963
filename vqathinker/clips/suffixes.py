"""What the end of a file's name says."""

from __future__ import annotations

VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".m4v", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".ogv", ".mxf"),
)
"""What a file must end on, in lower case, to be taken for a video where a folder is searched."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Images: clips of one frame."""
PASSED_OVER_SUFFIXES = (
    *(".gif", ".apng", ".avif", ".heic", ".heif", ".jxl"),
    *(".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".266", ".ivf", ".obu", ".m1v", ".m2v"),
    *(".yuv", ".rgb", ".raw", ".nv12", ".p010"),
    *(".rm", ".rmvb", ".ogm", ".divx", ".dv", ".nut"),
)
"""Animations, streams without time stamps, raw pixels, rare containers: named where a folder is searched, not taken."""
