"""Distortions at a known severity, and the pseudo-MOS that follows from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

CLEAN_CRF = 12
"""H.264 CRF of clips whose distortion is not compression."""
SKIP = 5
"""Frames lost in one frame drop."""
EVENT_SHARES = {"stutter": (0.05, 0.75), "frame_drop": (0.04, 0.29)}
"""Kind -> (a, b): at severity s, a + b s of the frames repeat the one before them, or jump."""


@dataclass(frozen=True)
class Distorted:
    """Frames and how to encode them.

    Attributes:
        frames: (N, H, W, 3) uint8.
        crf: H.264 CRF in [0, 51].
        when: Where a temporal distortion sits: "early", "midway", "late" or "throughout"; empty for none.
    """

    frames: np.ndarray
    crf: int = CLEAN_CRF
    when: str = ""


def _each(frames: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in frames])


def blur(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Gaussian blur, radius 0.2 to 3.2 pixels."""
    return Distorted(_each(frames, lambda image: image.filter(ImageFilter.GaussianBlur(0.2 + 3 * severity))))


def noise(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Additive Gaussian noise, standard deviation 2 to 42 grey levels."""
    # One frame at a time draws the same numbers as all at once, in a fraction of the memory.
    noisy = (frame + rng.normal(0, 2 + 40 * severity, frame.shape) for frame in frames)
    return Distorted(np.stack([np.clip(np.round(frame), 0, 255).astype(np.uint8) for frame in noisy]))


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


def overexposure(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Gain of 0.3 to 3.3 stops under a glare that lifts black by 0 to 96 grey levels, highlights clipped.

    Without the glare, nobody could tell a dark scene with much gain from a bright one with little.
    """
    return Distorted(np.clip(frames * 2 ** (0.3 + 3 * severity) + 96 * severity, 0, 255).astype(np.uint8))


def underexposure(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Gain of minus 0.3 to minus 3.3 stops, shadows quantised away."""
    return Distorted((frames * 2 ** -(0.3 + 3 * severity)).astype(np.uint8))


def stutter(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Freezes: 5 to 80 % of the frames repeat the one before them; a few of them may lie together in one third."""
    frozen, when = _events(len(frames), _event_count("stutter", severity, len(frames)), rng)
    return Distorted(hold(frames, frozen), when=when)


def frame_drop(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Skips: the first third of the clip's frames, with 1 to a third as many jumps that each leave out five frames.

    The rest is what the clip moves on into, so that a skip is a jump in time and nothing else.
    """
    length = len(frames) // 3
    jumps, when = _events(length, _event_count("frame_drop", severity, length), rng)
    return Distorted(skip(frames, length, jumps), when=when)


def hold(frames: np.ndarray, frozen: Sequence[int]) -> np.ndarray:
    """The clip with frames that repeat the one shown before them; time goes on meanwhile, so motion jumps afterwards.

    Args:
        frames: (N, H, W, 3) uint8.
        frozen: Frames that repeat, ascending, each in [1, N).
    """
    source = np.arange(len(frames))
    for t in frozen:
        source[t] = source[t - 1]
    return frames[source]


def skip(frames: np.ndarray, length: int, jumps: Sequence[int]) -> np.ndarray:
    """The clip's first `length` frames, where five are left out before each of `jumps`.

    Args:
        frames: (at least length + 5 per jump, H, W, 3) uint8.
        length: Frames that are left.
        jumps: Frames that come after a jump, each in [1, length).
    """
    steps = np.ones(length, dtype=int)
    steps[list(jumps)] += SKIP
    return frames[np.minimum(np.cumsum(steps) - 1, len(frames) - 1)]


def halves(frames: np.ndarray, kind: str, severities: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """The clip with a distortion of one severity in frames [0, N // 2) and of another one in the rest.

    Args:
        frames: (N, H, W, 3) uint8.
        kind: One of `FRAMEWISE`.
        severities: Of the first and the second half, in [0, 1]; 0 leaves a half untouched.
        rng: For noise.

    Raises:
        ValueError: If the kind is another one: it is no matter of single frames.
    """
    if kind not in FRAMEWISE:
        raise ValueError(f"kind={kind!r}: only {list(FRAMEWISE)} can differ between halves; choose one of them.")
    parts = zip(np.split(frames, [len(frames) // 2]), severities, strict=True)
    return np.concatenate([FRAMEWISE[kind](part, level, rng).frames if level else part for part, level in parts])


def within(
    frames: np.ndarray,
    kind: str,
    severity: float,
    span: tuple[int, int],
    box: Sequence[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """The clip with a distortion in a part of its frames, inside a box: the whole frames are distorted, and what lies
    inside is taken of them, so that a blur has no edge of its own.

    Args:
        frames: (N, H, W, 3) uint8.
        kind: One of `FRAMEWISE`.
        severity: In [0, 1].
        span: First frame that is distorted, and the one behind the last; in [0, N].
        box: Left, top, right, bottom in percent of width and height; edges go to the nearest border between pixels.
        rng: For noise.

    Raises:
        ValueError: If the kind is another one, or span or box are empty.
    """
    if kind not in FRAMEWISE:
        raise ValueError(f"kind={kind!r}: only {list(FRAMEWISE)} can lie in a part of a clip; choose one of them.")
    (start, end), (height, width) = span, frames.shape[1:3]
    left, top, right, bottom = (round(e * side / 100) for e, side in zip(box, (width, height) * 2, strict=True))
    if not (0 <= start < end <= len(frames) and 0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"span={span}, box={list(box)}: must hold a frame and a pixel of {frames.shape[:3]} (N, H, W)."
        )
    out, place = frames.copy(), (slice(start, end), slice(top, bottom), slice(left, right))
    whole = FRAMEWISE[kind](frames[start:end], severity, rng).frames
    out[place] = whole[:, top:bottom, left:right]
    return out


def banding(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Quantisation to 64 down to 2 grey levels per channel."""
    levels = round(2 ** (6 - 5 * severity))
    return Distorted((np.round(frames / 255 * (levels - 1)) * 255 / (levels - 1)).astype(np.uint8))


def ghosting(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Frames mixed with the one three before them, weight 5 to 50 %."""
    weight = 0.05 + 0.45 * severity
    earlier = frames[np.maximum(np.arange(len(frames)) - 3, 0)]
    return Distorted(np.round((1 - weight) * frames + weight * earlier).astype(np.uint8))


def pixelation(frames: np.ndarray, severity: float, rng: np.random.Generator) -> Distorted:
    """Mosaic of blocks of 1.2 to 7.2 pixels."""
    height, width = frames.shape[1:3]
    block = 1.2 + 6 * severity
    small = (max(2, round(width / block)), max(2, round(height / block)))
    nearest, box = Image.Resampling.NEAREST, Image.Resampling.BOX
    return Distorted(_each(frames, lambda image: image.resize(small, box).resize((width, height), nearest)))


def thirds(num_frames: int) -> dict[str, tuple[int, int]]:
    """Name of each third of a clip -> its first frame, after the clip's first, and the one behind its last."""
    third = num_frames // 3
    return {"early": (1, third), "midway": (third, 2 * third), "late": (2 * third, num_frames)}


def when_of(positions: Sequence[int], num_frames: int) -> str:
    """Which third of a clip all events at these frames lie in; "throughout" if in more than one."""
    for name, (start, end) in thirds(num_frames).items():
        if start <= min(positions) and max(positions) < end:
            return name
    return "throughout"


def _event_count(kind: str, severity: float, num_frames: int) -> int:
    share, more = EVENT_SHARES[kind]
    return round((share + more * severity) * num_frames)


def _events(num_frames: int, count: int, rng: np.random.Generator) -> tuple[list[int], str]:
    """Sorted positions of `count` events (at least 1) after the first frame, and in which third of the clip they lie.

    As long as they fill at most half of a third, two clips in three have them in one third only.
    """
    count = min(max(1, count), num_frames - 1)
    window = (1, num_frames)
    if 2 * count <= num_frames // 3 and rng.random() < 2 / 3:
        window = thirds(num_frames)[str(rng.choice(list(thirds(num_frames))))]
    positions = sorted(rng.choice(np.arange(*window), count, replace=False).tolist())
    return positions, when_of(positions, num_frames)


Distortion = Callable[[np.ndarray, float, np.random.Generator], Distorted]
SPATIAL: dict[str, Distortion] = {
    d.__name__: d for d in (blur, rescale, overexposure, underexposure, noise, compression)
}
"""Kinds that single frames show."""
FRAMEWISE: dict[str, Distortion] = {kind: d for kind, d in SPATIAL.items() if kind != "compression"}
"""Kinds that change each frame for itself, unlike the encoder."""
TEMPORAL: dict[str, Distortion] = {d.__name__: d for d in (stutter, frame_drop)}
"""Kinds that only motion shows."""
DISTORTIONS: dict[str, Distortion] = SPATIAL | TEMPORAL
"""Kinds in the training, validation and test splits."""
OOD_DISTORTIONS: dict[str, Distortion] = {d.__name__: d for d in (banding, ghosting, pixelation)}
"""Kinds that only the out-of-distribution sets hold."""
PAIRS: tuple[tuple[str, str], ...] = (
    *itertools.product(SPATIAL, TEMPORAL),
    *((kind, "noise") for kind in ("blur", "rescale", "overexposure", "underexposure")),
)
"""Kinds that occur together: a spatial and a temporal one, or noise on top of another spatial one."""
_ORDER = (*(k for k in DISTORTIONS if k != "compression"), *OOD_DISTORTIONS, "compression")  # from lens to encoder


def source_length(kinds: Mapping[str, float], num_frames: int) -> int:
    """Pristine frames that `distort` needs for a clip of N frames: N, or 3 N where frames are to be skipped."""
    return 3 * num_frames if "frame_drop" in kinds else num_frames


def distort(frames: np.ndarray, kinds: Mapping[str, float], rng: np.random.Generator) -> Distorted:
    """Apply distortions in the order in which they happen between lens and encoder.

    Args:
        frames: (`source_length`, H, W, 3) uint8.
        kinds: Name in `DISTORTIONS` or `OOD_DISTORTIONS` -> severity in [0, 1].
        rng: For noise, frozen frames and the like.

    Raises:
        ValueError: If a kind is unknown or a severity outside [0, 1].
    """
    known = DISTORTIONS | OOD_DISTORTIONS
    for kind, severity in kinds.items():
        if kind not in known or not 0 <= severity <= 1:
            raise ValueError(f"kind={kind!r}, severity={severity}: kind must be one of {list(known)}, severity 0 to 1.")
    result = Distorted(frames)
    for kind in sorted(kinds, key=_ORDER.index):
        step = known[kind](result.frames, kinds[kind], rng)
        result = replace(step, crf=max(step.crf, result.crf), when=step.when or result.when)
    return result


def split_severity(severity: float, rng: np.random.Generator) -> tuple[float, float]:
    """Severities (a, b) of a pair that together are as bad as `severity`: (1 - a) (1 - b) = 1 - severity."""
    share = rng.uniform(0.3, 0.7)
    return 1 - (1 - severity) ** share, 1 - (1 - severity) ** (1 - share)


def pseudo_mos(severity: float, rng: np.random.Generator) -> float:
    """clip(5 - 4 severity + e, 1, 5) with e ~ N(0, 0.1), the spread of a panel's mean, rounded to two decimals."""
    return round(float(np.clip(5 - 4 * severity + rng.normal(0, 0.1), 1, 5)), 2)
