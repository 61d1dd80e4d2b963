"""Flip rate (CP-LLM, Table 3): how often a policy prefers the harder compressed of two encodes of one source."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from vqathinker.clips import ENCODER_OPTIONS, READING, VIDEO_SUFFIXES, VideoWriter, open_clip
from vqathinker.data.formats import number_of, repeated
from vqathinker.evaluation.report import Table
from vqathinker.scoring.scorer import process_state
from vqathinker.scoring.table import stamp
from vqathinker.wording import counted

MAX_CRF = 51
"""End of H.264's scale at 8 bits: x264 takes a larger CRF for 51, so CP-LLM's rung at 53 would be a copy of that."""
LADDER = tuple(range(15, MAX_CRF + 1, 2))
"""CP-LLM's ladder, CRF 15, 17, ..., up to there."""
DIFFERENCES = (2, 4, 6, 8, 10, 20)
"""CRF differences of CP-LLM's table."""


@dataclass(frozen=True)
class Encode:
    """One rung of a ladder.

    Attributes:
        video: Path.
        source: Names what it was made from.
        crf: Constant rate factor; higher is worse.
    """

    video: str
    source: str
    crf: float


@dataclass(frozen=True)
class FlipRate:
    """Pairs of encodes of one source whose CRF differ by one amount.

    Attributes:
        difference: Of the CRF; `None` for all pairs.
        pairs: Pairs with a score for both.
        wrong: Of these, where the harder compressed one scores higher.
        ties: Of these, equal scores.
        unscored: Pairs left out, as one of the two has no score.
    """

    difference: float | None
    pairs: int
    wrong: int
    ties: int
    unscored: int

    @property
    def rate(self) -> float:
        """Share of wrongly ordered pairs in [0, 1], a tie as half of one; NaN without pairs."""
        return (self.wrong + self.ties / 2) / self.pairs if self.pairs else math.nan


def encode_ladder(
    sources: str | Path, out: str | Path, crfs: Sequence[int] = LADDER, progress: bool = True
) -> list[Encode]:
    """Encode every video of a folder with H.264 at each CRF, without its sound; what is there already is kept.

    Under `accelerate launch` the processes share the sources.

    Args:
        sources: Folder with the sources, at best uncompressed or nearly so.
        out: Gets `NAME/crfNN.mp4` per source and `manifest.csv`, see `read_manifest`.
        crfs: Constant rate factors, whole numbers in [0, 51].
        progress: Show a progress bar.

    Raises:
        ValueError: If a CRF does not fit, or the folder holds no videos or two of one name.
        ClipError: If a source cannot be decoded.
    """
    sources, out = Path(sources), Path(out)
    if not sources.is_dir():
        raise ValueError(f"sources {str(sources)!r} is not a folder: name the one that holds the videos to encode.")
    if not crfs or not all(0 <= crf <= MAX_CRF for crf in crfs) or len(set(crfs)) != len(crfs):
        raise ValueError(
            f"crfs={list(crfs)}: give different whole numbers from 0 to {MAX_CRF}, the largest of 8-bit H.264."
        )
    files = [file for file in sorted(sources.rglob("*")) if file.suffix.lower() in VIDEO_SUFFIXES]
    names = ["_".join(file.relative_to(sources).with_suffix("").parts) for file in files]
    if not files or len(set(names)) < len(names):
        raise ValueError(
            f"{str(sources)!r} holds {counted(len(files), 'video')}, {names[:5]}: need at least one, and no name twice."
        )
    state = process_state()
    own = list(zip(files, names, strict=True))[state.process_index :: state.num_processes]
    for file, name in tqdm(
        own, desc="encoding", unit="source", disable=None if progress and state.is_main_process else True
    ):
        _encode_source(file, {crf: _rung(out, name, crf) for crf in crfs})
    state.wait_for_everyone()
    encodes = [Encode(str(_rung(out, name, crf)), name, crf) for name in names for crf in crfs]
    if state.is_main_process:
        with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(("video", "source", "crf"))
            writer.writerows((Path(e.video).relative_to(out).as_posix(), e.source, e.crf) for e in encodes)
    return encodes


def _rung(out: Path, name: str, crf: int) -> Path:
    return out / name / f"crf{crf:02d}.mp4"


