"""All tasks by name."""

from __future__ import annotations

from vqathinker.tasks.choice import Choice
from vqathinker.tasks.compare import Compare
from vqathinker.tasks.level import Level
from vqathinker.tasks.score import Score
from vqathinker.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Score(), Choice(), Compare(), Level())}
"""Name -> task. Put one of your own here, under its `name`, before samples name it."""


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: If it is unknown, or a task of another name stands there.
    """
    if name not in TASKS:
        raise ValueError(
            f"task {name!r} is unknown: must be one of {sorted(TASKS)}; put your own task into vqathinker.tasks.TASKS "
            "first."
        )
    task = TASKS[name]
    if isinstance(task, type) or task.name != name:
        raise ValueError(
            f"TASKS[{name!r}] is {task!r}: it must be an instance of a Task whose name is {name!r}. Write "
            "TASKS[task.name] = task."
        )
    return task
