"""What is known of public sets of questions: where they come from, and what was published on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker.data import finevd, qbench
from vqathinker.data.question_files import READERS


@dataclass(frozen=True)
class QuestionSet:
    """What is known of a public set of questions.

    Attributes:
        name: Short name, safe as a file name.
        title: As papers write it.
        domain: What its clips are.
        size: How many questions and clips, as far as it is known.
        form: Its file, as published.
        tables: Names of files that hold it together, and are taken under these names.
        labels: What stands in its rows.
        sources: Whether clips share a source.
        source: Where to get it.
        licence: A note, no legal advice.
    """

    name: str
    title: str
    domain: str
    size: str
    form: str
    labels: str
    sources: str
    source: str
    licence: str
    tables: tuple[str, ...] = ()


_QBENCH: dict[str, Any] = {
    "domain": "natural, AI-generated and computer-graphics clips",
    "labels": "options and letter, or a reference; type, concern, context",
    "sources": "a clip has one or several questions",
    "source": "https://huggingface.co/datasets/zhangzicheng/Q-Bench-Video",
    "licence": "not known here: see the set's page; its clips come from other sets",
}
_FINEVD: dict[str, Any] = {
    "domain": "user-generated clips",
    "sources": "a clip has up to seven questions in the three files",
    "source": "https://huggingface.co/datasets/IntMeGroup/FineVD; its questions are in https://github.com/IntMeGroup/FineVQ",
    "licence": "not known here: see the set's page",
}
QUESTION_SETS = {
    one.name: one
    for one in (
        QuestionSet(
            name="q_bench_video_dev",
            title="Q-Bench-Video, dev",
            size="907 about one clip, and pairs; 2,378 questions about 1,800 clips in both parts",
            form="Q_Bench_Video_dev.json, or VLMEvalKit's qbenchvideo_single_MCQ.tsv and qbenchvideo_single_VQA.tsv",
            tables=("qbenchvideo_single_MCQ.tsv", "qbenchvideo_single_VQA.tsv"),
            **_QBENCH,
        ),
        QuestionSet(
            name="q_bench_video_test",
            title="Q-Bench-Video, test",
            size="907 about one clip, and pairs",
            form="Q_Bench_Video_test.json",
            **_QBENCH,
        ),
        QuestionSet(
            name="finevd_presence",
            title="FineVD, presence of faults",
            size="5,080 (five dimensions of 1,016 clips)",
            form="yesno_test.jsonl, or one file per dimension",
            labels="Yes or No",
            **_FINEVD,
        ),
        QuestionSet(
            name="finevd_dominating",
            title="FineVD, dominating dimension",
            size="one per clip: which of four hurts most, or none",
            form="abcd2_test.jsonl",
            labels="four options in the question, and a letter",
            **_FINEVD,
        ),
        QuestionSet(
            name="finevd_fault",
            title="FineVD, fault names",
            size="one per clip: which of four or five faults, or none; 27 names",
            form="abcd_test_en.jsonl",
            labels="options in the question, and a letter",
            **_FINEVD,
        ),
    )
}
"""Name -> set. A set is found below the data root as `NAME/questions.jsonl` (or `.json`, `.tsv`) and `NAME/videos/`."""


def find_questions(name: str, data_root: str | Path | None) -> tuple[list[Path], Path]:
    """The question files and the folder of clips of a public set on disk.

    Args:
        name: One of `QUESTION_SETS`.
        data_root: Holds `NAME/questions.jsonl` (or `.json`, `.tsv`), or all of the set's `tables` under their own
            names, and `NAME/videos/`.

    Raises:
        ValueError: If they are not there, or there are several question files; it says where the set comes from.
    """
    known = QUESTION_SETS[name]
    tables = f", or {' and '.join(known.tables)} under these names" if known.tables else ""
    fix = f"Put {known.form} there as questions.jsonl (or .json, .tsv){tables}; get it from {known.source}"
    if data_root is None:
        raise ValueError(f"{known.title}: no data root was given. Name the folder that holds {name}/. {fix}")
    folder = Path(data_root) / name
    files = [file for suffix in READERS if (file := folder / f"questions{suffix}").is_file()]
    parts = [file for table in known.tables if (file := folder / table).is_file()]
    is_whole = len(files) == 1 if not parts else not files and len(parts) == len(known.tables)
    if not is_whole:
        raise ValueError(
            f"{known.title}: {folder} holds {[file.name for file in files + parts]}, not one question file. {fix}"
        )
    if not (folder / "videos").is_dir():
        raise ValueError(f"{known.title}: {folder} holds no folder videos with its clips. {fix}")
    return files or parts, folder / "videos"


@dataclass(frozen=True)
class Published:
    """Published values of one set, in percent.

    Attributes:
        set: Tag `set` of its questions.
        title: Of the table.
        columns: Their names.
        rows: Who -> a value for each column, `None` where there is none.
        note: What has to be known of them.
        constant: Who of the rows is a constant answer, if any.
    """

    set: str
    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    note: str = ""
    constant: str = ""


FINEVD_PRESENCE = Published(
    finevd.SET,
    "FineVD, presence of faults: accuracy in percent",
    (*finevd.DIMENSIONS, "all"),
    {
        "constant answer, published test file": (73.52, 72.74, 56.10, 64.67, 86.91, 70.79),
        "InternVL3": (64.63, 62.18, 52.49, 52.98, 68.01, 60.06),
        "Qwen2.5-VL": (68.49, 48.74, 47.51, 52.08, 56.25, 54.61),
        "FineVQ": (73.52, 72.74, 51.87, 64.76, 65.06, 65.59),
        "Q-Insight": (63.99, 52.52, 48.21, 64.58, 68.01, 59.46),
        "VisualQuality-R1": (65.27, 55.46, 48.17, 65.77, 63.24, 59.58),
        "VQAThinker": (82.64, 70.17, 55.15, 70.83, 83.46, 72.45),
    },
    "Published rows are those of VQAThinker's paper. Its own, InternVL3's and Qwen2.5-VL's values are no multiples of "
    "1/1,016, so that their clips or their judging must differ. All: plain mean of the five.",
    "constant answer, published test file",
)
QBENCH_TYPES = Published(
    qbench.SET,
    "Q-Bench-Video: accuracy in percent",
    ("yes/no", "what/how", "open", "technical", "temporal", "other", "all"),
    {
        "test, LLaVA-OneVision (base of VQA²)": (52.86, 53.31, 34.65, 46.68, 46.77, 50.13, 46.61),
        "test, GPT-4o": (58.91, 57.80, 43.97, 53.24, 50.79, 56.92, 53.32),
        "test, InternVL-Chat": (65.77, 55.33, 34.43, 47.04, 50.34, 57.75, 51.43),
        "test, VQA²-Assistant": (67.79, 61.86, 41.82, 56.73, 57.41, 51.34, 56.78),
        "dev, LLaVA-OneVision (base of VQA²)": (55.78, 45.43, 31.48, 45.25, 50.73, 44.69, 44.62),
        "dev, GPT-4o": (66.01, 52.56, 42.78, 52.21, 62.59, 50.28, 54.07),
        "dev, VQA²-Assistant": (75.42, 56.93, 37.78, 61.04, 60.36, 46.87, 56.50),
    },
    "Published rows are those of VQA²'s paper, on questions about one clip; the part (dev, test) is named.",
)
QBENCH_CONTEXT = Published(
    qbench.SET,
    "Q-Bench-Video, dev, with options, by context: accuracy in percent",
    ("global", "referring", "all"),
    {
        "InternVL3": (50.87, 50.75, 50.80),
        "Qwen2.5-VL": (55.71, 53.75, 54.66),
        "Gemini 1.5 Pro": (51.98, 60.80, 56.35),
        "GPT-4o": (57.98, 54.39, 56.17),
        "Q-Insight": (55.71, 53.45, 54.50),
        "VisualQuality-R1": (57.09, 54.35, 55.63),
        "VQA²-Assistant": (61.59, 57.36, 59.32),
        "VQAThinker": (58.82, 56.46, 57.56),
    },
    "Published rows are those of VQAThinker's paper, on questions about one clip of the dev part. VQA²'s own numbers "
    "give its Assistant 65.7 on the same kind of questions: settings matter.",
)
