"""Procedural scenes by day and night: edges, textures, text and moving objects under a moving camera."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GLYPHS = "ABCDEFGHKLMNPRSTXYZ2345678"


def render_scene(rng: np.random.Generator, num_frames: int = 24, size: int = 96) -> np.ndarray:
    """A pristine clip.

    Args:
        rng: Decides everything; one state always gives one scene.
        num_frames: Frames N >= 1.
        size: Side in pixels, even.

    Returns:
        (N, size, size, 3) uint8 RGB.
    """
    night = rng.random() < 0.3
    canvas = _backdrop(rng, 3 * size, night)
    sprites = [_Sprite(rng, size) for _ in range(int(rng.integers(1, 4)))]
    camera = _Camera(rng, size, num_frames)  # last: a longer clip of one state begins like a shorter one
    frames = []
    for t in range(num_frames):
        frame = canvas.transform((size, size), Image.Transform.AFFINE, camera.matrix(t), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(frame)
        for sprite in sprites:
            sprite.draw(draw, t)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(c) for c in rng.integers(20, 236, 3))
    return red, green, blue


def _lit(rng: np.random.Generator) -> tuple[int, int, int]:
    """Dark or bright by day; at night only what is bright stands out from the backdrop."""
    lit = rng.integers(150, 256, 3) if rng.random() < 0.7 else rng.integers(0, 60, 3)
    red, green, blue = (int(c) for c in lit)
    return red, green, blue


def _backdrop(rng: np.random.Generator, size: int, night: bool) -> Image.Image:
    """A gradient with outlined shapes, stripes and checks, darkened at night, and lit strokes and glyphs on it."""
    ramp = np.linspace(0, 1, size)
    angle = rng.uniform(0, 2 * math.pi)
    mix = np.add.outer(math.sin(angle) * ramp, math.cos(angle) * ramp)
    mix = ((mix - mix.min()) / np.ptp(mix))[..., None]
    ends = np.array([_colour(rng), _colour(rng)], dtype=float)
    image = Image.fromarray((ends[0] * (1 - mix) + ends[1] * mix).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(18, 32))):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 12, 12), (size, size, size // 5, size // 5)))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=_colour(rng), outline=_colour(rng), width=2)
    for _ in range(int(rng.integers(4, 9))):
        x, y, step = int(rng.integers(size)), int(rng.integers(size)), int(rng.integers(2, 6))
        colour = _colour(rng)
        for i, j in np.argwhere(np.indices((8, 8)).sum(0) % 2):
            draw.rectangle((x + i * step, y + j * step, x + (i + 1) * step - 1, y + (j + 1) * step - 1), fill=colour)
    for _ in range(int(rng.integers(4, 9))):
        x, y, gap = int(rng.integers(size)), int(rng.integers(size)), int(rng.integers(3, 7))
        colour = _colour(rng)
        for i in range(8):
            draw.line((x + i * gap, y, x + i * gap, y + size // 8), fill=colour, width=max(1, gap // 3))
    if night:
        image = image.point(lambda value: int(0.3 * value))
        draw = ImageDraw.Draw(image)
    for _ in range(20):
        draw.line([int(v) for v in rng.integers(0, size, 4)], fill=_lit(rng), width=1)
    font = ImageFont.load_default(9)
    for _ in range(80):
        text = "".join(rng.choice(list(GLYPHS), int(rng.integers(3, 8))))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        draw.text((x, y), text, fill=_lit(rng), font=font)
    return image


SPEEDS = (1.0, 1.8, 3.0)
"""Of the camera, in pixels per frame: slow, medium, fast."""


class _Camera:
    """Pan, zoom, rotation and shake: the affine map from the frame to the canvas at time t."""

    def __init__(self, rng: np.random.Generator, size: int, num_frames: int) -> None:
        self.size = size
        self.start = rng.uniform(1.25, 1.75, 2) * size
        angle, speed = rng.uniform(0, 2 * math.pi), rng.choice(SPEEDS)
        self.speed = speed * np.array([math.cos(angle), math.sin(angle)])
        self.zoom, self.zoom_rate = rng.uniform(0.9, 1.05), rng.normal(0, 0.001)
        self.angle, self.spin = rng.uniform(-0.15, 0.15), rng.normal(0, 0.006)
        self.shake = rng.normal(0, rng.choice([0.0, 0.0, 0.6]), (num_frames, 2))

    def matrix(self, t: int) -> tuple[float, ...]:
        zoom, angle = self.zoom + self.zoom_rate * t, self.angle + self.spin * t
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        half = self.size / 2
        # Turns back far enough inside the canvas that its border never shows, however the view is rotated.
        low, span = 0.85 * self.size, 1.3 * self.size
        x, y = low + span - np.abs((self.start - low + self.speed * t) % (2 * span) - span) + self.shake[t]
        return (cos, -sin, x - cos * half + sin * half, sin, cos, y - sin * half - cos * half)


class _Sprite:
    """An outlined shape that moves in a straight line and bounces off the frame."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.size, self.side = size, int(rng.integers(8, 20))
        self.start = rng.uniform(0, size, 2)
        angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 4.0)
        self.velocity = speed * np.array([math.cos(angle), math.sin(angle)])
        self.fill, self.outline, self.round = _colour(rng), _colour(rng), rng.random() < 0.5

    def draw(self, draw: ImageDraw.ImageDraw, t: int) -> None:
        span = self.size - self.side
        x, y = span - np.abs((self.start + self.velocity * t) % (2 * span) - span)
        shape = draw.ellipse if self.round else draw.rectangle
        shape((x, y, x + self.side, y + self.side), fill=self.fill, outline=self.outline, width=2)
