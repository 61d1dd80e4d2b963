"""How close an encode is to what was encoded: VMAF, PSNR and SSIM by the FFmpeg binary of `imageio-ffmpeg`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vqathinker.clips.errors import ClipError
from vqathinker.wording import install

VMAF_MODEL = "vmaf_v0.6.1"
"""The default: that of published ladders, and the only generation that measures frames of every size."""
VMAF_MODELS = (
    *(VMAF_MODEL, "vmaf_v0.6.1neg", "vmaf_4k_v0.6.1", "vmaf_4k_v0.6.1neg"),
    *("vmaf_v1.0.16_3d0h", "vmaf_v1.0.16_5d0h", "vmaf_v1.0.16_1d5h_2160"),
    *("vmaf_v1.0.16_hfr_3d0h", "vmaf_v1.0.16_hfr_5d0h", "vmaf_v1.0.16_hfr_1d5h_2160"),
)
"""Models that a build may have; each scores from 0 to 100.

Those of 2016 to 2020: for 1080p at three screen heights, for 4K, and both without credit for enhancement (NEG). Those
of 2026 (v1): for 1080p at three and at five heights, for 4K at one and a half; `hfr` for 50 or 60 frames per second.
"""
LEAST_SIDE = 32
"""Shorter side in pixels below which no model gives a score."""
BEYOND = "_3d0h_2160"
"""End of the names of models whose scores go up to 110."""


@dataclass(frozen=True)
class Fidelity:
    """Means over the frames of an encode, scaled to the size of its source.

    Attributes:
        vmaf: In [0, 100].
        psnr: Of luma, dB, at most 60 (72 with a v1 model, which compares at 10 bits).
        ssim: Of luma, in [0, 1], as libvmaf computes it: on frames shrunk to a short side of about 256 pixels.
    """

    vmaf: float
    psnr: float
    ssim: float


def measure(
    encode: str | Path, source: str | Path, size: tuple[int, int], num_frames: int, model: str = VMAF_MODEL
) -> Fidelity:
    """Compare an encode with its source, frame i with frame i in the order of presentation, whatever their times.

    Pictures are compared as they are stored, so that both may be turned by the same tag. (PSNR and SSIM are the same of
    turned pictures, VMAF differs by a point.)

    Args:
        encode: The file; scaled to the source's size (bicubic).
        source: What the encoder was given, without loss.
        size: Stored width and height of the source.
        num_frames: Frames that both have.
        model: VMAF model, see `check_model`.

    Raises:
        ClipError: If FFmpeg cannot measure, or finds another number of frames.
        ImportError: If `imageio-ffmpeg` is not installed.
    """
    inputs = [["-i", f"file:{Path(file).resolve()}"] for file in (encode, source)]
    done, log = _run(inputs, size, model)
    if log is None:
        raise ClipError(encode, f"FFmpeg could not measure it with {model}: {_reason(done)}")
    if len(log["frames"]) != num_frames:
        raise ClipError(encode, f"FFmpeg compared {len(log['frames'])} frames and its source has {num_frames}")
    vmaf, psnr, ssim = (float(log["pooled_metrics"][name]["mean"]) for name in ("vmaf", "psnr_y", "float_ssim"))
    return Fidelity(vmaf, psnr, ssim)


@lru_cache
def check_model(model: str, size: tuple[int, int], name: str = "a clip") -> None:
    """Try a model on two frames, before anything is encoded.

    Args:
        model: Name of one that libvmaf has built in.
        size: Of the frames. The models of 2026 need a short side of 216 pixels and more.
        name: Of the clip, for the message.

    Raises:
        ImportError: If `imageio-ffmpeg` is not installed.
        ValueError: If its FFmpeg has no libvmaf, or the model does not work; the message names those that do, or says
            that the frames are too small for any.
    """
    if min(size) < LEAST_SIDE:
        raise ValueError(
            f"{name}: {size[0]}x{size[1]} is too small for every VMAF model: both sides must be {LEAST_SIDE} pixels or "
            "more. Take it out of the sources."
        )
    said = subprocess.run([ffmpeg(), "-hide_banner", "-h", "filter=libvmaf"], capture_output=True, text=True).stdout
    if "libvmaf AVOptions" not in said:
        raise ValueError(
            f"{ffmpeg()} has no filter libvmaf: install imageio-ffmpeg 0.8.1 or newer from its wheels, and leave the "
            "environment variable IMAGEIO_FFMPEG_EXE unset."
        )
    if model.endswith(BEYOND):
        raise ValueError(f"vmaf_model={model!r} scores from 0 to 110: choose one that ends at 100, e.g. {VMAF_MODEL}.")
    error = _try(model, size)
    if error:
        working = [name for name in VMAF_MODELS if not _try(name, size)]
        raise ValueError(
            f"vmaf_model={model!r} gives no score for frames of {size[0]}x{size[1]}, the size of {name} ({error}): "
            f"choose from {working}."
        )


def ffmpeg() -> str:
    """Path of the binary.

    Raises:
        ImportError: If `imageio-ffmpeg` is not installed.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError as error:
        raise ImportError(f"ladders are labelled by the FFmpeg of imageio-ffmpeg: {install('ladder')}.") from error
    return get_ffmpeg_exe()


@lru_cache
def versions() -> dict[str, str]:
    """Of the binary and of its libvmaf."""
    first = subprocess.run([ffmpeg(), "-version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    _, log = _run(_pattern((256, 256)), (256, 256), VMAF_MODEL)
    return {"ffmpeg": first, "libvmaf": str(log["version"]) if log else "unknown"}


def _pattern(size: tuple[int, int]) -> list[list[str]]:
    picture = ["-f", "lavfi", "-i", f"testsrc2=size={size[0]}x{size[1]}:rate=25:duration=0.08"]
    return [picture, picture]


def _try(model: str, size: tuple[int, int]) -> str:
    """What goes wrong, or ""."""
    done, log = _run(_pattern(size), size, model)
    return "" if log else _reason(done)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[0].rpartition("] ")[2] if lines else f"exit code {done.returncode}"


def _run(
    inputs: Sequence[Sequence[str]], size: tuple[int, int], model: str
) -> tuple[subprocess.CompletedProcess[str], dict | None]:
    """FFmpeg on an encode and its source, and the log of libvmaf; `None` where it has no score."""
    bits = "yuv420p10le" if model.startswith("vmaf_v1") else "yuv420p"  # v1's authors ask for 10 bits, for banding
    same = f"settb=1/1000,setpts=N,scale={size[0]}:{size[1]}:flags=bicubic,format={bits}"
    options = f"model=version={model}:feature=name=psnr|name=float_ssim:n_threads=1:log_fmt=json:log_path=log.json"
    graph = f"[0:v:0]{same}[encode];[1:v:0]{same}[source];[encode][source]libvmaf={options}"
    opened = [part for one in inputs for part in ("-noautorotate", "-threads", "1", *one)]
    command = [ffmpeg(), "-v", "error", "-nostdin", *opened, "-filter_complex_threads", "1", "-lavfi", graph]
    with tempfile.TemporaryDirectory() as folder:  # a path in a filter's options would have to be escaped
        done = subprocess.run(
            [*command, "-f", "null", "-"], cwd=folder, capture_output=True, text=True, errors="replace"
        )
        file = Path(folder) / "log.json"
        log = json.loads(file.read_text(encoding="utf-8")) if done.returncode == 0 and file.exists() else None
    # Frames that are too small for some of v1's features have no score, and the exit code may still be 0.
    return done, log if log and "vmaf" in log.get("pooled_metrics", {}) else None
