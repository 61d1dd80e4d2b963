"""Procedural game screens: flat tiles, sprites, text and abrupt cuts."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqathinker.synth.scenes import GLYPHS


def render_game(rng: np.random.Generator, num_frames: int, size: int) -> np.ndarray:
    """Screens of a made-up game: flat tiles that scroll, sprites, a bar, text and a map on top, and abrupt cuts.

    Args:
        rng: Decides everything; a longer clip of one state begins like a shorter one.
        num_frames: Frames N >= 1.
        size: Side in pixels, even.

    Returns:
        (N, size, size, 3) uint8 RGB.
    """
    overlay = _Overlay(rng, size)
    frames: list[np.ndarray] = []
    while len(frames) < num_frames:
        frames += _level(rng, size, int(rng.integers(6, 25)))
    return np.stack([overlay.over(frame, t) for t, frame in enumerate(frames[:num_frames])])


def _level(rng: np.random.Generator, size: int, num_frames: int) -> list[np.ndarray]:
    """Frames between two cuts: a map of four kinds of tiles, flat, framed, checked and mirrored, and sprites."""
    side = 8 * int(rng.integers(1, 3))
    y, x = np.indices((8, 8))
    bitmaps = np.stack([y < 0, (y == 0) | (x == 0), (y // 2 + x // 2) % 2 == 0, _mirrored(rng)])
    palette = rng.integers(0, 256, (4, 2, 3), dtype=np.uint8)
    tiles = np.where(bitmaps[..., None], palette[:, None, None, 0], palette[:, None, None, 1])
    tiles = tiles.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    cells = -(-size // side)
    kinds = rng.integers(0, 4, (cells, cells)).repeat(2, axis=0).repeat(2, axis=1)  # in blocks of two by two
    world = tiles[kinds].transpose(0, 2, 1, 3, 4).reshape(2 * cells * side, 2 * cells * side, 3)
    sprites = [(_mirrored(rng), rng.integers(0, 256, 3), *rng.uniform(-4, 4, (2, 2))) for _ in range(4)]
    speed = rng.integers(-3, 4, 2)
    frames = []
    for t in range(num_frames):
        frame = np.roll(world, speed * t, axis=(0, 1))[:size, :size].copy()
        for bitmap, colour, start, velocity in sprites:
            top, left = ((start / 8 + 0.5) * size + velocity * t).astype(int) % (size - 16)
            frame[top : top + 16, left : left + 16][bitmap.repeat(2, axis=0).repeat(2, axis=1)] = colour
        frames.append(frame)
    return frames


def _mirrored(rng: np.random.Generator) -> np.ndarray:
    """A symmetric bitmap, (8, 8) bool."""
    half = rng.random((8, 4)) < 0.5
    return np.concatenate([half, half[:, ::-1]], axis=1)


class _Overlay:
    """A bar that runs down, a score and a map; far enough inside for a policy that sees the middle 64 of 96 pixels."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.low, self.high = size // 5, size - size // 5
        self.name = "".join(rng.choice(list(GLYPHS), 3))
        self.score, self.gain = int(rng.integers(1000)), int(rng.integers(1, 40))
        self.full, self.loss = rng.uniform(0.5, 1), rng.uniform(0, 0.02)
        self.colours = [tuple(int(c) for c in colour) for colour in rng.integers(0, 256, (3, 3))]
        self.font = ImageFont.load_default(9)

    def over(self, frame: np.ndarray, t: int) -> np.ndarray:
        """The frame at time t with the overlay on it."""
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        low, high = self.low, self.high
        end = low + max(0.0, self.full - self.loss * t) * (high - low)
        draw.rectangle((low, low, high, low + 5), fill="black", outline="white")
        draw.rectangle((low + 1, low + 1, max(low + 1, int(end) - 1), low + 4), fill=self.colours[0])
        draw.text((low, low + 7), f"{self.name} {self.score + self.gain * t:05d}", fill="white", font=self.font)
        draw.rectangle((high - 16, high - 16, high, high), fill=self.colours[1], outline="white")
        for line in (high - 11, high - 6):
            draw.line((line, high - 15, line, high - 1), fill=self.colours[2])
            draw.line((high - 15, line, high - 1, line), fill=self.colours[2])
        dot = high - 15 + t % 14
        draw.rectangle((dot, high - 9, dot + 1, high - 8), fill="white")
        return np.asarray(image)