def _encode_source(source: Path, rungs: Mapping[int, Path]) -> None:
    """Make the rungs that are missing; all of them where those that are there come from another source."""
    folder = next(iter(rungs.values())).parent
    made_from, marker = f"{stamp(source)} {READING} {ENCODER_OPTIONS['libx264']}", folder / "made_from.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != made_from:
        for old in folder.glob("crf*.mp4"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(made_from, encoding="utf-8")
    missing = {crf: path for crf, path in rungs.items() if not path.exists()}
    if missing:
        _encode(source, missing)


def _encode(source: Path, rungs: Mapping[int, Path]) -> None:
    """One decoding pass, an encoder per CRF."""
    clip = open_clip(source)
    rate = clip.rate if clip.rate > 0 else 25
    with ExitStack() as stack:
        writers = [
            stack.enter_context(VideoWriter(path, rate, crf, pixel_aspect=clip.coded_aspect))
            for crf, path in rungs.items()
        ]
        for frame in clip.for_encoder():
            for writer in writers:
                writer.write(frame)


def read_manifest(path: str | Path) -> list[Encode]:
    """An existing ladder: a CSV with the columns `video` (relative to the file), `source` and `crf`.

    Raises:
        ValueError: If it is missing, empty or does not fit; the message names file, line, value and rule.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"manifest {str(path)!r} does not exist.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        missing = [name for name in ("video", "source", "crf") if name not in header]
        if missing:
            raise ValueError(f"{path}: no columns {missing}; a manifest needs the header video,source,crf.")
        if twice := repeated(header):
            raise ValueError(
                f"{path}: the header names the columns {twice} more than once: {header}. Keep one of each."
            )
        encodes = []
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row or None in row.values() or not row["video"] or not row["source"]:
                raise ValueError(
                    f"{place}: {row} needs a video, a source and a crf, in {len(header)} fields like the header."
                )
            try:
                crf = number_of(row["crf"])
            except ValueError as error:
                raise ValueError(f"{place}: crf {error}") from None
            encodes.append(Encode(str(path.parent / row["video"]), row["source"], crf))
    if not encodes:
        raise ValueError(f"{path}: the manifest lists no encodes.")
    return encodes


def flip_rates(
    encodes: Sequence[Encode], scores: Mapping[str, float], differences: Sequence[float] | None = None
) -> list[FlipRate]:
    """Count wrongly ordered pairs.

    Args:
        encodes: The ladders.
        scores: Video -> score; NaN where there is none.
        differences: CRF differences to report; default those of `DIFFERENCES` that occur, or else all that do.

    Returns:
        One entry per difference, then one for all pairs of one source with different CRF.
    """
    ladders: dict[str, list[Encode]] = {}
    for encode in encodes:
        ladders.setdefault(encode.source, []).append(encode)
    pairs = []  # CRF difference, score of the milder encode minus that of the harder
    for ladder in ladders.values():
        for mild, hard in combinations(sorted(ladder, key=lambda encode: encode.crf), 2):
            if hard.crf > mild.crf:
                pairs.append((hard.crf - mild.crf, scores[mild.video] - scores[hard.video]))
    gaps, margins = np.array(pairs, dtype=float).reshape(-1, 2).T
    if differences is None:
        occurring = sorted(set(gaps.tolist()))
        differences = [gap for gap in occurring if gap in DIFFERENCES] or occurring
    chosen = {difference: gaps == difference for difference in differences} | {None: np.ones(len(gaps), dtype=bool)}
    return [_count(difference, margins[mask]) for difference, mask in chosen.items()]


def _count(difference: float | None, margins: np.ndarray) -> FlipRate:
    known = margins[~np.isnan(margins)]
    wrong, ties = int((known < 0).sum()), int((known == 0).sum())
    return FlipRate(difference, len(known), wrong, ties, len(margins) - len(known))


def table(rates: Sequence[FlipRate]) -> Table:
    """For people."""
    rows = [
        ["all" if r.difference is None else f"{r.difference:g}", r.pairs, r.wrong, r.ties, r.unscored, r.rate]
        for r in rates
    ]
    columns = ["CRF difference", "pairs", "wrong order", "ties", "unscored", "flip rate"]
    return Table("Flip rate", columns, rows, "(wrong order + ties / 2) / pairs, pairs of encodes of one source")
