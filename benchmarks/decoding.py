"""What exact frames cost: key frames of ordinary files against decord, late key frames against decoding from the start.

pip install decord==0.6.0          # for the first comparison; the library does without
python -m benchmarks.decoding      # prints two tables and writes runs/decoding.json
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from tabulate import tabulate

from benchmarks.once import compare
from vqathinker.clips import open_clip, uniform_indices

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "26")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-crf", "45", "-svtav1-params", "lp=1")
ORDINARY = {  # name -> size, seconds, options
    "MP4, 1080p, 10 s, key frames 250 apart": ("a.mp4", "1920x1080", 10, X264),
    "MP4, 1080p, 10 s, key frames 30 apart": ("b.mp4", "1920x1080", 10, (*X264, "-g", "30")),
    "MP4, 540p, 8 s": ("c.mp4", "960x540", 8, X264),
    "MP4, 96 x 96, 2 s": ("d.mp4", "96x96", 2, X264),
    "MOV, 540p, 8 s": ("e.mov", "960x540", 8, X264),
    "MKV, 540p, 8 s": ("f.mkv", "960x540", 8, X264),
}
LONG = {
    "H.264 in MPEG-TS": ("g.ts", "320x240", 600, (*X264, "-g", "60")),
    "AV1 in MP4": ("h.mp4", "320x240", 600, (*AV1, "-g", "60")),
}


def main() -> None:
    measured: dict[str, dict[str, list[float]]] = {"ordinary": {}, "late": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in ORDINARY.items():
            if has_decord():
                measured["ordinary"][name] = compare(*against_decord(render(folder, *kind)))
        for name, kind in LONG.items():
            measured["late"][name] = compare(*against_the_start(render(folder, *kind)))
    columns = ["file", "ours (ms)", "{} (ms)", "ratio"]
    for part, other in (("ordinary", "decord"), ("late", "from the start")):
        rows = [[name, *values] for name, values in measured[part].items()]
        print(tabulate(rows, [column.format(other) for column in columns], floatfmt=".2f"), end="\n\n")
    Path("runs").mkdir(exist_ok=True)
    Path("runs/decoding.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def has_decord() -> bool:
    try:
        import decord  # noqa: F401
    except ImportError:
        print("decord is not installed: nothing to compare ordinary files with", file=sys.stderr)
        return False
    return True


def render(folder: str, name: str, size: str, seconds: int, options: tuple[str, ...]) -> str:
    path = f"{folder}/{name}"
    source = f"testsrc2=size={size}:rate=30:duration={seconds}"
    grain = ("-vf", "noise=alls=6:allf=t") if seconds < 60 else ()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source, *grain, *options, path]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return path


def against_decord(path: str):
    """Six key frames, as training reads them, from opening the file on."""
    import decord

    def ours() -> np.ndarray:
        clip = open_clip(path)
        return clip.frames(uniform_indices(clip.num_frames, 6))

    def theirs() -> np.ndarray:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        return reader.get_batch(uniform_indices(len(reader), 6).tolist()).asnumpy()

    assert np.array_equal(ours(), theirs()), path
    return ours, theirs


def against_the_start(path: str):
    """The last three of twelve key frames."""
    wanted = uniform_indices(open_clip(path).num_frames, 12)[-3:]

    def seeking() -> np.ndarray:
        return open_clip(path).frames(wanted)

    def from_the_start() -> np.ndarray:
        clip = open_clip(path)
        clip._starts = []
        return clip.frames(wanted)

    assert np.array_equal(seeking(), from_the_start()), path
    return seeking, from_the_start


if __name__ == "__main__":
    main()
