"""The public test sets of VQAThinker, and how they and the user's own are found on disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vqathinker.data.formats import READERS, LabelError
from vqathinker.data.labels import LabelRow, read_labels
from vqathinker.data.scales import NATIVE
from vqathinker.data.sources import Sources, sources_of

logger = logging.getLogger(__name__)

DOMAINS = ("in-domain", "ood")
CHOICES = (*DOMAINS, "all", "own")


@dataclass(frozen=True)
class Benchmark:
    """What is known of a public set.

    Attributes:
        name: Short name, safe as a file name.
        title: As papers write it.
        domain: "in-domain" (user-generated clips, as LSVQ, the training set) or "ood".
        num_videos: Clips that the published values are for.
        native_scale: Of the labels that VQAThinker was tested with.
        label_formats: As what labels circulate.
        source: Where to get it.
        licence: A note, no legal advice.
        published: (SRCC, PLCC) of VQAThinker-8B (Cao et al., 2025).
        source_pattern: Rule for its file names, see `sources_of`; "" where they do not tell from what a clip was made.
    """

    name: str
    title: str
    domain: str
    num_videos: int
    native_scale: str
    label_formats: tuple[str, ...]
    source: str
    licence: str
    published: tuple[float, float]
    source_pattern: str = ""


TEST_JSON = "VQAThinker test JSON"
DOVER_TXT = "DOVER / FAST-VQA txt"
LIVE_TERMS = "see the set's page; research use with attribution, on request"

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "lsvq_test",
            "LSVQ test",
            "in-domain",
            7182,
            "0-100",
            (
                TEST_JSON,
                DOVER_TXT,
                "Q-Align JSON",
                "VQA² JSON",
                "the set's CSV, its test rows, with the columns video and mos",
            ),
            "https://github.com/baidut/PatchVQ",
            "see the set's page; free use with attribution; the clips are from YFCC100M and the Internet Archive",
            (0.883, 0.880),
        ),
        Benchmark(
            "lsvq_1080p",
            "LSVQ 1080p",
            "in-domain",
            3573,
            "0-100",
            (TEST_JSON, DOVER_TXT, "Q-Align JSON", "the set's CSV, with the columns video and mos"),
            "https://github.com/baidut/PatchVQ",
            "see the set's page; free use with attribution; the clips are from YFCC100M and the Internet Archive",
            (0.798, 0.834),
        ),
        Benchmark(
            "konvid_1k",
            "KoNViD-1k",
            "in-domain",
            1200,
            "0-100 (1-5 in Q-Align's and the set's own files)",
            (TEST_JSON, DOVER_TXT, "Q-Align JSON"),
            "http://database.mmsp-kn.de/konvid-1k-database.html",
            "see the set's page; research use; the clips are from YFCC100M, each with a Creative Commons licence",
            (0.881, 0.884),
        ),
        Benchmark(
            "live_vqc",
            "LIVE-VQC",
            "in-domain",
            585,
            "0-100",
            (TEST_JSON, DOVER_TXT),
            "https://live.ece.utexas.edu/research/LIVEVQC/index.html",
            LIVE_TERMS,
            (0.808, 0.847),
        ),
        Benchmark(
            "youtube_ugc",
            "YouTube-UGC",
            "in-domain",
            1020,
            "1-5",
            (TEST_JSON, DOVER_TXT),
            "https://media.withyoutube.com",
            "see the set's page; Creative Commons clips; 1,020 of once 1,380 can still be had",
            (0.860, 0.863),
        ),
        Benchmark(
            "live_yt_gaming",
            "LIVE-YT-Gaming",
            "ood",
            600,
            "0-100",
            (TEST_JSON,),
            "https://live.ece.utexas.edu/research/LIVE-YT-Gaming/index.html",
            LIVE_TERMS,
            (0.767, 0.806),
        ),
        Benchmark(
            "cgvds",
            "CGVDS",
            "ood",
            357,
            "about 1.7-6.1",
            (TEST_JSON,),
            "https://github.com/stootaghaj/CGVDS",
            "none stated on the set's page: ask its authors",
            (0.856, 0.845),
            # GTA5_30_30_1280x720_30_4000_h264_nvenc.mp4: game, seconds (take, rate), size, rate, kbit/s, encoder
            r"(?:.*/)?(?P<source>[^/]+?)(?:_\d)?_30s?_(?:\w+_)?\d+x\d+_\d+_\d+_h264_nvenc(?:\.\w+)?",
        ),
        Benchmark(
            "live_yt_hfr",
            "LIVE-YT-HFR",
            "ood",
            480,
            "0-100",
            (TEST_JSON,),
            "https://live.ece.utexas.edu/research/LIVE_YT_HFR/LIVE_YT_HFR/index.html",
            LIVE_TERMS,
            (0.528, 0.610),
            # bobblehead_crf_28_60fps.webm: content, CRF, frame rate
            r"(?:.*/)?(?P<source>[^/]+?)_crf_\d+_\d+fps(?:\.\w+)?",
        ),
        Benchmark(
            "waterloo_ivc_4k",
            "Waterloo-IVC-4K",
            "ood",
            1200,
            "0-100",
            (TEST_JSON,),
            "https://ivc.uwaterloo.ca/database/4KVQA.html",
            "see the set's page; free use with attribution",
            (0.573, 0.624),
            # HEVC/01/960x540_2.mp4, or joined by "_": encoder, content, size, level
            r"(?:.*/)?(?:H264|HEVC|VP9|AVS2|AV1)[/_]0?(?P<source>\d+)[/_](?:\d+x\d+|\d+p)_\d(?:\.\w+)?",
        ),
        Benchmark(
            "vdpve",
            "VDPVE",
            "ood",
            839,
            "0-100",
            (TEST_JSON,),
            "https://github.com/YixuanGao98/VDPVE-VQA-Dataset-for-Perceptual-Video-Enhancement",
            "none stated on the set's page: ask its authors; the 839 clips are its training part",
            (0.706, 0.716),
            # A0023_07.mp4: the video A0023, enhanced by method 07
            r"(?:.*/)?(?P<source>[ABC]\d{4})_\d\d(?:\.\w+)?",
        ),
    )
}
"""Name -> public set, in the paper's order."""

