"""OpenRLHF 0.11 pays one answer at a time, by a file with a `reward_func`.

    --reward.remote_url {path} --data.label_key mos

Paid is the preset `recommended` without what needs more than one answer (`format` and `regression`). For other rewards
give a file of your own with two lines, `from vqathinker.rewards.adapters.openrlhf import reward_function` and
`reward_func = reward_function("format,regression=0.5")`.

The label column is a MOS, or JSON with all columns that the rewards need, `{"mos": 3.4, "kind": "blur"}`. A label that
is missing ends the run; OpenRLHF itself would log it as information and train on without a reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from vqathinker.rewards import Rubric
from vqathinker.rewards.adapters.core import pointwise, score
from vqathinker.rewards.adapters.errors import stopping

TAIL = 32
"""Characters of a prompt's end that are looked for in a text that does not begin with the prompt."""


def reward_function(rewards: Rubric | str = "recommended") -> Callable[..., dict[str, Any]]:
    """A `reward_func` of some rewards.

    Args:
        rewards: See `vqathinker.rewards.adapters.core.pointwise`.

    Raises:
        ValueError: If one of them needs more than one answer, see `pointwise`.
    """
    rubric = pointwise(rewards)

    @stopping
    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **columns: Any
    ) -> dict[str, Any]:
        """For the one answer that OpenRLHF gives: `rewards`, `scores` and, by name, `extra_logs`."""
        answers = [answer_of(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
        [row] = score(answers, labels, rubric)
        total = row.pop("score")
        return {"rewards": total, "scores": total, "extra_logs": row}

    return reward_func


def answer_of(query: str, prompt: str) -> str:
    """What follows the prompt in a text of prompt and answer.

    The text is decoded from tokens. With images it does not begin with the prompt, as each image stands there as many
    tokens, nor does one that was cut at its beginning: the prompt's last characters are looked for then.

    Raises:
        ValueError: If they are not there.
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    tail = prompt[-TAIL:]
    parts = query.split(tail, prompt.count(tail)) if tail else []
    if len(parts) <= prompt.count(tail):
        raise ValueError(
            f"the prompt's end {tail!r} is not in the text {query[-200:]!r}, so the answer cannot be told from the "
            "prompt: shorten the prompt, or raise --rollout.max_new_tokens and --data.max_len."
        )
    return parts[-1]


@lru_cache
def _recommended() -> Callable[..., dict[str, Any]]:
    return reward_function()


def __getattr__(name: str) -> Any:
    """`reward_func`, made when OpenRLHF looks it up, so that a file of one's own hears nothing of the preset."""
    if name == "reward_func":
        return _recommended()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
