"""What the recipes train and validate on: labelled clips, questions, ladders, each as often as its weight says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any

from vqathinker.data import (
    Sample,
    level_samples,
    mos_scale,
    pairs_of,
    read_labels,
    read_ladders,
    read_questions,
    score_samples,
)
from vqathinker.data.pairs import TAU
from vqathinker.data.scales import NAMES
from vqathinker.policy import VQAThinkerProcessor, load_processor
from vqathinker.rewards import LEVEL_WORDS, Contrast, Distortion, Rubric, Severity
from vqathinker.rewards.distortion import KINDS
from vqathinker.tasks import find_task, mixture

ASKED = ("score", "level", "both")
"""What can be asked of labelled clips."""


@dataclass(kw_only=True)
class DataArguments:
    """Files of labels and questions, and what the console shows."""

    train_labels: str | None = field(
        default=None,
        metadata={"help": "Label file: .jsonl, .json, .txt or .csv; leave it out to train on questions only."},
    )
    labels_weight: float = field(default=1.0, metadata={"help": "How often each labelled clip appears in an epoch."})
    ask: str = field(
        default="score",
        metadata={"help": "What is asked of labelled clips: 'score', a number; 'level', one of five words; or 'both'."},
    )
    level_words: str = field(
        default="itu",
        metadata={"help": "Of ask: 'itu': excellent, good, fair, poor, bad; 'vqa2': high, good, fair, poor, low."},
    )
    questions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Question files (.jsonl), FILE or FILE=WEIGHT each: WEIGHT is how often each question appears in "
            "an epoch, by default once."
        },
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder that the files' video names are relative to; ladders need none."}
    )
    mos_scale: str | None = field(default=None, metadata={"help": f"Scale of the labels: {NAMES}."})
    video_column: str = field(default="video", metadata={"help": "CSV column of the video name."})
    mos_column: str = field(default="mos", metadata={"help": "CSV column of the label."})
    pairs: float = field(
        default=0.0,
        metadata={
            "help": "Pairs in an epoch for each labelled clip; 0: none. Each is asked in both orders: 0.5 makes as "
            "many comparisons as clips."
        },
    )
    pairs_tau: float = field(
        default=TAU,
        metadata={
            "help": "Difference of two MOS, in score units, from which on one clip is called better, where labels have "
            "no column sd or std."
        },
    )
    pairs_min_rank: float = field(
        default=0.0,
        metadata={"help": "Smallest difference of rank (CRF) between rungs of a ladder that counts as their order."},
    )
    max_minutes: float | None = field(
        default=None, metadata={"help": "Stop training after this many minutes; default no limit."}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Replace the run that output_dir holds, and delete its checkpoints; else that is an error."},
    )
    verbose: bool = field(
        default=False, metadata={"help": "Show the output of other libraries: progress bars, notes, vLLM's log."}
    )

    def __post_init__(self) -> None:
        if not self._files():
            raise ValueError(
                "neither train_labels nor questions: give a label file, question files, or both (for GRPO ladders too)."
            )
        named = ("train_labels", "questions", "val_labels", "val_questions")
        if self.video_root is None and (given := [name for name in named if getattr(self, name, None)]):
            raise ValueError(
                f"{', '.join(given)} without video_root: give the folder that video names are relative to."
            )
        if self.train_labels and not self.mos_scale:
            raise ValueError(f"train_labels={self.train_labels!r} without mos_scale: give {NAMES}.")
        self._check_levels()
        self._check_pairs()
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes={self.max_minutes}: must be above 0; leave it out for no limit.")

    def _check_levels(self) -> None:
        """Raise `ValueError` if level words cannot be asked for as they are."""
        if self.ask not in ASKED or self.level_words not in LEVEL_WORDS:
            raise ValueError(
                f"ask={self.ask!r}, level_words={self.level_words!r}: ask must be one of {[*ASKED]}, level_words one "
                f"of {[*LEVEL_WORDS]}."
            )
        if self.ask == "score" and self.level_words != "itu":
            raise ValueError(
                f"level_words={self.level_words!r} with ask='score': no word is asked for. Set ask: level."
            )
        if self.ask != "score" and not self.train_labels:
            raise ValueError(f"ask={self.ask!r} without train_labels: it is about labelled clips. Leave it out.")
        if self.ask != "score" and self.mos_scale == "div20":
            raise ValueError(
                f"ask={self.ask!r} with mos_scale='div20': levels share out the scores 1 to 5, and MOS / 20 begins at "
                "0. Set mos_scale: linear:0,100."
            )
        if self.ask == "level" and (self.pairs or getattr(self, "val_pairs", 0)):
            raise ValueError("ask='level' with pairs: pairs are trained on beside scores. Set ask: both.")

    def _check_pairs(self) -> None:
        """Raise `ValueError` if pairs cannot be made as they are asked for."""
        sources = "train_labels or ladders" if hasattr(self, "ladders") else "train_labels"
        if self.pairs and not self._scored_files():
            raise ValueError(
                f"pairs={self.pairs} without {sources}: pairs are made of clips to be scored, and trained on beside "
                "their scores only. Alone they reached SRCC 0.667 where both together reached 0.851 (CP-LLM, Table 4). "
                f"Give {sources}, or leave pairs out."
            )
        for name in ("pairs", "pairs_tau", "pairs_min_rank"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0 and (value or name != "pairs_tau")):
                least = "above" if name == "pairs_tau" else "at least"
                raise ValueError(f"{name}={value}: must be a finite number {least} 0.")
        known = {"pairs_tau": TAU, "pairs_min_rank": 0.0}
        given = {name: value for name, default in known.items() if (value := getattr(self, name)) != default}
        if given and not (self.pairs or getattr(self, "val_pairs", 0)):
            raise ValueError(f"{given} without pairs: there are none. Set pairs, or leave these out.")

    def labelled(self, file: str | None) -> list[Sample]:
        """The samples of a label file; none of no file."""
        if not file:
            return []
        if not self.mos_scale:
            raise ValueError(f"labels {file!r} without mos_scale: give {NAMES}.")
        columns = {"video_column": self.video_column, "mos_column": self.mos_column}
        rows = read_labels(file, self.video_root or "", self.mos_scale, **columns)
        found = score_samples(rows) if self.ask != "level" else []
        if self.ask != "score":
            found += level_samples(rows, self.level_words, mos_scale(self.mos_scale).factor)
        return found

    def training(self, seed: int) -> list[Sample]:
        """What one epoch goes through, see `vqathinker.tasks.mixture`.

        Raises:
            ValueError: If a question for a score is given, and nothing asks for one.
        """
        parts = list(self._parts().values())
        if self.pairs:
            parts.append((self.paired([sample for samples, _ in parts for sample in samples], self.pairs, seed), 1.0))
        mixed = mixture(parts, seed)
        self._check_question(mixed)
        return mixed

    def _check_question(self, samples: Sequence[Sample]) -> None:
        """Raise `ValueError` if `question` is given, and neither `samples` nor a validation asks for a score."""
        question = getattr(self, "question", None)
        if not question or any(sample.task == "score" for sample in samples):
            return
        held_out = self.labelled(getattr(self, "val_labels", None))
        if file := getattr(self, "val_questions", None):
            held_out += read_questions(file, self.video_root or "")
        if not any(sample.task == "score" for sample in held_out):
            raise ValueError(
                f"question={question!r} with ask={self.ask!r}: it is the question for a score, and no sample asks for "
                "one. Leave it out, or give labels with ask: score or both."
            )

    def paired(self, samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
        """Pairs of those samples that are clips to be scored, see `vqathinker.data.pairs_of`.

        Args:
            samples: Of any tasks.
            share: Pairs for each clip.
            seed: Of the draw.
        """
        scored = [sample for sample in samples if sample.task == "score"]
        factor = mos_scale(self.mos_scale).factor if self.mos_scale else 1.0
        count = max(1, round(share * len(scored)))
        return pairs_of(scored, count, seed, self.pairs_tau, self.pairs_min_rank, factor)

    def _scored_files(self) -> list[str]:
        """Files of clips to be scored."""
        return [self.train_labels] if self.train_labels else []

    def _files(self) -> list[str]:
        """What there is to train on."""
        return [*([self.train_labels] if self.train_labels else []), *self.questions]

    def _parts(self) -> dict[str, tuple[list[Sample], float]]:
        """Samples and weight of each file."""
        parts = {}
        if self.train_labels:
            parts[self.train_labels] = self.labelled(self.train_labels), self.labels_weight
        for entry in self.questions:
            file, weight = _weighed("questions", entry)
            parts[entry] = read_questions(file, self.video_root or ""), weight
        return parts


@dataclass(kw_only=True)
class LadderArguments(DataArguments):
    """Files of labels, questions and ladders. A warm start has no use for the latter: it needs answers to learn."""

    ladders: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Ladder tables (.csv), FILE or FILE=WEIGHT: encodes with an order. It is known which one is worse, "
            "but no MOS; videos are relative to the table."
        },
    )

    def _files(self) -> list[str]:
        return super()._files() + self.ladders

    def _scored_files(self) -> list[str]:
        return super()._scored_files() + self.ladders

    def _parts(self) -> dict[str, tuple[list[Sample], float]]:
        parts = super()._parts()
        for entry in self.ladders:
            file, weight = _weighed("ladders", entry)
            parts[entry] = read_ladders(file), weight
        _check_ladders({entry: samples for entry, (samples, _) in parts.items()})
        return parts


@dataclass(kw_only=True)
class LookArguments:
    """What the policy is shown and asked, as in scoring; default what it was trained with. Checkpoints keep it."""

    frames: int | None = field(default=None, metadata={"help": "Key frames per clip (paper: 6)."})
    image_size: int | None = field(default=None, metadata={"help": "Side of the key frames in pixels (paper: 448)."})
    view: str | None = field(
        default=None, metadata={"help": "'resize': whole frames; 'center_crop': their central pixels as they are."}
    )
    question: str | None = field(default=None, metadata={"help": "Question that asks for a score."})
    sampling: str | None = field(
        default=None,
        metadata={"help": "Key frames evenly spaced by frame 'number' or in 'time'; default the policy's."},
    )

    def processor(self, model: str) -> VQAThinkerProcessor:
        """The policy's processor with these settings, see `load_processor`."""
        return load_processor(model, self.frames, self.image_size, self.sampling, self.view, self.question)