PUBLISHED_OVERALL = {"in-domain": (0.855, 0.866), "ood": (0.661, 0.698)}
"""Domain -> (SRCC, PLCC) of VQAThinker-8B: means of the sets' values, weighted by their numbers of videos."""


@dataclass(frozen=True)
class BenchmarkSet:
    """A test set found on disk.

    Attributes:
        name: Short name, safe as a file name.
        title: For tables.
        domain: "in-domain" or "ood".
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

    def rows(self) -> list[LabelRow]:
        """Its clips, labels in native units. A number of them that differs from `num_videos` is warned of.

        Raises:
            LabelError: As `read_labels`, or if there is no such `source_column`.
        """
        rows = read_labels(self.labels, self.videos, NATIVE, self.video_column, self.mos_column)
        self._check_source_column(rows)
        if self.num_videos not in (None, len(rows)):
            logger.warning("%s: %s lists %d videos, not %d.", self.title, self.labels, len(rows), self.num_videos)
        return rows

    def _check_source_column(self, rows: Sequence[LabelRow]) -> None:
        columns = [self.video_column, *rows[0].extra]
        if self.source_column is None or self.source_column in columns:
            return
        is_csv = self.labels.suffix.lower() == ".csv"
        found = f"beside {self.mos_column!r} the header has {columns}" if is_csv else "only CSV files have columns"
        raise LabelError(
            f"{self.labels}: no column {self.source_column!r} to tell each clip's source; {found}. "
            "Set source_column to a column that does, or leave it out."
        )

    def sources(self, rows: Sequence[LabelRow]) -> Sources:
        """From what its clips were made, as far as anything tells; see `sources_of`."""
        if self.source_column == self.video_column:
            return Sources()
        return sources_of(rows, self.source_column, self.source_pattern)


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
    choice: str, data_root: str | Path | None = None, own: str | Path | None = None
) -> tuple[list[BenchmarkSet], list[Absent]]:
    """Find test sets on disk: public ones below `data_root`, and the user's own.

    Args:
        choice: "in-domain", "ood", "all", "own" (the sets of `own`), or names separated by commas.
        data_root: Holds `NAME/labels.json` (or `.jsonl`, `.txt`, `.csv`) and `NAME/videos/` of public sets.
        own: YAML list of own sets, paths relative to it: `name`, `labels`, `videos` and, if wanted, `domain` (default
            "ood"), `title`, `num_videos`, `video_column`, `mos_column`, `source_column`, `synthetic`.

    Returns:
        The chosen sets that are there, and those that are not; public ones first, each in order.

    Raises:
        ValueError: If `choice` has an unknown name, `data_root` is no folder, a set has several label files, or `own`
            does not fit; the message names file, entry, value, rule and fix.

    Example:
        >>> found, absent = find_benchmarks("cgvds,vdpve")
        >>> [missing.title for missing in absent]
        ['CGVDS', 'VDPVE']
    """
    if data_root is not None and not Path(data_root).is_dir():
        raise ValueError(f"data root {str(data_root)!r} is no folder: give the one that holds the sets' folders.")
    own_sets = {} if own is None else _read_own(Path(own))
    chosen = _chosen(choice, {name: known.domain for name, known in (BENCHMARKS | own_sets).items()})
    looked_up = [
        _own_on_disk(own_sets[name]) if name in own_sets else _public_on_disk(BENCHMARKS[name], data_root)
        for name in chosen
    ]
    found = [one for one in looked_up if isinstance(one, BenchmarkSet)]
    return found, [one for one in looked_up if isinstance(one, Absent)]


def _chosen(choice: str, domains: dict[str, str]) -> list[str]:
    """The names that a choice stands for, each once, out of name -> domain."""
    if choice == "own":
        return [name for name in domains if name not in BENCHMARKS]
    if choice in CHOICES:
        return [name for name, domain in domains.items() if choice in (domain, "all")]
    names = list(dict.fromkeys(name.strip() for name in choice.split(",")))
    unknown = [name for name in names if name not in domains]
    if unknown:
        raise ValueError(
            f"no test set {unknown}: choose 'in-domain', 'ood', 'all', or names out of {list(domains)}, "
            "separated by commas."
        )
    return names


def _public_on_disk(benchmark: Benchmark, data_root: str | Path | None) -> BenchmarkSet | Absent:
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
        return absent(f"{folder} holds no folder videos")
    return BenchmarkSet(
        benchmark.name,
        benchmark.title,
        benchmark.domain,
        labels[0],
        folder / "videos",
        benchmark.num_videos,
        benchmark.published,
        source_pattern=benchmark.source_pattern,
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
}
"""Key of an own set -> check of its value, and the rule in words."""


def _read_own(path: Path) -> dict[str, BenchmarkSet]:
    """Own sets by name, from a YAML file as `find_benchmarks` describes it."""
    if not path.is_file():
        raise ValueError(f"list of own test sets {str(path)!r} does not exist.")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no readable YAML ({error}).") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: must be a list of test sets, each with {list(REQUIRED)}; found {entries!r:.80}.")
    sets: dict[str, BenchmarkSet] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"{path}: entry {number} of {len(entries)}"
        own = _own_set(entry, path.parent, place)
        if own.name in sets:
            raise ValueError(f"{place}: name {own.name!r} is taken by an entry before it; rename one of them.")
        sets[own.name] = own
    return sets


def _own_set(entry: Any, folder: Path, place: str) -> BenchmarkSet:
    if not isinstance(entry, dict):
        raise ValueError(f"{place}: {entry!r:.80} must be a mapping with {list(REQUIRED)}.")
    missing = [key for key in REQUIRED if key not in entry]
    unknown = [key for key in entry if key not in OWN_KEYS]
    if missing or unknown:
        raise ValueError(
            f"{place}: missing keys {missing}, unknown keys {unknown}; {list(REQUIRED)} must be there, "
            f"{[key for key in OWN_KEYS if key not in REQUIRED]} may be."
        )
    for key, value in entry.items():
        fits, rule = OWN_KEYS[key]
        if not fits(value):
            raise ValueError(f"{place}: {key} is {value!r}; it must be {rule}.")
    if entry["name"] in BENCHMARKS or entry["name"] in CHOICES:
        raise ValueError(
            f"{place}: name {entry['name']!r} belongs to a public set or a group of sets; choose another one, or put "
            "a public set below the data root."
        )
    paths = {"labels": folder / entry["labels"], "videos": folder / entry["videos"]}
    return BenchmarkSet(**{"title": entry["name"], "domain": "ood"} | entry | paths)
