"""verifiers 0.4 pays one answer at a time, by a function that the configuration of a task names.

    --env.taskset.task.rewards.vqa.fn rewards.adapters.verifiers:score

Paid is the preset `recommended` without what needs more than one answer. For others give a function of your own module,
`score = reward_function("format,regression=0.5")`. Labels are the fields of the task's data (`mos`, ...). For one that
is missing verifiers records the error on the trace, and no reward.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from vqathinker.rewards import Rubric
from vqathinker.rewards.adapters import core


def reward_function(rewards: Rubric | str = "recommended") -> Callable[..., Awaitable[dict[str, float]]]:
    """A reward of verifiers, made of some of ours.

    Args:
        rewards: See `vqathinker.rewards.adapters.core.pointwise`.

    Raises:
        ValueError: If one of them needs more than one answer, see `pointwise`.
    """
    rubric = core.pointwise(rewards)

    async def score(task: Any, trace: Any) -> dict[str, float]:
        """Each reward times its weight, by name; verifiers sums them."""
        row = core.score([trace.last_reply], [dict(task)], rubric)[0]
        return {name: weight * row[name] for name, weight in zip(rubric.names, rubric.weights, strict=True)}

    return score


@lru_cache
def _recommended() -> Callable[..., Awaitable[dict[str, float]]]:
    return reward_function()


def __getattr__(name: str) -> Any:
    """`score`, made when verifiers looks it up, so that a module of one's own hears nothing of the preset."""
    if name == "score":
        return _recommended()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
