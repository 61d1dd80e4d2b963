"""High dynamic range to BT.709, as one operator for every clip and frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

TRANSFERS = {16: "PQ", 18: "HLG"}
"""FFmpeg's number of a transfer characteristic -> name: SMPTE ST 2084 and ARIB STD-B67."""
WHITE = 203.0
"""Nits of diffuse white (ITU-R BT.2408), which becomes white on the BT.709 display."""
PEAK = 1000.0
"""Nits of the brightest highlight that is told apart."""
KNEE = 0.8
"""Share of white up to which the operator leaves light as it is."""
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # P3, D65
}
_D65 = (0.3127, 0.3290)


def to_bt709(rgb: np.ndarray, transfer: str, primaries: int = 9) -> np.ndarray:
    """PQ or HLG pictures on a BT.709 display (gamma 2.4, BT.1886).

    Light up to `KNEE` of diffuse white stays as it is; above, the Moebius operator (that of FFmpeg's `tonemap` filter)
    of the largest of R, G, B brings up to `PEAK` nits below white and keeps the hue. The rest is clipped.

    Args:
        rgb: (H, W, 3) uint16, full range.
        transfer: `"PQ"` (SMPTE ST 2084) or `"HLG"` (ARIB STD-B67, shown at 1,000 nits with system gamma 1.2, BT.2100).
        primaries: FFmpeg's number; what is not in BT.709, BT.2020, P3 counts as BT.2020.

    Returns:
        (H, W, 3) uint8.
    """
    light = _eotf(transfer)[rgb]  # in units of diffuse white
    if transfer == "HLG":
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
        light = light * (luminance**0.2)[..., None] * np.float32(1000 / WHITE)
    light = np.maximum(light @ _matrix(primaries).T, 0)
    brightest = light.max(axis=-1, keepdims=True)
    light *= moebius(brightest) / np.maximum(brightest, 1e-6)
    return np.round(255 * np.clip(light, 0, 1) ** np.float32(1 / 2.4)).astype(np.uint8)


def moebius(light: np.ndarray) -> np.ndarray:
    """Identity up to `KNEE`, then a hyperbola of the same slope that reaches 1 at `PEAK`; light in units of white."""
    peak = PEAK / WHITE
    a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
    b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
    above = np.maximum(light, KNEE)
    return np.where(light <= KNEE, light, (b**2 + 2 * b * KNEE + KNEE**2) / (b - a) * (above + a) / (above + b))


@lru_cache(maxsize=2)
def _eotf(transfer: str) -> np.ndarray:
    """Light of each of the 65,536 code values: of PQ in units of diffuse white, of HLG in those of the scene's peak."""
    code = np.arange(65536) / 65535
    if transfer == "PQ":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10000 / WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


@lru_cache(maxsize=4)
def _matrix(primaries: int) -> np.ndarray:
    """(3, 3) from linear RGB of these primaries to that of BT.709."""
    source = _to_xyz(_PRIMARIES.get(primaries, _PRIMARIES[9]))
    return (np.linalg.inv(_to_xyz(_PRIMARIES[1])) @ source).astype(np.float32)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])
