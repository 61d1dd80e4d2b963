"""How test sets, public ones and the user's own, are found on disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vqathinker.data.formats import READERS, LabelError
from vqathinker.data.further_sets import FURTHER_SETS
from vqathinker.data.labels import LabelRow, read_labels
from vqathinker.data.public_sets import BENCHMARKS, UNKNOWN, Benchmark
from vqathinker.data.question_sets import QUESTION_SETS
from vqathinker.data.scales import LABEL_RANGE, NAMES, NATIVE, SCORES, mos_scale
from vqathinker.data.sources import Sources, sources_of
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

DOMAINS = ("in-domain", "ood")
CHOICES = (*DOMAINS, "all", "own")
PUBLIC = BENCHMARKS | FURTHER_SETS
"""Name -> public set: those of the paper, and those that are chosen by name only."""
SPLITS = ("test", "train")


@dataclass(frozen=True)
class BenchmarkSet:
    """A test set found on disk.

    Attributes:
        name: Short name, safe as a file name.
        title: For tables.
        domain: "in-domain" or "ood"; "" for a table alone, which is averaged with no other.
        labels: Label file, see `read_labels`.
        videos: Folder that its names are relative to.
        num_videos: Expected number of clips, if known.
        published: (SRCC, PLCC) of VQAThinker-8B, if known.
        video_column: CSV column of the video name.
        mos_column: CSV column of the label.
        synthetic: Whether the labels are no opinions of people.
        source_column: CSV column that tells from what a clip was made; default as `sources_of`. The video column makes
            every clip a source of its own.
        source_pattern: Rule for file names, see `sources_of`.
        mos_scale: Name of the scale that brings its labels to score units; none: they stay in native units.
        split: "test", or "train" for clips that a policy was trained on; the two are never averaged together.
        num_sources: From how many sources its clips were made, where that is known and several share one.
    """

    name: str
    title: str
    domain: str
    labels: Path
    videos: Path
    num_videos: int | None = None
    published: tuple[float, float] | None = None
    video_column: str = "video"
    mos_column: str = "mos"
    synthetic: bool = False
    source_column: str | None = None
    source_pattern: str = ""
    mos_scale: str | None = None
    split: str = "test"
    num_sources: int | None = None

    def rows(self) -> list[LabelRow]:
        """Its clips, labels in native units unless `mos_scale` is set. A number other than `num_videos` is warned of.

        Raises:
            LabelError: As `read_labels`, or if there is no such `source_column`.
        """
        rows = read_labels(self.labels, self.videos, self.mos_scale or NATIVE, self.video_column, self.mos_column)
        self._check_source_column(rows)
        if self.num_videos not in (None, len(rows)):
            listed = counted(len(rows), "video")
            logger.warning("%s: %s lists %s, not %d.", self.title, self.labels, listed, self.num_videos)
        if self.num_sources is not None and not self.sources(rows).names:
            logger.warning(
                "%s: its clips come from %d sources, and %s does not tell which: intervals will be too narrow. Add the "
                "column 'source'.",
                self.title,
                self.num_sources,
                self.labels,
            )
        return rows

    def _check_source_column(self, rows: Sequence[LabelRow]) -> None:
        columns = [self.video_column, *rows[0].extra]
        if self.source_column is None or self.source_column in columns:
            return
        is_csv = self.labels.suffix.lower() == ".csv"
        found = f"besides {self.mos_column!r} the header has {columns}" if is_csv else "only CSV files have columns"
        raise LabelError(
            f"{self.labels}: no column {self.source_column!r} with each clip's source; {found}. Set source_column to "
            "an existing column, or leave it out."
        )

    def sources(self, rows: Sequence[LabelRow]) -> Sources:
        """From what its clips were made, as far as anything tells; see `sources_of`."""
        if self.source_column == self.video_column:
            return Sources()
        return sources_of(rows, self.source_column, self.source_pattern)


def split_of(*names: str) -> str:
    """The split that names tell: "train" if one has the word "train", "training" or "trainset" in it, else "test"."""
    return (
        "train" if any(re.search(r"(?<![a-z])train(?:ing|set)?(?![a-z])", name.lower()) for name in names) else "test"
    )


def label_table(labels: str | Path, videos: str | Path, scale: str | None = None) -> BenchmarkSet:
    """One label file and its clips as a set that needs no YAML and is averaged with no other.

    Args:
        labels: Label file, see `read_labels`; a CSV has the columns `video` and `mos`.
        videos: Folder that its names are relative to.
        scale: MOS scale by name, see `mos_scale`; default that the labels are in score units.

    Raises:
        LabelError: As `read_labels`, or if a label is not in score units and no scale is given.
        ValueError: On an unknown scale.
    """
    labels = Path(labels)
    rows = read_labels(labels, videos, NATIVE if scale is None else scale)
    low, high = LABEL_RANGE
    odd = next((row for row in rows if not low <= row.mos <= high), None)
    if odd is not None:
        raise LabelError(
            f"{labels}: {odd.video_id!r} has the MOS {odd.mos:g}, but without --mos-scale labels must be {SCORES}. "
            f"Name the scale of your labels: --mos-scale {NAMES}."
        )
    name = re.sub(r"[^A-Za-z0-9._-]", "_", labels.stem)[:100].lstrip("._-") or "labels"
    split = split_of(labels.stem)
    return BenchmarkSet(name, labels.name, "", labels, Path(videos), mos_scale=scale or "identity", split=split)


@dataclass(frozen=True)
class Absent:
    """A chosen test set that is not on disk.

    Attributes:
        name: Short name.
        title: For tables.
        domain: "in-domain" or "ood".
        reason: What is missing, and where it belongs or comes from.
    """

    name: str
    title: str
    domain: str
    reason: str


def find_benchmarks(
    choice: str,
    data_root: str | Path | None = None,
    own: str | Path | None = None,
    scale: str | None = None,
) -> tuple[list[BenchmarkSet], list[Absent]]:
    """Find test sets on disk: public ones below `data_root`, and the user's own.

    Args:
        choice: "in-domain", "ood", "all", "own" (the sets of `own`), or names separated by commas.
        data_root: Holds `NAME/labels.json` (or `.jsonl`, `.txt`, `.csv`) and `NAME/videos/` of public sets.
        own: YAML list of own sets, paths relative to it: `name`, `labels`, `videos` and, if wanted, `domain` (default
            "ood"), `title`, `num_videos`, `video_column`, `mos_column`, `source_column`, `synthetic`, `mos_scale`,
            `split` (default "train" where the name or that of the label file says so, else "test").
        scale: MOS scale by name, see `mos_scale`, of the one public set that is chosen; must be given where the set's
            is unknown.

    Returns:
        The chosen sets that are there, and those that are not; public ones first, each in order.

    Raises:
        ValueError: If `choice` has an unknown name, `data_root` is no folder, a set has several label files, its scale
            is unknown and none is given, or `own` does not fit; the message names file, entry, value, rule and fix.

    Example:
        >>> found, absent = find_benchmarks("cgvds,vdpve")
        >>> [missing.title for missing in absent]
        ['CGVDS', 'VDPVE']
    """
    if data_root is not None and not Path(data_root).is_dir():
        raise ValueError(f"data root {str(data_root)!r} is not a folder: name the one that holds the sets' folders.")
    own_sets = {} if own is None else _read_own(Path(own))
    chosen = _chosen(choice, {name: known.domain for name, known in (PUBLIC | own_sets).items()})
    if scale is not None and (len(chosen) != 1 or chosen[0] not in PUBLIC):
        raise ValueError(f"mos scale {scale!r} with the sets {chosen}: it goes with one public set. Choose that alone.")
    looked_up = [
        _own_on_disk(own_sets[name]) if name in own_sets else _public_on_disk(PUBLIC[name], data_root, scale)
        for name in chosen
    ]
    found = [one for one in looked_up if isinstance(one, BenchmarkSet)]
    return found, [one for one in looked_up if isinstance(one, Absent)]


def _chosen(choice: str, domains: dict[str, str]) -> list[str]:
    """The names that a choice stands for, each once, out of name -> domain."""
    if choice == "own":
        return [name for name in domains if name not in PUBLIC]
    if choice in CHOICES:
        return [name for name, domain in domains.items() if choice in (domain, "all") and name not in FURTHER_SETS]
    names = list(dict.fromkeys(name.strip() for name in choice.split(",")))
    unknown = [name for name in names if name not in domains]
    if unknown:
        raise ValueError(
            f"no test set {unknown}: choose 'in-domain', 'ood', 'all', or comma-separated names from {list(domains)}, "
            f"or from the sets of questions: {list(QUESTION_SETS)}."
        )
    return names


def _public_on_disk(benchmark: Benchmark, data_root: str | Path | None, scale: str | None) -> BenchmarkSet | Absent:
    def absent(reason: str) -> Absent:
        return Absent(benchmark.name, benchmark.title, benchmark.domain, f"{reason}; get it from {benchmark.source}")

    if data_root is None:
        return absent("no data root was given")
    folder = Path(data_root) / benchmark.name
    labels = [file for suffix in READERS if (file := folder / f"labels{suffix}").is_file()]
    if len(labels) > 1:
        raise ValueError(f"{folder} holds {[file.name for file in labels]}: keep one label file, rename the others.")
    if not labels:
        return absent(f"{folder} holds no label file labels{{{','.join(READERS)}}}")
    if not (folder / "videos").is_dir():
        return absent(f"{folder} holds no videos folder")
    if benchmark.native_scale == UNKNOWN and scale is None:
        raise ValueError(
            f"{benchmark.title}: the scale of its labels ({benchmark.labels}) is not known here, nor whether more is "
            f"better. Look it up ({benchmark.source}) and name it: mos_scale (--mos-scale) {NAMES}."
        )
    return BenchmarkSet(
        benchmark.name,
        benchmark.title,
        benchmark.domain if benchmark.domain in DOMAINS else "",
        labels[0],
        folder / "videos",
        benchmark.num_videos,
        benchmark.published,
        source_pattern=benchmark.source_pattern,
        mos_scale=scale,
        num_sources=benchmark.num_sources,
    )


def _own_on_disk(own: BenchmarkSet) -> BenchmarkSet | Absent:
    if not own.labels.is_file():
        return Absent(own.name, own.title, own.domain, f"label file {own.labels} does not exist")
    if not own.videos.is_dir():
        return Absent(own.name, own.title, own.domain, f"video folder {own.videos} does not exist")
    return own


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_scale(value: Any) -> bool:
    try:
        return mos_scale(value) is not None
    except (AttributeError, ValueError):  # a number has no name
        return False


REQUIRED = ("name", "labels", "videos")
OWN_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_name, "up to 100 of A-Z, a-z, 0-9, '_', '-' and '.', the first a letter or digit"),
    "labels": (_is_text, "the path of a label file"),
    "videos": (_is_text, "the path of a folder"),
    "domain": (lambda value: value in DOMAINS, f"one of {list(DOMAINS)}"),
    "title": (_is_text, "a text"),
    "num_videos": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
    "video_column": (_is_text, "the name of a CSV column"),
    "mos_column": (_is_text, "the name of a CSV column"),
    "source_column": (_is_text, "the name of a CSV column"),
    "synthetic": (lambda value: isinstance(value, bool), "true or false"),
    "mos_scale": (_is_scale, f"{NAMES}, with LO < HI"),
    "split": (lambda value: value in SPLITS, f"one of {list(SPLITS)}"),
}
"""Key of an own set -> check of its value, and the rule in words."""


def _read_own(path: Path) -> dict[str, BenchmarkSet]:
    """Own sets by name, from a YAML file as `find_benchmarks` describes it."""
    if not path.is_file():
        raise ValueError(f"list of test sets {str(path)!r} does not exist.")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({error}).") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: must be a list of test sets, each with {list(REQUIRED)}; found {entries!r:.80}.")
    sets: dict[str, BenchmarkSet] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"{path}: entry {number} of {len(entries)}"
        own = _own_set(entry, path.parent, place)
        if own.name in sets:
            raise ValueError(f"{place}: name {own.name!r} is taken by an earlier entry; rename one of them.")
        sets[own.name] = own
    return sets


def _own_set(entry: Any, folder: Path, place: str) -> BenchmarkSet:
    if not isinstance(entry, dict):
        raise ValueError(f"{place}: {entry!r:.80} must be a mapping with {list(REQUIRED)}.")
    missing = [key for key in REQUIRED if key not in entry]
    unknown = [key for key in entry if key not in OWN_KEYS]
    if missing or unknown:
        raise ValueError(
            f"{place}: missing keys {missing}, unknown keys {unknown}; {list(REQUIRED)} are required, "
            f"{[key for key in OWN_KEYS if key not in REQUIRED]} optional."
        )
    for key, value in entry.items():
        fits, rule = OWN_KEYS[key]
        if not fits(value):
            raise ValueError(f"{place}: {key} is {value!r}; it must be {rule}.")
    if entry["name"] in PUBLIC or entry["name"] in CHOICES:
        raise ValueError(
            f"{place}: name {entry['name']!r} belongs to a public set or a group of sets; choose another name, or put "
            "the public set below the data root."
        )
    paths = {"labels": folder / entry["labels"], "videos": folder / entry["videos"]}
    told = {"title": entry["name"], "domain": "ood", "split": split_of(entry["name"], Path(entry["labels"]).stem)}
    return BenchmarkSet(**told | entry | paths)
