"""Ladders to measure a policy on: made from a folder of sources, or listed in a manifest."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from tqdm.auto import tqdm

from vqathinker.clips import ENCODER_OPTIONS, READING, VIDEO_SUFFIXES
from vqathinker.clips.codecs import ENCODERS, MAX_CRF, check_codecs, check_crfs, library_of
from vqathinker.clips.encode import WRITING
from vqathinker.clips.rungs import Rung, encode_rungs
from vqathinker.data.tables import Table, read_table
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
        scene: Names what several sources may show; "" where the source is a scene of its own.
    """

    video: str
    source: str
    crf: float
    ladder: str = ""
    codec: str = ""
    scene: str = ""


def crf_range(codec: str) -> tuple[int, ...]:
    """CP-LLM's CRFs 15, 17, ..., as far as a codec's scale goes.

    Args:
        codec: Key of `ENCODERS`.
    """
    return tuple(range(15, MAX_CRF[ENCODERS[codec]] + 1, 2))


ABOUT = "ladder.json"
"""Beside a table of `vqathinker synth --ladder`: what its encodes were made with."""
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
        ValueError: If a CRF or the codec does not fit, the folder holds no videos or two of one name, or a name cannot
            be written to a table, see `check_names`.
        ClipError: If a source cannot be decoded.
    """
    sources, out = Path(sources), Path(out)
    if not sources.is_dir():
        raise ValueError(f"sources {str(sources)!r} is not a folder: name the one that holds the videos to encode.")
    check_codecs([codec])
    crfs = crf_range(codec) if crfs is None else crfs
    check_crfs(crfs, codec)
    files = [file for file in sorted(sources.rglob("*")) if file.suffix.lower() in VIDEO_SUFFIXES]
    check_names(file.relative_to(sources) for file in files)
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
        encode_missing(file, rungs, [ENCODERS[codec]])
    state.wait_for_everyone()
    encodes = [Encode(str(_path(out, name, crf)), name, crf, codec, codec) for name in names for crf in crfs]
    if state.is_main_process:
        with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(("video", "source", "crf", "codec"))
            writer.writerows((Path(e.video).relative_to(out).as_posix(), e.source, e.crf, e.codec) for e in encodes)
    return encodes


def check_names(files: Iterable[Path]) -> None:
    """Refuse names that a table in UTF-8 cannot hold or would not give back, before anything is encoded.

    Args:
        files: Relative to the folder of sources, which may have any name.

    Raises:
        ValueError: If one is not UTF-8, has a backslash, tab or line break, or begins or ends with a space.
    """
    wrong = [os.fsencode(file) for file in files if not _fits_table(file)]
    if wrong:
        raise ValueError(
            f"{wrong[:3]}: {counted(len(wrong), 'name')} cannot stand in a table of encodes. Rename to UTF-8 without "
            "backslashes, tabs, line breaks, and spaces at an end."
        )


def _fits_table(file: Path) -> bool:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    parts = [*file.parent.parts, file.stem]
    return not {*str(file)} & {*"\\\t\r\n"} and all(part == part.strip() for part in parts)


def _path(out: Path, name: str, crf: int) -> Path:
    return out / name / f"crf{crf:02d}.mp4"


def made_with(origin: str, encoders: Sequence[str] = tuple(ENCODERS.values())) -> list[str]:
    """Names what encodes depend on, but for CRF and size; to be kept beside them, so that others are made anew.

    Args:
        origin: Names the source: its `stamp`, or what it is drawn from.
        encoders: Of `ENCODERS`, those that matter.
    """
    versions = [f"reading {READING}", f"writing {WRITING}", f"PyAV {av.__version__}"]
    return [origin, *versions, *(f"{name} {library_of(name)} {json.dumps(ENCODER_OPTIONS[name])}" for name in encoders)]


def encode_missing(source: Path, rungs: Sequence[Rung], encoders: Sequence[str] = tuple(ENCODERS.values())) -> None:
    """Make the rungs that are missing; all of them where those that are there come from another source or options.

    Args:
        source: The video.
        rungs: Files `*crfNN.mp4` of one folder, which is for them alone.
        encoders: Those that make encodes of the folder.

    Raises:
        ClipError: If the source cannot be decoded.
    """
    folder = rungs[0].path.parent
    made_from, marker = "\n".join(made_with(stamp(source), encoders)), folder / "made_from.txt"
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
    and `height`, as far as these are there. Sources of one `scene`, where it has that column, are no independent ones.
    So a table that `vqathinker synth --ladder` makes is a manifest.

    Raises:
        ValueError: If it is missing, empty or does not fit; the message names file, line, value and rule.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"manifest {str(path)!r} does not exist.")
    table = read_table(path)
    if missing := [name for name in ("video", "source", "crf") if name not in table.header]:
        raise ValueError(
            f"{path}: no columns {missing}; a manifest needs the columns video, source and crf. (A table of ladders "
            "whose rungs have a rank and no crf is for training.)"
        )
    return [_encode(table, line, row) for line, row in table.rows]


def _encode(table: Table, line: int, row: dict[str, str]) -> Encode:
    if not all(row.get(name, "-") for name in NAMED):
        raise ValueError(
            f"{table.place(line)}: {row} needs a video, a source and a crf, and a ladder where the header has one."
        )
    try:
        crf = table.number(row["crf"])
    except ValueError as error:
        raise ValueError(f"{table.place(line)}: crf {error}") from None
    if crf is None:
        raise ValueError(f"{table.place(line)}: crf {row['crf']!r} is not a number.")
    ladder = row["ladder"] if "ladder" in row else "/".join(row[name] for name in RESOLVED if name in row)
    video, others = str(table.path.parent / row["video"]), (row.get("codec", ""), row.get("scene", ""))
    return Encode(video, row["source"], crf, ladder, *others)


def settings_beside(manifest: str | Path) -> dict[str, Any]:
    """What a manifest's encodes were made with, from the `ladder.json` beside it; nothing where there is none.

    Raises:
        ValueError: If it is there and is no such file.
    """
    folder = Path(manifest).parent
    return read_about(folder, ["encodes"])["encodes"] if (folder / ABOUT).exists() else {}


def read_about(folder: str | Path, keys: Sequence[str]) -> dict[str, Any]:
    """What `ladder.json` says of a folder's ladders.

    Args:
        folder: The folder.
        keys: What is needed of it; `found` is there only when the ladders are finished.

    Raises:
        ValueError: If it is missing, is another file, or lacks one of these.
    """
    file = Path(folder) / ABOUT
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}). It says what encoded the ladders beside it: `vqathinker synth --ladder` "
            "writes it."
        ) from None
    if not isinstance(about, dict) or "spec" not in about:
        raise ValueError(f"{file} is not of `vqathinker synth --ladder`: move it elsewhere, or name another folder.")
    if missing := [key for key in keys if key not in about]:
        raise ValueError(f"{file} has no {missing}: let `vqathinker synth --ladder` finish first.")
    return about
