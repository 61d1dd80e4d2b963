"""What a trainer is given, checked before anything is spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from rewards import Rubric, preset


def weighted_rubric(rubric: Rubric | str | Sequence[Any], weights: Sequence[float] | None) -> Rubric:
    """A rubric with the configuration's weights; a ready one has its own, which they must not contradict."""
    ready = isinstance(rubric, Rubric)
    if not ready:
        rubric = preset(rubric) if isinstance(rubric, str) else Rubric(list(rubric))
    if weights is None:
        return rubric
    weighted = rubric.weighted(weights)
    if ready and weighted.weights != rubric.weights:
        own = dict(zip(rubric.names, rubric.weights, strict=True))
        raise ValueError(
            f"reward_weights={list(weights)}, but the rubric's weights are {own}: a Rubric comes with its own. Leave "
            "reward_weights out, or pass rubric.weighted(reward_weights)."
        )
    return weighted


def check_rows(dataset: Any, question: str) -> None:
    """Raise `ValueError` if a data set says something else than what training does with it.

    Its `prompt` must be the question that the policy is asked; and a `video_id` must name one clip with one label, as
    the answers of a batch are grouped by it.

    Args:
        dataset: A `datasets.Dataset`, see `vqathinker.data.clip_dataset`.
        question: The processor's.
    """
    columns = getattr(dataset, "column_names", None) or ()
    missing = {"prompt", "video", "video_id"} - set(columns)
    if missing or not isinstance(dataset, Dataset):
        raise ValueError(
            f"a {type(dataset).__name__} with columns {list(columns)}: a data set must be a datasets.Dataset "
            "with prompt, video and video_id, see vqathinker.data.clip_dataset."
        )
    other = [prompt for prompt in dataset["prompt"] if prompt != question]
    if other:
        raise ValueError(
            f"the prompt {other[0]!r} of {len(other)} of {len(dataset)} rows is not the question that the policy is "
            f"asked, {question!r}: it would be logged, and another one answered. Use clip_dataset(rows, "
            "processor.question), and set another question in the processor: it is saved with the policy."
        )
    labels = dataset["mos"] if "mos" in columns else [None] * len(dataset)
    known: dict[Any, tuple[Any, Any]] = {}
    for name, *row in zip(dataset["video_id"], dataset["video"], labels, strict=True):
        first = known.setdefault(name, tuple(row))
        if first != tuple(row):
            (video, mos), (other_video, its_mos) = first, row
            raise ValueError(
                f"video_id {name!r} names {video!r} with MOS {mos} and {other_video!r} with MOS {its_mos}: answers are "
                "grouped by video_id, which must name one clip with one label. Rename one, for example with its set's "
                "name in front, or drop a row."
            )


def evaluation_sets(datasets: Any) -> list[Any]:
    """The data sets in `eval_dataset`: none, one, several by name; not the name of one."""
    if datasets is None or isinstance(datasets, str):
        return []
    return list(datasets.values()) if isinstance(datasets, dict) else [datasets]
