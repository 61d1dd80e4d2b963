"""Distortions at a known severity, and the pseudo-MOS that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

CLEAN_CRF = 12
"""H.264 CRF of clips whose distortion is not compression."""


@dataclass(frozen=True)
class Distorted:
    """Frames and how to encode them.

    Attributes:
        frames: (N, H, W, 3) uint8.
        crf: H.264 CRF in [0, 51].
    """

    frames: np.ndarray
    crf: int = CLEAN_CRF


def _each(frames: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in frames])


def blur(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Gaussian blur, radius 0.2 to 3.2 pixels."""
    return Distorted(_each(frames, lambda image: image.filter(ImageFilter.GaussianBlur(0.2 + 3 * severity))))


def noise(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Additive Gaussian noise, standard deviation 2 to 42 grey levels."""
    noisy = frames + rng.normal(0, 2 + 40 * severity, frames.shape)
    return Distorted(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def rescale(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Bilinear shrinking by a factor of 1.1 to 5.1, and enlarging back."""
    height, width = frames.shape[1:3]
    factor = 1.1 + 4 * severity
    small = (max(2, round(width / factor)), max(2, round(height / factor)))
    how = Image.Resampling.BILINEAR
    return Distorted(_each(frames, lambda image: image.resize(small, how).resize((width, height), how)))


def compression(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """H.264 at CRF 18 to 51."""
    return Distorted(frames, crf=round(18 + 33 * severity))


def stutter(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Freezes: 5 to 80 % of the frames repeat the one before them."""
    frozen = _lost(len(frames), 0.05 + 0.75 * severity, rng)
    source = np.arange(len(frames))
    for t in sorted(frozen):
        source[t] = source[t - 1]
    return Distorted(frames[source])


def frame_drop(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Skips: 4 to 54 % of the frames are missing, in up to four runs; the last frames fill the length."""
    count = max(1, round((0.04 + 0.5 * severity) * len(frames)))
    runs = min(count, 4, len(frames) - 1)
    starts = np.sort(rng.choice(np.arange(1, len(frames)), runs, replace=False))
    lost = {min(len(frames) - 1, s + i) for s in starts for i in range(-(-count // runs))}
    kept = [t for t in range(len(frames)) if t not in lost]
    return Distorted(frames[kept + [kept[-1]] * (len(frames) - len(kept))])


def exposure(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Over- or under-exposure: gain 2 to the power of plus or minus (0.2 to 2.2)."""
    gain = 2 ** ((0.2 + 2 * severity) * rng.choice([-1, 1]))
    return Distorted(np.clip(frames * gain, 0, 255).astype(np.uint8))


def banding(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Quantisation to 64 down to 2 grey levels per channel."""
    levels = round(2 ** (6 - 5 * severity))
    return Distorted((np.round(frames / 255 * (levels - 1)) * 255 / (levels - 1)).astype(np.uint8))


def ghosting(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Frames mixed with the one three before them, weight 5 to 50 %."""
    weight = 0.05 + 0.45 * severity
    earlier = frames[np.maximum(np.arange(len(frames)) - 3, 0)]
    return Distorted(np.round((1 - weight) * frames + weight * earlier).astype(np.uint8))


def _lost(num_frames: int, share: float, rng: np.random.Generator) -> set[int]:
    """A share of the frames after the first, at least one where there are two."""
    count = min(max(1, round(share * num_frames)), num_frames - 1)
    return set((1 + rng.choice(num_frames - 1, count, replace=False)).tolist()) if count else set()


Distortion = Callable[[np.ndarray, float, np.random.Generator], Distorted]
DISTORTIONS: dict[str, Distortion] = {d.__name__: d for d in (blur, noise, rescale, compression, stutter, frame_drop)}
"""Kinds in the training, validation and test splits."""
OOD_DISTORTIONS: dict[str, Distortion] = {d.__name__: d for d in (exposure, banding, ghosting)}
"""Kinds that only the out-of-distribution sets hold."""


def distort(frames: np.ndarray, kind: str, severity: float, rng: np.random.Generator) -> Distorted:
    """Apply one distortion.

    Args:
        frames: (N, H, W, 3) uint8.
        kind: Name in `DISTORTIONS` or `OOD_DISTORTIONS`.
        severity: In [0, 1].
        rng: For noise, frozen frames and the like.

    Raises:
        ValueError: If the kind is unknown or the severity outside [0, 1].
    """
    kinds = DISTORTIONS | OOD_DISTORTIONS
    if kind not in kinds or not 0 <= severity <= 1:
        raise ValueError(f"kind={kind!r}, severity={severity}: kind must be one of {list(kinds)}, severity in [0, 1].")
    return kinds[kind](frames, severity, rng)


def pseudo_mos(severity: float, rng: np.random.Generator) -> float:
    """clip(5 - 4 severity + e, 1, 5) with e ~ N(0, 0.1), the spread of a panel's mean, rounded to two decimals."""
    return round(float(np.clip(5 - 4 * severity + rng.normal(0, 0.1), 1, 5)), 2)
