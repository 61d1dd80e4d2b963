"""What is asked about clips, and how answers are read, rewarded and measured. One file for each kind of question."""

from vqathinker.tasks.choice import Choice, rotated
from vqathinker.tasks.compare import Compare, accuracy_by_difference
from vqathinker.tasks.level import Level
from vqathinker.tasks.open_answer import Open
from vqathinker.tasks.places import PLACED, Count, When, Where
from vqathinker.tasks.registry import TASKS, find_task
from vqathinker.tasks.rows import by_task, mixture, sample_dataset, task_of
from vqathinker.tasks.score import Score
from vqathinker.tasks.task import Answer, Task

__all__ = [
    "PLACED",
    "TASKS",
    "Answer",
    "Choice",
    "Compare",
    "Count",
    "Level",
    "Open",
    "Score",
    "Task",
    "When",
    "Where",
    "accuracy_by_difference",
    "by_task",
    "find_task",
    "mixture",
    "rotated",
    "sample_dataset",
    "task_of",
]
