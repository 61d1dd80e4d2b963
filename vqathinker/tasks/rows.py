"""Samples as rows of a data set, and mixtures of several files and tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.tasks.registry import find_task
from vqathinker.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


def sample_dataset(samples: Sequence[Sample], processor: VQAThinkerProcessor) -> Dataset:
    """A light dataset: prompts and labels only. `ClipLoader` decodes the clips of a batch when it is drawn.

    Args:
        samples: Of any tasks.
        processor: The policy's.

    Returns:
        Columns `prompt` (conversational), `task`, `sample_id`, and those of the samples' tasks (`mos`; `question`,
        `options`, `answer`; label columns), `None` where a task has no such column.

    Raises:
        ValueError: If there are no samples, or a task is unknown.
    """
    from datasets import Dataset  # of the extra `train`; all else here works without

    if not samples:
        raise ValueError("samples is empty: there is nothing to train on.")
    rows = []
    for sample in samples:
        task = find_task(sample.task)
        own = {"prompt": task.messages(sample, processor), "task": task.name, "sample_id": sample.id}
        rows.append(task.columns(sample) | own)
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def mixture(parts: Sequence[tuple[Sequence[Sample], float]], seed: int) -> list[Sample]:
    """Samples of several files or tasks, each as often as its weight says.

    Args:
        parts: Samples and their weight each, > 0: how often each of them comes in an epoch. Of a weight with decimals
            the rest is a random share: 1.5 is all of them once and half of them once more.
        seed: Of these shares.

    Returns:
        What one epoch goes through; trainers shuffle it.

    Raises:
        ValueError: If a weight is not above 0, or one sample id names two samples.
    """
    rng = np.random.default_rng(seed)
    mixed: list[Sample] = []
    known: dict[str, Sample] = {}
    for samples, weight in parts:
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"weight {weight}: must be a number above 0; to skip a file, leave it out.")
        for sample in samples:
            if (first := known.setdefault(sample.id, sample)) != sample:
                raise ValueError(
                    f"sample {sample.id!r} is in two files, about {first.clips} and {sample.clips}: answers are "
                    "grouped by id. Rename one, e.g. put the name of its set in front."
                )
        whole, rest = divmod(weight, 1)
        chosen = rng.permutation(len(samples))[: round(rest * len(samples))]
        mixed += [*(list(samples) * int(whole)), *(samples[i] for i in sorted(chosen))]
    return mixed


def task_of(row: Mapping[str, Any]) -> Task:
    """The task of a row; one that names none is `score`.

    Raises:
        ValueError: If it is unknown.
    """
    return find_task(row.get("task") or "score")


def by_task(rows: Sequence[Mapping[str, Any]]) -> dict[Task, list[int]]:
    """Places of each task's rows, tasks in the order of the registry."""
    places: dict[Task, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(task_of(row), []).append(place)
    return places
