"""What is asked about clips, and how answers are read, rewarded and measured. One file for each kind of question."""

from vqathinker.tasks.choice import Choice
from vqathinker.tasks.compare import Compare, accuracy_by_difference
from vqathinker.tasks.level import Level
from vqathinker.tasks.registry import TASKS, find_task
from vqathinker.tasks.rows import by_task, mixture, sample_dataset, task_of
from vqathinker.tasks.score import Score
from vqathinker.tasks.task import Answer, Task

__all__ = [
    "TASKS",
    "Answer",
    "Choice",
    "Compare",
    "Level",
    "Score",
    "Task",
    "accuracy_by_difference",
    "by_task",
    "find_task",
    "mixture",
    "sample_dataset",
    "task_of",
]
