"""Right answers in numbers: when (an interval), where (a box), how often (a count)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqathinker.rewards.answer_places import values_in
from vqathinker.rewards.places import check_box, check_count, check_interval

FORMS = {
    "when": ("interval", 'start and end in seconds, like "1.2-2.4" or [1.2, 2.4]'),
    "where": ("box", 'left, top, right and bottom in percent of width and height, like "10, 20, 60, 80" or a list'),
    "count": ("count", "a whole number from 0 on, like 3"),
}
"""Task -> the form of its answers, and how they are written."""


def task_named(record: Mapping[str, Any]) -> str | None:
    """What a row's key `task` says; `None` for a row without it, whose task follows from its other keys.

    Raises:
        ValueError: If it is none of `FORMS`.
    """
    task = record.get("task")
    if task is not None and task not in FORMS:
        raise ValueError(
            f"task {task!r:.80} must be one of {list(FORMS)}; questions with options and rows with 'mos' need no task."
        )
    return task


def placed_target(record: Mapping[str, Any], task: str, question: str) -> dict[str, Any]:
    """The target of a row whose task is one of `FORMS`: `answer_interval`, `answer_box` or `answer_count`.

    Args:
        record: The row.
        task: Its task.
        question: As asked.

    Raises:
        ValueError: If the question or the answer is missing, or does not fit; if the row has options or `mos`.
    """
    form, written = FORMS[task]
    if others := [key for key in ("options", "mos", "ordered") if key in record]:
        raise ValueError(f"the row has the task {task!r} and {others}: its answer is {written}. Remove {others}.")
    if not question:
        raise ValueError(f"the row has the task {task!r} and no question: write what is asked.")
    if "answer" not in record:
        raise ValueError(f"the row has no 'answer': give {written}.")
    answer = record["answer"]
    if isinstance(answer, str):
        found = values_in(answer, form)
        if not found.values:
            raise ValueError(f"answer {answer!r:.80} of the task {task!r} must be {written} ({found.status}).")
        answer = found.values[0] if form == "count" else found.values
    check = {"interval": check_interval, "box": check_box, "count": check_count}[form]
    try:
        values = check(answer)
    except ValueError as error:
        raise ValueError(f"answer {answer!r:.80} of the task {task!r} must be {written}: {error}") from None
    return {f"answer_{form}": values[0] if form == "count" else list(values)}
