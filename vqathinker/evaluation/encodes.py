"""Ladders to measure a policy on: made from a folder of sources, or listed in a manifest."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vqathinker.clips import ENCODER_OPTIONS, READING, VIDEO_SUFFIXES
from vqathinker.clips.codecs import ENCODERS, MAX_CRF, check_codecs, check_crfs
from vqathinker.clips.encode import WRITING
from vqathinker.clips.rungs import Rung, encode_rungs
from vqathinker.data.formats import number_of, repeated
from vqathinker.scoring.scorer import process_state
from vqathinker.scoring.table import stamp
from vqathinker.wording import counted

NAMED = ("video", "source", "ladder")
"""Columns of a manifest that hold a name in every row; `ladder` may be missing."""
RESOLVED = ("codec", "width", "height")
"""Columns of a manifest that tell ladders of one source apart where it has no column `ladder`."""


@dataclass(frozen=True)
class Encode:
    """One rung of a ladder.

    Attributes:
        video: Path.
        source: Names what it was made from.
        crf: Constant rate factor; higher is worse.
        ladder: Names those of the source that it can be compared with: one codec, one resolution.
        codec: By name, as in `ENCODERS`; "" where it is not known.
    """

    video: str
    source: str
    crf: float
    ladder: str = ""
    codec: str = ""


def crf_range(codec: str) -> tuple[int, ...]:
    """CP-LLM's CRFs 15, 17, ..., as far as a codec's scale goes.

    Args:
        codec: Key of `ENCODERS`.
    """
    return tuple(range(15, MAX_CRF[ENCODERS[codec]] + 1, 2))


LADDER = crf_range("h264")
"""CP-LLM's ladder, but for its rung at 53: x264 takes that for 51, so it would be a copy."""


def encode_ladder(
    sources: str | Path,
    out: str | Path,
    crfs: Sequence[int] | None = None,
    progress: bool = True,
    codec: str = "h264",
) -> list[Encode]:
    """Encode every video of a folder at each CRF, without its sound; what is there already is kept.

    Under `accelerate launch` the processes share the sources.

    Args:
        sources: Folder with the sources, at best uncompressed or nearly so.
        out: Gets `NAME/crfNN.mp4` per source and `manifest.csv`, see `read_manifest`.
        crfs: Constant rate factors, whole numbers on the codec's scale; default `crf_range`.
        progress: Show a progress bar.
        codec: Key of `ENCODERS`.

    Raises:
        ValueError: If a CRF or the codec does not fit, or the folder holds no videos or two of one name.
        ClipError: If a source cannot be decoded.
    """
    sources, out = Path(sources), Path(out)
    if not sources.is_dir():
        raise ValueError(f"sources {str(sources)!r} is not a folder: name the one that holds the videos to encode.")
    check_codecs([codec])
    crfs = crf_range(codec) if crfs is None else crfs
    check_crfs(crfs, codec)
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
        rungs = [Rung(_path(out, name, crf), ENCODERS[codec], crf) for crf in crfs]
        encode_missing(file, rungs, ENCODER_OPTIONS[ENCODERS[codec]])
    state.wait_for_everyone()
    encodes = [Encode(str(_path(out, name, crf)), name, crf, codec, codec) for name in names for crf in crfs]
    if state.is_main_process:
        with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(("video", "source", "crf", "codec"))
            writer.writerows((Path(e.video).relative_to(out).as_posix(), e.source, e.crf, e.codec) for e in encodes)
    return encodes


def _path(out: Path, name: str, crf: int) -> Path:
    return out / name / f"crf{crf:02d}.mp4"


def encode_missing(source: Path, rungs: Sequence[Rung], options: Mapping[str, Any]) -> None:
    """Make the rungs that are missing; all of them where those that are there come from another source or options.

    Args:
        source: The video.
        rungs: Files `*crfNN.mp4` of one folder, which is for them alone.
        options: What of `ENCODER_OPTIONS` holds for the folder.

    Raises:
        ClipError: If the source cannot be decoded.
    """
    folder = rungs[0].path.parent
    made_from, marker = f"{stamp(source)} {READING} {WRITING} {options}", folder / "made_from.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != made_from:
        for old in folder.glob("*crf*.mp4"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(made_from, encoding="utf-8")
    missing = [rung for rung in rungs if not rung.path.exists()]
    if missing:
        encode_rungs(source, missing)


def read_manifest(path: str | Path) -> list[Encode]:
    """Existing ladders: a CSV with the columns `video` (relative to the file), `source` and `crf`.

    Encodes of one source are compared within one `ladder`, or where that column is missing, within one `codec`, `width`
    and `height`, as far as these are there. So a table that `vqathinker synth --ladder` makes is a manifest.

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
            if None in row or None in row.values() or not all(row.get(name, "-") for name in NAMED):
                raise ValueError(
                    f"{place}: {row} needs a video, a source and a crf, and a ladder where the header has one, in "
                    f"{len(header)} fields like the header."
                )
            try:
                crf = number_of(row["crf"])
            except ValueError as error:
                raise ValueError(f"{place}: crf {error}") from None
            ladder = row["ladder"] if "ladder" in row else "/".join(row[name] for name in RESOLVED if name in row)
            encodes.append(Encode(str(path.parent / row["video"]), row["source"], crf, ladder, row.get("codec", "")))
    if not encodes:
        raise ValueError(f"{path}: the manifest lists no encodes.")
    return encodes


def settings_beside(manifest: str | Path) -> dict[str, Any]:
    """What a manifest's encodes were made with, from the `ladder.json` beside it; nothing where there is none."""
    file = Path(manifest).parent / "ladder.json"
    return json.loads(file.read_text(encoding="utf-8"))["encodes"] if file.exists() else {}
