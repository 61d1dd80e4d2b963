"""What is wrong with a data set before it is trained on: labels, files, duplicates, splits that share sources."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqathinker.data.check_clips import KEY_FRAMES, Probe, probe_clips
from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import READERS, LabelError, number_of
from vqathinker.data.labels import LabelRow, distortions_of, stalls_of
from vqathinker.data.scales import NAMES, MosScale, mos_scale
from vqathinker.data.sources import sources_of
from vqathinker.wording import counted

EXAMPLES = 3
"""Shown of each finding."""
USUAL = ((0, 1, "0-1"), (0, 5, "1-5"), (0, 10, "1-10"), (0, 100, "0-100"))
"""Scales that labels come on: lowest and highest label, name."""
FEW = 10
"""Fewer labels than this may lie on a small part of their scale by chance."""
NARROW = 0.6
"""Labels look like another scale's if that ends below this share of the one that was stated."""
NO_SCALE = "No scale was given"
"""A finding; training asks for a scale."""
BINS = 10


@dataclass(frozen=True)
class Finding:
    """Something about a data set.

    Attributes:
        what: In words, to be read behind the count: "files are missing".
        count: Of rows, clips or sources; 0 for a remark on the set as a whole.
        examples: Three of them, or fewer.
        fix: What to do.
        problem: Whether training would meet it; else it is worth knowing.
    """

    what: str
    count: int
    examples: tuple[str, ...]
    fix: str
    problem: bool = True

    def text(self) -> str:
        """One line with count, examples and fix."""
        count = f"{self.count} " if self.count else ""
        more = ", .." if self.count > len(self.examples) else ""  # a full stop follows
        shown = ", ".join(example.removesuffix(".") for example in self.examples)
        return f"{count}{self.what}{f': {shown}' if shown else ''}{more}. {self.fix}"


