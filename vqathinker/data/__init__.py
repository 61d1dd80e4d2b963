"""Label files, MOS scales and the dataset of clips."""

from vqathinker.data.dataset import clip_dataset
from vqathinker.data.labels import LabelError, LabelRow, distortions_of, read_labels
from vqathinker.data.loader import ClipLoader
from vqathinker.data.scales import MosScale, mos_scale
from vqathinker.data.traces import trace

__all__ = [
    "ClipLoader",
    "LabelError",
    "LabelRow",
    "MosScale",
    "clip_dataset",
    "distortions_of",
    "mos_scale",
    "read_labels",
    "trace",
]
