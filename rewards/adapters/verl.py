"""verl 0.9 pays each answer by itself, verl 0.6 with its manager `batch` all answers of a step at once.

    reward.custom_reward_function.path=pkg://rewards.adapters.verl

Paid is the preset `recommended` without `rank`, which needs the answers to other clips (for it see `verl_trainer`), and
without `temporal`, for which nothing here makes perturbed copies. The label is `reward_model.ground_truth`, a MOS or
JSON, and what `extra_info` has. `+reward.custom_reward_function.reward_kwargs.rewards` chooses others: by name, as
"'format,regression=0.5'", or another preset.

verl 0.6 takes the file. There `rank` is paid too:

    custom_reward_function.path={path} custom_reward_function.name=compute_scores reward_model.reward_manager=batch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vqathinker.rewards.adapters.core import label, pointwise, score, whole_batch


def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    rewards: str = "recommended",
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float]:
    """What one answer earns: `score` and each reward by name.

    Args:
        data_source: Not needed, as the last two.
        solution_str: The answer.
        ground_truth: Its label, see `core.label`.
        extra_info: Further columns of it; what `ground_truth` has goes first.
        rewards: A preset, or rewards by name, see `core.pointwise`.
        reward_router_address: Of a reward model, where verl runs one.
        reward_model_tokenizer: Likewise.

    Raises:
        ValueError: See `core.pointwise` and `core.score`.
    """
    return score([solution_str], [columns(ground_truth, extra_info)], pointwise(rewards))[0]


def compute_scores(
    data_sources: Sequence[Any],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None],
    rewards: str = "recommended",
) -> list[dict[str, float]]:
    """What each answer of a step earns, as `compute_score`; rewards that compare clips need a `video_id`."""
    labels = [columns(*own) for own in zip(ground_truths, extra_infos, strict=True)]
    return score(list(solution_strs), labels, whole_batch(rewards))


def columns(ground_truth: Any, extra_info: Mapping[str, Any] | None) -> dict[str, Any]:
    """A label of both; without one in `ground_truth` that of `extra_info` counts. What is `None` is left out."""
    own = {} if ground_truth is None or ground_truth == "" else label(ground_truth)
    return {key: value for part in (extra_info or {}, own) for key, value in part.items() if value is not None}
