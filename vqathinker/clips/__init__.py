"""From a video file to uint8 frames: decoding, sampling, resizing and a lossless cache."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqathinker.clips.cache import FrameCache, clear_cache, clip_bytes
from vqathinker.clips.errors import ClipError
from vqathinker.clips.patches import PATCH_BOX, cut_patches, place_patches
from vqathinker.clips.resize import VIEWS, Seen, fit_frames, fit_name, seen_of
from vqathinker.clips.sampling import SAMPLINGS, run_indices, timed_indices, uniform_indices
from vqathinker.clips.suffixes import IMAGE_SUFFIXES, PASSED_OVER_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from vqathinker.clips.decode import READING as READING
    from vqathinker.clips.decode import Clip as Clip
    from vqathinker.clips.decode import open_clip as open_clip
    from vqathinker.clips.encode import ENCODER_OPTIONS as ENCODER_OPTIONS
    from vqathinker.clips.encode import VideoWriter as VideoWriter
    from vqathinker.clips.encode import write_video as write_video

# Looked up on first use: a policy can be built, run and trained on tensors where PyAV and Pillow are missing.
_HOMES = {
    "ENCODER_OPTIONS": "encode",
    "READING": "decode",
    "Clip": "decode",
    "VideoWriter": "encode",
    "open_clip": "decode",
    "write_video": "encode",
}
__all__ = [
    "IMAGE_SUFFIXES",
    "PASSED_OVER_SUFFIXES",
    "PATCH_BOX",
    "SAMPLINGS",
    "VIDEO_SUFFIXES",
    "VIEWS",
    "ClipError",
    "FrameCache",
    "Seen",
    "clear_cache",
    "clip_bytes",
    "cut_patches",
    "fit_frames",
    "fit_name",
    "place_patches",
    "run_indices",
    "seen_of",
    "timed_indices",
    "uniform_indices",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
