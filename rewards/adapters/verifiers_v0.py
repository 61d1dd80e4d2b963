"""verifiers 0.1 pays one answer at a time, by a rubric that an environment is made with.

    rubric = rewards.adapters.verifiers_v0.rubric()

Paid is the preset `recommended` without what needs more than one answer; `rubric("format,regression=0.5")` chooses
others. Labels are in the data set's column `info`, `{"mos": 3.4, ...}`, or a MOS in its column `answer` where a row has
no `info`.

Do not give `rewards.Regression()` and its like to `vf.Rubric(funcs=[...])`: verifiers 0.1 takes what has a parameter
`completions` for a reward of a group, has no columns for it, and pays 0.0 for every exception, in one line of a log.
What `rubric` gives ends the run instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import verifiers as vf

from vqathinker.rewards import Rubric, text_of
from vqathinker.rewards.adapters.core import label, pointwise, score
from vqathinker.rewards.adapters.errors import stopping


def rubric(rewards: Rubric | str = "recommended") -> vf.Rubric:
    """A rubric of verifiers, with one function and its weight for each reward.

    Args:
        rewards: See `vqathinker.rewards.adapters.core.pointwise`.

    Raises:
        ValueError: If one of them needs more than one answer, see `pointwise`.
    """
    payable = pointwise(rewards)
    return vf.Rubric(funcs=[_function(payable, name) for name in payable.names], weights=list(payable.weights))


def _function(payable: Rubric, name: str) -> Callable[..., float]:
    """What verifiers calls for one answer; no parameter has a name by which it would take it for a group's."""

    @stopping
    def pay(completion: Any, info: Any = None, answer: Any = None, **columns: Any) -> float:
        text = text_of(completion) if completion else ""  # none where sampling failed
        return score([text], [label(info or answer)], payable)[0][name]

    pay.__name__ = name
    return pay