def _weighed(option: str, entry: str) -> tuple[str, float]:
    """`FILE=WEIGHT` or `FILE`."""
    file, equals, weight = entry.rpartition("=")
    if not equals or not file:
        return entry, 1.0
    try:
        return file, float(weight)
    except ValueError:
        raise ValueError(f"{option}: {entry!r} must be FILE or FILE=WEIGHT with a number, e.g. {file}=0.5.") from None


def _check_ladders(files: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse two files with ladders of one name: their rungs would be compared, whatever they show; and ranks of rungs
    beside somebody's own column of this name."""
    owners: dict[str, str] = {}
    for file, samples in files.items():
        if any("rank" in sample.target and "ladder" not in sample.target for sample in samples) and any(
            map(has_rungs, files.values())
        ):
            raise ValueError(
                f"{file} has a column rank, but no column ladder, beside ladders, whose rank is the order of their "
                "rungs: rename its column, or add the column ladder."
            )
        for ladder in dict.fromkeys(sample.target.get("ladder") for sample in samples):
            if ladder is not None and (owner := owners.setdefault(ladder, file)) != file:
                raise ValueError(
                    f"ladder {ladder!r} is in {owner} and in {file}: rungs of one ladder are compared, so its name "
                    "must stand for one source. Rename one of them; a label file with ladders is not given as a ladder "
                    "table too."
                )


def labelled_kinds(samples: Sequence[Sample]) -> list[str]:
    """Kinds of distortions that labelled clips name, sorted."""
    return sorted({kind for sample in samples if sample.task == "score" for kind in sample.distortions})


def distortion_reward(samples: Sequence[Sample]) -> Distortion:
    """A reward that knows the kinds that labelled clips name, beside the usual ones."""
    return Distortion(sorted({*labelled_kinds(samples), *KINDS}))


def has_rungs(samples: Sequence[Sample]) -> bool:
    """Whether some of the samples are rungs of ladders."""
    return any(sample.target.get("ladder") is not None for sample in samples)


def order_reward(min_difference: float) -> Contrast:
    """The reward for rungs in order, see `rewards.Contrast`."""
    return Contrast(perturbed=False, name="order", min_difference=min_difference)


def with_tasks(rubric: Rubric | None, samples: Sequence[Sample], weight: float | Mapping[str, float] = 1.0) -> Rubric:
    """A rubric for clips to be scored, and what else the samples' tasks pay for.

    Args:
        rubric: Of the task `score`; `None` where no sample is of it.
        samples: Of any tasks.
        weight: Of the rewards that are added; or task -> that of its rewards, 1 where it is not named.

    Raises:
        ValueError: If there is nothing to pay for, or two rewards have one name.
    """
    known = (
        {}
        if rubric is None
        else {name: (r, w) for name, r, w in zip(rubric.names, rubric.rewards, rubric.weights, strict=True)}
    )
    for task in sorted({sample.task for sample in samples} - {"score"}):
        own = find_task(task).rubric()
        added = weight.get(task, 1.0) if isinstance(weight, Mapping) else weight
        for name, reward in zip(own.names, own.rewards, strict=True):
            first, _ = known.setdefault(name, (reward, 1.0 if name == "format" else added))
            given = rubric is not None and name in rubric.names  # somebody's own goes before the tasks'
            if not given and _code(first) is not _code(reward):
                raise ValueError(
                    f"two tasks, {task!r} one of them, have different rewards named {name!r}, one of which would be "
                    "left out: give each its own `__name__`."
                )
    if any(sample.target.get("steps") for sample in samples):  # options of a scale: a near one is worth something
        nearness = weight.get("choice", 1.0) if isinstance(weight, Mapping) else weight
        known.setdefault("severity", (Severity(), nearness))
    return Rubric([reward for reward, _ in known.values()], [w for _, w in known.values()])


def _code(reward: Any) -> Any:
    """What tells rewards of one name apart: the function or, of an object, its class."""
    function = getattr(reward, "__func__", reward)
    return function if isfunction(function) else type(function)
