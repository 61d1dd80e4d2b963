"""How strongly each codec compresses at a constant rate factor (CRF)."""

from __future__ import annotations

from vqathinker.clips.codecs import ENCODERS, MAX_CRF

CRF_SCALES = {"libx264": (18, 33), "libx265": (18, 33), "libvpx-vp9": (28, 55), "libsvtav1": (22, 76)}
"""Encoder -> (a, b) of its compression c = (CRF - a) / b, clipped to [0, 1].

H.264's is the training sets'. The others are fitted to it: at equal c all give about the same PSNR on these scenes.
"""


def crf_of(codec: str, h264_crf: int) -> int:
    """The CRF at which a codec compresses as strongly as H.264 at its own, as far as it goes.

    Args:
        codec: Key of `ENCODERS`.
        h264_crf: H.264's, 0 to 51.
    """
    encoder = ENCODERS[codec]
    (start, span), (low, width) = CRF_SCALES["libx264"], CRF_SCALES[encoder]
    return min(MAX_CRF[encoder], max(0, round(low + (h264_crf - start) / span * width)))


def strongest(codec: str) -> float:
    """The most severe `compression` that a codec reaches, above 0, at most 1."""
    low, width = CRF_SCALES[ENCODERS[codec]]
    return min(1.0, (MAX_CRF[ENCODERS[codec]] - low) / width)
