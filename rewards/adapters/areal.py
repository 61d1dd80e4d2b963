"""AReaL 1 pays one answer at a time, by a function that it can send to other processes.

    reward_fn="rewards.adapters.areal.reward_fn"

Paid is the preset `recommended` without what needs more than one answer; this module's
`reward_function("format,linear=0.5")` makes a function of others. They get the columns of the data set (`mos`, ...).
A label that is missing ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vqathinker.rewards import Rubric
from vqathinker.rewards.adapters.core import pointwise, score
from vqathinker.rewards.adapters.errors import stopping


def reward_function(rewards: Rubric | str = "recommended") -> Callable[..., float]:
    """A `reward_fn` of some rewards.

    Args:
        rewards: See `vqathinker.rewards.adapters.core.pointwise`.

    Raises:
        ValueError: If one of them needs more than one answer, see `pointwise`.
    """
    return partial(_pay, pointwise(rewards))


@stopping
def _pay(
    rubric: Rubric, prompt: Any, completions: str, prompt_ids: Any = None, completion_ids: Any = None, **row: Any
) -> float:
    """The weighted sum of one answer, which AReaL calls `completions`."""
    return score([completions], [row], rubric)[0]["score"]


def reward_fn(prompt: Any, completions: str, prompt_ids: Any = None, completion_ids: Any = None, **row: Any) -> float:
    """What one answer earns of the preset `recommended`, as a function that AReaL finds by its name.

    Args:
        prompt: Not needed, as both lists of ids.
        completions: One answer; end-of-turn tokens at its end do not count.
        prompt_ids: Not needed.
        completion_ids: Not needed.
        row: The columns of the data set.
    """
    return _pay(pointwise(), prompt, completions, prompt_ids, completion_ids, **row)


pointwise()  # says now, once, what of the preset is left out
