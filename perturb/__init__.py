"""Temporal perturbations of a clip as frame-index maps (VQAThinker, supplementary "Details of Temporal Degradation").

>>> import numpy as np, perturb
>>> frame_map = perturb.reverse(4, np.random.default_rng(0))
>>> frame_map.source
(3, 2, 1, 0)
>>> frame_map.apply(np.array([10, 11, 12, 13])).tolist()
[13, 12, 11, 10]

Needs numpy only.
"""

from .frame_map import BLANK, FrameMap
from .modes import MODES, draw, drop, duplicate, global_shuffle, jitter, local_shuffle, reverse

__all__ = [
    "BLANK",
    "MODES",
    "FrameMap",
    "draw",
    "drop",
    "duplicate",
    "global_shuffle",
    "jitter",
    "local_shuffle",
    "reverse",
]
