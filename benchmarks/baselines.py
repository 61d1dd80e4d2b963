"""How do scores without a policy do on a ladder? BRISQUE's flip rate and SRCC, beside which a policy's are read.

pip install -e '.[baselines]'                                  # builds libsvm, which needs a C++ compiler
python -m benchmarks.baselines runs/ladders/test.csv           # video,source,crf and, for the SRCC, mos

BRISQUE (Mittal et al. 2012; the package `brisque`, which holds a support vector machine trained on LIVE) judges single
pictures: a clip's score is the mean over the policy's key frames, at the clip's own size, negated, so that higher
is better.
"""

import argparse
import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from vqathinker.clips import open_clip, uniform_indices
from vqathinker.evaluation import flip_rate, srcc
from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.encodes import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="CSV of a ladder: video,source,crf and perhaps mos")
    parser.add_argument("--frames", type=int, default=6, help="key frames per clip, as many as the policy sees")
    parser.add_argument("--out", type=Path, help="also write video,score to this CSV")
    options = parser.parse_args()
    encodes = read_manifest(options.manifest)
    scores = brisque_scores([encode.video for encode in encodes], options.frames)
    for codec, own in flip_rate.by_codec(encodes).items():
        print(markdown([flip_rate.table(flip_rate.flip_rates(own, scores), f"Flip rate of BRISQUE, {codec or 'all'}")]))
    pairs = [(scores[encode.video], mos) for encode, mos in zip(encodes, read_mos(options.manifest), strict=True)]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if pairs:
        print(f"SRCC with the labels: {srcc(*zip(*pairs, strict=True)):.3f}, {len(pairs)} of {len(encodes)} clips")
    if options.out:
        with options.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("video", "score"), *scores.items()])


def brisque_scores(videos: Iterable[str | Path], num_frames: int) -> dict[str, float]:
    """Score clips; no network is needed.

    Args:
        videos: Paths.
        num_frames: Key frames per clip, evenly spaced by frame number, as a policy's.

    Returns:
        Video -> negated mean BRISQUE: about -100 (worst) to 0, and somewhat above for some; NaN where a key frame has
        none, as pictures of one colour.

    Raises:
        ClipError: If a clip cannot be read.
    """
    from brisque import BRISQUE

    model = BRISQUE()
    found = {}
    for video in tqdm([str(video) for video in videos], desc="BRISQUE", unit="clip", disable=None):
        clip = open_clip(video)
        frames = clip.frames(uniform_indices(clip.num_frames, num_frames))
        with np.errstate(divide="ignore", invalid="ignore"):  # of pictures of one colour
            found[video] = -float(np.mean([model.score(frame) for frame in frames]))
    return found


def read_mos(manifest: Path) -> list[float]:
    """The column `mos`; NaN where there is none, or it is empty."""
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        return [float(row.get("mos") or math.nan) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
