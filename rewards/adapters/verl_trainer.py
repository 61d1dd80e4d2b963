"""verl 0.9 as a trainer mode: rewards that compare clips see all answers of a step.

    VERL_USE_EXTERNAL_MODULES=rewards.adapters.verl_trainer
    reward.custom_reward_function.path=pkg://rewards.adapters.verl_trainer
    trainer.v1.trainer_mode=vqa

The first is a variable of the environment, for all nodes. `compute_score` pays each answer what it can earn by itself,
as that of `verl` does; before the advantages the trainer adds the rewards that compare clips. Paid is the preset
`recommended` without `temporal`, for which nothing here makes perturbed copies. Labels, and the choice of other
rewards, are as for `verl`; a clip without a `video_id` is told by its prompt (`uid`). All else is verl's mode `sync`.

Tested with verl 0.9.1: it overrides `_compute_advantage`, which is not part of verl's interface.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import transfer_queue as tq
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu

from vqathinker.rewards import Rubric
from vqathinker.rewards.adapters import verl
from vqathinker.rewards.adapters.core import pointwise, score, whole_batch

MODE = "vqa"


def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    rewards: str = "recommended",
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
) -> dict[str, float]:
    """What one answer earns by itself, arguments as `verl.compute_score`; the trainer adds the rest."""
    return score([solution_str], [verl.columns(ground_truth, extra_info)], _alone(rewards))[0]


@register_trainer(MODE)
class VQATrainer(PPOTrainerSync):
    """verl's synchronous trainer, which adds rewards that compare clips.

    Raises:
        ValueError: If the answers are not paid by this module's `compute_score`, no chosen reward compares clips, or a
            step has nothing to compare: one clip, or one answer to each.

    The configuration's `trainer_mode` becomes `sync`: by that name verl decides how it samples, refills and saves.
    """

    def __init__(self, config: Any) -> None:
        chosen = config.reward.custom_reward_function
        if "verl_trainer" not in str(chosen.path):
            raise ValueError(
                f"reward.custom_reward_function.path={chosen.path}: trainer_mode={MODE} adds to what this module's "
                "compute_score pays. Set it to pkg://rewards.adapters.verl_trainer."
            )
        self.rewards = str((chosen.get("reward_kwargs") or {}).get("rewards", "recommended"))
        self.added = [name for name in whole_batch(self.rewards).names if name not in _alone(self.rewards).names]
        if not self.added:
            raise ValueError(
                f"rewards={self.rewards!r}: none of them compares clips, so trainer_mode={MODE} has nothing to add. "
                "Train with trainer_mode=sync and pkg://rewards.adapters.verl."
            )
        clips, answers = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
        if clips < 2 or answers < 2:
            raise ValueError(
                f"data.train_batch_size={clips} with rollout.n={answers}: {', '.join(self.added)} need at least two "
                "clips with two answers each in a step."
            )
        config.trainer.v1.trainer_mode = "sync"  # verl treats every other name as asynchronous
        super().__init__(config)

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Add the rewards to `rm_scores`, at each answer's last token; rows that only fill the batch stay as before."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        if len({key.rpartition("_")[0] for key in keys}) < len(keys):  # uid_session_output
            raise ValueError(f"an agent loop gave several outputs for one answer: trainer_mode={MODE} takes one each.")
        fields = ["uid", "responses", "rm_scores", "reward_model", "extra_info"]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in data["responses"].unbind()]
        labels = [
            {"video_id": uid} | verl.columns(model["ground_truth"], extra)
            for uid, model, extra in zip(data["uid"], data["reward_model"], data["extra_info"], strict=True)
        ]
        paid = self.earned(texts, labels, metrics)
        rows = [row.clone() for row in data["rm_scores"].unbind()]
        for row, value in zip(rows, paid, strict=True):
            row[-1] += value
        scores = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        tq.kv_batch_put(keys=keys, partition_id=batch.partition_id, fields=tu.get_tensordict({"rm_scores": scores}))
        return super()._compute_advantage(batch, metrics)

    def earned(self, texts: Sequence[str], labels: Sequence[Any], metrics: dict[str, Any]) -> list[float]:
        """The weighted sum of the added rewards for each answer of a step; their means go to `metrics`."""
        clips = len({label["video_id"] for label in labels})
        if clips < 2 or clips == len(labels):
            raise ValueError(
                f"a step has {len(labels)} answers to {clips} clips: {', '.join(self.added)} needs two clips or more, "
                "and two answers to one of them. Look for rollouts that failed, or raise data.train_batch_size or "
                "rollout.n."
            )
        rubric = whole_batch(self.rewards)
        table = score(texts, labels, rubric)
        weights = dict(zip(rubric.names, rubric.weights, strict=True))
        added = {name: weights[name] for name in self.added}
        for name in added:
            metrics[f"rewards/{name}/mean"] = sum(row[name] for row in table) / len(table)
        return [sum(weight * row[name] for name, weight in added.items()) for row in table]


@lru_cache(maxsize=64)
def _alone(rewards: str) -> Rubric:
    """Those that are paid for one answer alone, without the warning about those that the trainer adds."""
    whole = whole_batch(rewards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pointwise(whole, missing="leave out")
