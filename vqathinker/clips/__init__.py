"""From a video file to uint8 frames: decoding, sampling, resizing and a lossless cache."""

from vqathinker.clips.cache import FrameCache, clip_bytes
from vqathinker.clips.decode import READING, Clip, open_clip
from vqathinker.clips.encode import ENCODER_OPTIONS, VideoWriter, write_video
from vqathinker.clips.errors import ClipError
from vqathinker.clips.resize import fit_frames
from vqathinker.clips.sampling import SAMPLINGS, run_indices, timed_indices, uniform_indices
from vqathinker.clips.suffixes import IMAGE_SUFFIXES, PASSED_OVER_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "ENCODER_OPTIONS",
    "IMAGE_SUFFIXES",
    "PASSED_OVER_SUFFIXES",
    "READING",
    "SAMPLINGS",
    "VIDEO_SUFFIXES",
    "Clip",
    "ClipError",
    "FrameCache",
    "VideoWriter",
    "clip_bytes",
    "fit_frames",
    "open_clip",
    "run_indices",
    "timed_indices",
    "uniform_indices",
    "write_video",
]
