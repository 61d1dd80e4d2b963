"""Codecs of synthetic clips, and how strongly each compresses at a constant rate factor (CRF)."""

from __future__ import annotations

from collections.abc import Sequence

import av

ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""Codec -> FFmpeg encoder."""
CRF_SCALES = {"libx264": (18, 33), "libx265": (18, 33), "libvpx-vp9": (28, 55), "libsvtav1": (22, 76)}
"""Encoder -> (a, b) of its compression c = (CRF - a) / b, clipped to [0, 1].

H.264's is the training sets'. The others are fitted to it: at equal c all give about the same PSNR on these scenes.
"""
MAX_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}


def check_codecs(names: Sequence[str]) -> None:
    """Refuse codecs that are not known, or that the installed PyAV cannot encode.

    Args:
        names: Keys of `ENCODERS`.

    Raises:
        ValueError: If one is neither.
    """
    offered = [name for name, encoder in ENCODERS.items() if _is_there(encoder)]
    wrong = [name for name in names if name not in offered]
    if wrong:
        raise ValueError(
            f"codecs {wrong}: the encoders of the installed PyAV {av.__version__} offer {offered} here; choose "
            "from these."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"codecs {list(names)}: name each once.")


def _is_there(encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except ValueError:
        return False
    return True


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
