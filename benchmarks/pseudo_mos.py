"""Does the pseudo-MOS follow full-reference quality? Rank correlation with PSNR and SSIM on the spatial kinds.

python -m benchmarks.pseudo_mos --clips 60      # per kind; writes docs/results/pseudo_mos.json
"""

import argparse
import json
import tempfile
from pathlib import Path

import av
import numpy as np
from scipy.stats import spearmanr
from tabulate import tabulate

from vqathinker.clips import open_clip, write_video
from vqathinker.synth import SPATIAL, distort, pseudo_mos, render_scene

FRAMES, SIZE = 24, 96
KEYS = {"psnr": "lavfi.psnr.psnr_avg", "ssim": "lavfi.ssim.All"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60, help="clips per kind, each a scene of its own")
    parser.add_argument("--seed", type=int, default=30_000)
    parser.add_argument("--out", type=Path, default=Path("docs/results/pseudo_mos.json"))
    options = parser.parse_args()
    measured = {kind: [measure(kind, options.seed + i) for i in range(options.clips)] for kind in SPATIAL}
    measured["all"] = [row for rows in list(measured.values()) for row in rows]
    report = {kind: correlations(rows) for kind, rows in measured.items()}
    print(tabulate([[k, *row.values()] for k, row in report.items()], ["kind", "SRCC PSNR", "SRCC SSIM"]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report | {"clips_per_kind": options.clips}, indent=1) + "\n", encoding="utf-8")


def measure(kind: str, seed: int) -> tuple[float, float, float]:
    """(MOS, PSNR, SSIM) of one clip, encoded and decoded."""
    rng = np.random.default_rng(seed)
    severity = float(rng.random())
    frames = render_scene(rng, FRAMES, SIZE)
    distorted = distort(frames, {kind: severity}, rng)
    with tempfile.TemporaryDirectory() as folder:
        write_video(f"{folder}/clip.mp4", distorted.frames, crf=distorted.crf)
        decoded = open_clip(f"{folder}/clip.mp4").frames(range(FRAMES))
    return pseudo_mos(severity, rng), full_reference("psnr", frames, decoded), full_reference("ssim", frames, decoded)


def full_reference(metric: str, reference: np.ndarray, shown: np.ndarray) -> float:
    """FFmpeg's own filter, mean over the frames.

    Args:
        metric: `"psnr"` (dB) or `"ssim"`.
        reference: (N, H, W, 3) uint8.
        shown: The same shape.
    """
    graph = av.filter.Graph()
    size = {"width": reference.shape[2], "height": reference.shape[1], "format": "rgb24", "time_base": "1/12"}
    inputs = [graph.add_buffer(name=name, **size) for name in ("shown", "reference")]
    gray = [graph.add("format", "gray", name=f"gray{i}") for i in range(2)]
    compare, sink = graph.add(metric), graph.add("buffersink")
    for place, (source, to_gray) in enumerate(zip(inputs, gray, strict=True)):
        source.link_to(to_gray)
        to_gray.link_to(compare, 0, place)
    compare.link_to(sink)
    graph.configure()
    values = []
    for time, pair in enumerate(zip(shown, reference, strict=True)):
        for source, picture in zip(inputs, pair, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = time
            source.push(frame)
        values.append(float(sink.pull().metadata[KEYS[metric]]))
    return float(np.mean(np.minimum(values, 100)))  # equal frames have infinite PSNR


def correlations(rows: list[tuple[float, float, float]]) -> dict[str, float]:
    mos, psnr, ssim = zip(*rows, strict=True)
    return {
        name: round(float(spearmanr(mos, values).statistic), 3) for name, values in (("psnr", psnr), ("ssim", ssim))
    }


if __name__ == "__main__":
    main()
