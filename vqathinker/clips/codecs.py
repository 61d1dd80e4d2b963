"""Codecs by name, their encoders, and the ends of their constant rate factors (CRF)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av

ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""Codec -> FFmpeg encoder."""
MAX_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}
"""Encoder -> its largest CRF, at 8 bits. x264 takes a larger one for 51, so it would be a copy."""


LIBRARIES = {"libx264": "libx264", "libx265": "libx265", "libvpx-vp9": "libvpx", "libsvtav1": "libSvtAv1Enc"}
"""Encoder -> beginning of the file name of its library."""


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


def check_crfs(crfs: Sequence[int], codec: str) -> None:
    """Refuse CRFs that are not different whole numbers on a codec's scale, or none.

    Args:
        crfs: The CRFs.
        codec: Key of `ENCODERS`.

    Raises:
        ValueError: If they do not fit.
    """
    largest = MAX_CRF[ENCODERS[codec]]
    if not crfs or not all(0 <= crf <= largest for crf in crfs) or len(set(crfs)) != len(crfs):
        raise ValueError(
            f"crfs={list(crfs)}: give different whole numbers from 0 to {largest}, the largest of {codec}."
        )


def library_of(encoder: str) -> str:
    """File name, with its version, of the library that PyAV's wheel encodes with; "unknown" without a wheel's."""
    package = Path(av.__file__).parent
    for folder in (package.with_name("av.libs"), package / ".dylibs"):
        for file in sorted(folder.glob(f"{LIBRARIES[encoder]}*")):
            return file.name
    return "unknown"


def _is_there(encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except ValueError:
        return False
    return True