@dataclass(frozen=True)
class DataCheck:
    """What `check_data` found.

    Attributes:
        labels: The label file.
        rows: Its rows that can be read, with labels as they stand there.
        scale: The stated scale, if any.
        findings: Problems, then remarks.
        probes: Path -> what its file is like, of every clip of every label file.
    """

    labels: Path
    rows: tuple[LabelRow, ...]
    scale: MosScale | None
    findings: tuple[Finding, ...]
    probes: Mapping[str, Probe]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What training would meet."""
        return tuple(finding for finding in self.findings if finding.problem)

    def histogram(self) -> list[tuple[float, float, int]]:
        """(from, to, labels) of ten bins over the stated scale, or over the labels; the last one includes its end."""
        values = [row.mos for row in self.rows]
        if not values:
            return []
        low, high = min(values), max(values)
        if self.scale is not None:
            low, high = min(low, self.scale.low), max(high, self.scale.high)
        width = (high - low) / BINS or 1.0
        counts = [0] * BINS
        for value in values:
            counts[min(BINS - 1, int((value - low) / width))] += 1
        return [(low + i * width, low + (i + 1) * width, count) for i, count in enumerate(counts)]


def check_data(
    labels: str | Path,
    video_root: str | Path,
    scale: str | None = None,
    also: Sequence[str | Path] = (),
    columns: tuple[str, str] = ("video", "mos"),
    source: tuple[str | None, str] = (None, ""),
    threads: int = 2,
    key_frames: int = KEY_FRAMES,
    progress: bool = False,
) -> DataCheck:
    """Check label files and every clip that they name, of which the key frames are decoded.

    Args:
        labels: Label file, see `read_labels`.
        video_root: Folder the video names are relative to.
        scale: MOS scale of the labels by name, see `mos_scale`; `None` if it is not known yet.
        also: Label files of other splits of the same set, which should share neither clips nor sources with it.
        columns: CSV columns of the video name and the label.
        source: CSV column and rule for names that tell a clip's source, see `sources_of`.
        threads: Clips read at a time.
        key_frames: Frames of a clip that the policy is to see, >= 1; clips with fewer are too short.
        progress: Show a progress line.

    Raises:
        LabelError: If a label file is missing or of unknown format, or the video root is no folder.
        ValueError: If the scale or the column of sources is unknown, the rule for names is none, or `key_frames` or
            `threads` is below 1.
    """
    if key_frames < 1 or threads < 1:
        raise ValueError(f"key_frames={key_frames}, threads={threads}: both must be at least 1.")
    stated = None if scale is None else mos_scale(scale)
    check_rule(source[1])
    root = Path(video_root)
    rows, findings = _collect(Path(labels), root, columns)
    others: dict[str, list[LabelRow]] = {}
    for file in also:
        others[str(file)], wrong = _collect(Path(file), root, columns)
        findings += wrong
    every = [row for part in (rows, *others.values()) for row in part]
    known = dict.fromkeys(key for row in every for key in row.extra)
    if source[0] and source[0] not in known:
        raise ValueError(f"source column {source[0]!r} is in none of the files: choose one of {list(known)}.")
    findings += scale_findings(rows, stated)
    probes = probe_clips([row.video for row in every], key_frames, threads, progress)
    findings += _clip_findings(every, probes, key_frames) + _content_findings(every, probes)
    findings += _stall_findings(every, probes)
    for name, part in others.items():
        on_scale = scale_findings(part, stated) if stated else []
        findings += [replace(finding, what=f"{finding.what} (in {name})") for finding in on_scale]
        findings += shared_findings(rows, part, name, *source)
    if rows:
        findings.append(_direction())
    ordered = sorted(findings, key=lambda finding: not finding.problem)
    return DataCheck(Path(labels), tuple(rows), stated, tuple(ordered), probes)


def _collect(path: Path, root: Path, columns: tuple[str, str]) -> tuple[list[LabelRow], list[Finding]]:
    """The rows of a label file that can be read, one a video, labels as they are; and what is wrong with the others."""
    check_places(path, root, list(READERS), "label file")
    files, rows = VideoFiles(root), dict[str, LabelRow]()
    wrong, twice, torn = list[str](), list[str](), list[str]()
    ended: list[Finding] = []
    try:
        for place, video, label, extra in READERS[path.suffix.lower()](path, *columns):
            try:
                name = safe_name(video)
                row = LabelRow(str(files.find(name)), name, _label(label), dict(extra))
                distortions_of(row)
                stalls = stalls_of(row)
            except ValueError as error:
                wrong.append(f"{place}: {error}")
                continue
            known = rows.setdefault(row.video, row)
            if known.mos != row.mos:
                torn.append(f"{name} ({known.mos:g} and {row.mos:g})")
            elif stalls_of(known) != stalls:
                wrong.append(f"{place}: {name!r} is listed twice, with other stalls")
            elif known is not row:
                twice.append(name)
    except LabelError as error:  # which ends the reading
        ended.append(Finding(str(error).removesuffix("."), 0, (), "Training refuses the file."))
    fix = "Correct or remove it|them; training refuses the file."
    found = [ended, _found(wrong, "row|rows", f"of {path} cannot be read", fix)]
    found.append(_found(torn, "video|videos", f"of {path} listed twice with two labels", "Keep one row per video."))
    fix = "It|They is|are dropped; remove it|them."
    found.append(_found(twice, "row|rows", f"of {path} repeating a video with its label", fix, False))
    if not rows and not wrong and not ended:
        found.append([Finding(f"{path} lists no video", 0, (), "Write one row for each clip.")])
    return list(rows.values()), [finding for part in found for finding in part]


def _label(value: Any) -> float:
    try:
        return number_of(value)
    except ValueError as error:
        raise ValueError(f"label {error}") from None


def _found(names: Iterable[str], who: str, what: str, fix: str, problem: bool = True) -> list[Finding]:
    """One finding on all of them; none where there is none.

    `who` is how it begins of one, and of many: "clip is|clips are"; single words of `fix` are given so too: "it|them".
    """
    listed = list(names)
    chosen = 0 if len(listed) == 1 else 1
    what = f"{who.split('|')[chosen]} {what}"
    fix = re.sub(r"(\w+)\|(\w+)", lambda pair: pair[chosen + 1], fix)
    return [Finding(what, len(listed), tuple(listed[:EXAMPLES]), fix, problem)] if listed else []


# ---------------------------------------------------------------- labels


def scale_findings(rows: Sequence[LabelRow], scale: MosScale | None) -> list[Finding]:
    """Labels that cannot be on a scale, or look like another one's.

    Args:
        rows: Rows with labels as the file has them.
        scale: The stated scale; `None` if none was.
    """
    if not rows:
        return []
    values = [row.mos for row in rows]
    low, high = min(values), max(values)
    usual = next((known for known in USUAL if known[0] <= low and high <= known[1]), None)
    looks = f"The labels run from {low:g} to {high:g}, {f'as on {usual[2]}' if usual else 'as on no usual scale'}"
    if scale is None:
        return [Finding(NO_SCALE, 0, (), f"{looks}. Name their scale: {NAMES}.", False)]
    outside = [f"{row.video_id} ({row.mos:g})" for row in rows if not scale.low <= row.mos <= scale.high]
    rule = f"outside the scale {scale.name!r}, which takes {scale.takes}"
    found = _found(outside, "label is|labels are", rule, f"{looks}. Name their scale: {NAMES}.")
    if not outside and usual and usual[1] <= NARROW * scale.high and len(rows) >= FEW:
        what = f"The labels fit the scale {scale.name!r}, but look like those of another scale"
        found.append(Finding(what, 0, (), f"{looks}. Name their scale: {NAMES}, or go on if the given one is right."))
    if low == high and len(rows) > 1:
        found.append(Finding(f"All labels are {low:g}", 0, (), "There is nothing to learn: check the label column."))
    if not outside:
        below = [f"{row.video_id} ({row.mos:g})" for row in rows if scale(row.mos) < 1]
        fix = "It|They is|are trained on as it|they is|are."
        found += _found(below, "label is|labels are", "below a score of 1", fix, False)
    return found


def _direction() -> Finding:
    return Finding(
        "Whether a higher label is better cannot be known from the labels",
        0,
        (),
        "It must be. For DMOS, lower is better: invert it in the file (on 0-100, write 100 - DMOS).",
        False,
    )


# ---------------------------------------------------------------- clips


def missing_findings(rows: Sequence[LabelRow], threads: int = 8) -> list[Finding]:
    """Files that are not there; nothing is decoded.

    Args:
        rows: Rows.
        threads: Files asked for at a time, as a disk may be far away.
    """
    names = {row.video: row.video_id for row in rows}
    with ThreadPoolExecutor(threads) as pool:
        there = list(pool.map(os.path.isfile, names))
    return _missing([name for name, is_there in zip(names.values(), there, strict=True) if not is_there], len(names))


def _missing(names: Sequence[str], total: int) -> list[Finding]:
    fix = (
        ("Name the folder that the video names are relative to.")
        if len(names) == total
        else "Add the file|files, or remove its|their row|rows."
    )
    files = f"of {counted(total, 'file')}"
    return _found(names, f"{files} is|{files} are", "missing", fix)


def _clip_findings(rows: Sequence[LabelRow], probes: Mapping[str, Probe], key_frames: int) -> list[Finding]:
    """Missing, damaged and short clips, and what is done to the frames of others."""
    names = {row.video: row.video_id for row in rows}
    missing, damaged, short = list[str](), list[str](), list[str]()
    noted: dict[str, list[str]] = defaultdict(list)
    for video, name in names.items():
        probe = probes[video]
        if probe.missing:
            missing.append(name)
        elif probe.error:
            damaged.append(f"{name} ({probe.error})")
        elif probe.num_frames < key_frames:
            short.append(f"{name} ({probe.num_frames})")
        for note in probe.notes:
            noted[note].append(name)
    found = _missing(missing, len(names))
    fix = "Replace it|them, or remove its|their row|rows; training leaves it|them out."
    found += _found(damaged, "clip|clips", "cannot be read", fix)
    fix = "Frames would be shown repeatedly: remove its|their row|rows."
    found += _found(short, "clip has|clips have", f"fewer than {counted(key_frames, 'frame')}", fix)
    for note, clips in sorted(noted.items()):
        kind = {"deinterlaced": "interlaced ", "an image": "one-frame "}.get(note, "HDR " if "BT.709" in note else "")
        fix = "Training and scoring show it|them this way; there is nothing to do."
        found += _found(clips, f"{kind}clip is|{kind}clips are", f"noted as {note!r}", fix, False)
    return found


def _content_findings(rows: Sequence[LabelRow], probes: Mapping[str, Probe]) -> list[Finding]:
    """Clips of two names whose key frames are the same."""
    groups: dict[str, dict[str, LabelRow]] = defaultdict(dict)
    for row in rows:
        if probes[row.video].digest:
            groups[probes[row.video].digest].setdefault(row.video, row)
    same = []
    for group in groups.values():
        if len(group) > 1:
            marks = " and ".join(f"{mos:g}" for mos in dict.fromkeys(row.mos for row in group.values()))
            same.append(f"{' = '.join(row.video_id for row in group.values())} (label {marks})")
    fix = "Keep one name for each, in one split."
    return _found(same, "clip appears|clips appear", "under two or more names", fix)


def _stall_findings(rows: Sequence[LabelRow], probes: Mapping[str, Probe]) -> list[Finding]:
    """Stalls that cannot be those of the clip, as they end after it."""
    wrong = list[str]()
    for row in rows:
        stalls, seconds = stalls_of(row), probes[row.video].seconds
        if stalls is not None and not math.isnan(seconds):
            try:
                replace(stalls, duration=seconds)
            except ValueError as error:
                wrong.append(f"{row.video_id} ({str(error).partition(': times')[0]})")
    fix = "Count seconds of the clip with its stalls in it; training refuses the row|rows."
    return _found(wrong, "clip has|clips have", "stalls that end after its last frame", fix)


# ---------------------------------------------------------------- splits


def check_rule(pattern: str) -> None:
    """Refuse a rule for names that `sources_of` cannot use; "" is none.

    Raises:
        ValueError: If it is no regular expression with a group `source`.
    """
    try:
        fits = not pattern or "source" in re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"rule for names {pattern!r} is not a regular expression ({error}): correct it.") from None
    if not fits:
        raise ValueError(f"rule for names {pattern!r} has no group 'source': add one, e.g. (?P<source>.+)_\\d+\\.mp4.")


def shared_findings(
    rows: Sequence[LabelRow], others: Sequence[LabelRow], name: str, column: str | None = None, pattern: str = ""
) -> list[Finding]:
    """Clips and sources that two splits share.

    Args:
        rows: Rows of the one.
        others: Rows of the other.
        name: What the other is called, for messages.
        column: CSV column that tells a clip's source, see `sources_of`.
        pattern: Rule for names that tells it, see `check_rule`.
    """
    there = {row.video for row in others}
    twice = [row.video_id for row in rows if row.video in there]
    found = _found(twice, "clip is|clips are", f"in {name} too", "Keep each in one split.")
    told = sources_of([*rows, *others], column, pattern)
    if not told.names:
        why = told.reason or "no column 'source' or 'scene', and no rule for names"
        fix = "Name the column or a rule for names; only clips were compared, not sources."
        return [*found, Finding(f"Cannot tell which sources {name} shares ({why})", 0, (), fix, False)]
    mine = dict.fromkeys(told.names[: len(rows)])
    both = [str(source) for source in mine if source in set(told.names[len(rows) :]) and isinstance(source, str)]
    return found + _found(
        both,
        "source is|sources are",
        f"in {name} too, by {told.reason}",
        "Keep all clips of a source in one split: otherwise scores on the other split measure nothing.",
    )


def quick_check(rows: Sequence[LabelRow], held_out: Sequence[LabelRow] = (), scale: str | None = None) -> list[Finding]:
    """The check that takes no time: nothing is decoded.

    Args:
        rows: What is trained on, each video once or more, labels in score units; NaN for those without one.
        held_out: What is validated on.
        scale: MOS scale that the labels came from; `None` if there are none.
    """
    once = list({row.video: row for row in rows}.values())
    found = missing_findings([*once, *held_out])
    stated = None if scale is None else mos_scale(scale)
    if stated is not None:
        native = [
            LabelRow(row.video, row.video_id, (row.mos - stated.offset) / stated.factor)
            for row in once
            if not math.isnan(row.mos)
        ]
        # Rounding may put a label that was at the scale's end just outside.
        inside = [LabelRow(r.video, r.video_id, min(max(r.mos, stated.low), stated.high)) for r in native]
        found += scale_findings(inside, stated)
    if held_out:
        found += shared_findings(once, list({row.video: row for row in held_out}.values()), "the validation set")
    return [finding for finding in found if finding.problem]
