"""Video files of every kind, made by FFmpeg from frames that carry their number."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

WIDTH, HEIGHT = 128, 96
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "20")


def numbered(count):
    """`count` frames, (N, 96, 128, 3) uint8: eight blocks at the top are the bits of the number, the rest moves."""
    rng = np.random.default_rng(5)
    still = np.kron(rng.integers(40, 216, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.stack([np.roll(still, i, axis=1) for i in range(count)])
    for bit in range(8):
        block = slice(bit * WIDTH // 8, (bit + 1) * WIDTH // 8)
        frames[:, : HEIGHT // 6, block] = np.where((np.arange(count) >> bit) & 1, 235, 16)[:, None, None, None]
    return frames


def number_of(frame):
    """The number that a frame of any size carries."""
    height, width = frame.shape[:2]
    top, quarter = height // 6, width // 32
    blocks = [
        frame[top // 4 : top - top // 4, b * width // 8 + quarter : (b + 1) * width // 8 - quarter] for b in range(8)
    ]
    return sum((block.mean() > 125) << bit for bit, block in enumerate(blocks))


@pytest.fixture(scope="session")
def ffmpeg():
    """Runs FFmpeg quietly and gives what it writes to stdout."""

    def run(*arguments, frames=None, rate=30):
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
        if frames is not None:
            size = f"{frames.shape[2]}x{frames.shape[1]}"
            command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(rate), "-i", "-"]
        command += [str(argument) for argument in arguments]
        done = subprocess.run(command, input=None if frames is None else frames.tobytes(), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def shown_by_ffmpeg(ffmpeg):
    """The frames of a file as FFmpeg shows them, (N, H, W, 3) uint8."""

    def read(path, height=HEIGHT, width=WIDTH, stream=0):
        select = ("-noautorotate", "-i", path, "-map", f"0:v:{stream}", "-fps_mode", "passthrough")
        raw = ffmpeg(*select, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
        return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)

    return read


@pytest.fixture(scope="session")
def make(ffmpeg, tmp_path_factory):
    """Encodes numbered frames: (name, count, FFmpeg's output options) -> path; each once."""
    folder, made = tmp_path_factory.mktemp("made"), {}

    def encode(name, count=90, *options, rate=30) -> Path:
        key = (name, count, options, rate)
        if key not in made:
            path = folder / f"{len(made)}-{name}"
            ffmpeg(*(options or (*X264, "-g", 15)), path, frames=numbered(count), rate=rate)
            made[key] = path
        return made[key]

    return encode
