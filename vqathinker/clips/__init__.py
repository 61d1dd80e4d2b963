"""From a video file to uint8 frames: decoding, sampling, resizing and a lossless cache."""

from vqathinker.clips.cache import FrameCache
from vqathinker.clips.decode import VIDEO_SUFFIXES, Clip, ClipError, open_clip
from vqathinker.clips.encode import ENCODER_OPTIONS, write_video
from vqathinker.clips.resize import fit_frames
from vqathinker.clips.sampling import run_indices, uniform_indices

__all__ = [
    "ENCODER_OPTIONS",
    "VIDEO_SUFFIXES",
    "Clip",
    "ClipError",
    "FrameCache",
    "fit_frames",
    "open_clip",
    "run_indices",
    "uniform_indices",
    "write_video",
]
