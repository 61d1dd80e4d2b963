"""EasyR1 pays all answers of a step at once.

    worker.reward.reward_function={path}:main

Paid is the preset `recommended` without its temporal reward, for which nothing here makes perturbed copies. The label
is what stands under the data set's `answer_key`; rewards that compare clips need JSON, `{"mos": 3.4, "video_id": "a"}`.
`worker.reward.reward_function_kwargs.rewards` chooses others: by name, as `format,rank=0.5`, or another preset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vqathinker.rewards.adapters.core import score, whole_batch

REWARD_NAME, REWARD_TYPE = "vqa", "batch"


def main(reward_inputs: Sequence[Mapping[str, Any]], rewards: str = "recommended") -> list[dict[str, float]]:
    """What each answer earns: `overall` and each reward by name.

    Args:
        reward_inputs: Of each answer its `response` and `ground_truth`, see `core.label`.
        rewards: A preset, or rewards by name, see `core.whole_batch`.

    Raises:
        ValueError: See `core.whole_batch` and `core.score`.
    """
    labels = [given["ground_truth"] for given in reward_inputs]
    rows = score([given["response"] for given in reward_inputs], labels, whole_batch(rewards))
    return [{"overall": row.pop("score"), **row} for row in rows]
