"""Rewards of several tasks in one rubric."""

import pytest

from rewards import Format, Rubric
from vqathinker.data import Sample
from vqathinker.tasks import TASKS, Task
from vqathinker.training.samples import with_tasks


class Dark(Task):
    """Only its rewards are asked for."""

    name = "dark"
    gold = parse = truth = measure = None

    def right(self, completions, **columns):
        return [1.0] * len(completions)

    def rubric(self):
        return Rubric([Format(), self.right])


class Loud(Dark):
    name = "loud"


class Slow(Dark):
    name = "slow"

    def right(self, completions, **columns):
        return [0.0] * len(completions)


@pytest.fixture(autouse=True)
def tasks(monkeypatch):
    for task in (Dark(), Loud(), Slow()):
        monkeypatch.setitem(TASKS, task.name, task)


def samples(*tasks):
    return [Sample(task, task, ("a.mp4",)) for task in tasks]


def test_a_reward_that_tasks_share_is_there_once():
    rubric = with_tasks(None, samples("dark", "loud"), weight=0.5)
    assert (rubric.names, rubric.weights) == (["format", "right"], [1.0, 0.5])
    assert with_tasks(Rubric([Slow().right]), samples("dark")).names == ["right", "format"]  # as it was given


def test_different_rewards_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tasks, 'slow' one of them, have different rewards named 'right'"):
        with_tasks(None, samples("dark", "slow"))


def test_a_task_without_all_that_it_needs_cannot_be_made():
    class Half(Task):
        name = "half"

    with pytest.raises(TypeError, match=r"gold.*measure.*parse.*rubric.*truth"):
        Half()
