"""verl 0.9 with our trainer mode, by verl's own registry: the trainer made, a step's advantages, and what is refused.

The advantages and the row that fills the batch are verl's own; what its processes share is a dictionary here.
"""

import json
import os
import sys
from pathlib import Path

os.environ["VERL_USE_EXTERNAL_MODULES"] = "rewards.adapters.verl_trainer"  # read when verl is imported

import torch
import transfer_queue as tq
import verl
from hydra import compose, initialize_config_dir
from tensordict import TensorDict
from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager
from transformers import ByT5Tokenizer
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1 import get_trainer_cls

from rewards.adapters.verl_trainer import compute_score

REWARDS = "format,regression,rank=0.5"
ROWS = {}


def put(keys, partition_id, fields, tags=None):
    for index, key in enumerate(keys):
        for name, column in fields.items():
            rows = column.unbind() if isinstance(column, torch.Tensor) else list(column)
            ROWS.setdefault(key, {})[name] = rows[index]
    return tq.KVBatchMeta(keys=list(keys), tags=tags or [{} for _ in keys], partition_id=partition_id)


def get(keys, partition_id, select_fields=None):
    names = [name for name in select_fields or ROWS[keys[0]] if all(name in ROWS[key] for key in keys)]
    pack = AsyncSimpleStorageManager._pack_field_values
    return TensorDict({name: pack([ROWS[key][name] for key in keys]) for name in names}, batch_size=len(keys))


tq.kv_batch_put, tq.kv_batch_get = put, get


def made(**changed):
    """The trainer of verl's configuration with our lines, or the text of its error."""
    options = {
        "reward.custom_reward_function.path": "pkg://rewards.adapters.verl_trainer",
        "+reward.custom_reward_function.reward_kwargs.rewards": f"'{REWARDS}'",
        "trainer.v1.trainer_mode": "vqa",
        "data.train_batch_size": 2,
        "actor_rollout_ref.rollout.n": 3,
        "algorithm.adv_estimator": "grpo",
    }
    config = compose("ppo_trainer", overrides=[f"{name}={value}" for name, value in (options | changed).items()])
    return get_trainer_cls(config.trainer.v1.trainer_mode)(config)


def sampled(trainer, keys, answers, labels, extras):
    """What verl has of a step before the advantages, each answer paid by `compute_score`, and a row that fills it."""
    ROWS.clear()
    for key, answer, mos, extra in zip(keys, answers, labels, extras, strict=True):
        ids = torch.tensor(trainer.tokenizer.encode(answer))  # with the token that ends an answer
        scores = torch.zeros(len(ids))
        scores[-1] = compute_score("vqa", answer, mos, extra, REWARDS)["score"]
        own = {"uid": key.split("_")[0], "reward_model": {"ground_truth": mos}, "extra_info": extra}
        ROWS[key] = own | {"responses": ids, "rm_scores": scores, "response_mask": torch.ones_like(ids)}
    batch = tq.KVBatchMeta(keys=list(keys), tags=[{} for _ in keys], partition_id="train")
    return upsample_batch_to_divisible_size(batch, len(keys) + 1, trainer.tokenizer.eos_token_id)


def error_of(call, *args, **options):
    try:
        call(*args, **options)
    except ValueError as error:
        return str(error)
    return "nothing was refused"


given = json.loads(sys.argv[1])
with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
    trainer = made()
    other = error_of(made, **{"reward.custom_reward_function.path": "pkg://rewards.adapters.verl"})
trainer.tokenizer = ByT5Tokenizer()

KEYS = ["a_0_0", "a_1_0", "b_0_0", "b_1_0", "b_2_0"]
extras = [{} if clip == "a" else {"video_id": clip} for clip in given["video_id"]]  # a is told by its prompt
step = given["answers"], given["mos"], extras
metrics = {}
batch = sampled(trainer, KEYS, *step)
paid = trainer._compute_advantage(batch, metrics)


def refused(keys, rows):
    chosen = [[column[row] for row in rows] for column in step]
    return error_of(trainer._compute_advantage, sampled(trainer, keys, *chosen), {})


found = {
    "modes": [trainer.trainer_mode, trainer.config.trainer.v1.trainer_mode, trainer.replay_buffer.trainer_mode],
    "buffer": type(trainer.replay_buffer).__name__,
    "prompts": trainer.replay_buffer.gen_batch_size,
    "padding": [bool(tag.get("is_padding")) for tag in batch.tags],
    "paid": [ROWS[key]["rm_scores"].tolist() for key in paid.keys],
    "advantages": [ROWS[key]["advantages"].tolist() for key in paid.keys],
    "metrics": metrics,
    "refused": {
        "other function": other,
        "two outputs": refused(["a_0_0", "a_0_1", "b_0_0", "b_1_0"], range(4)),
        "one clip": refused(["b_0_0", "b_1_0"], (2, 3)),
        "one answer each": refused(["a_0_0", "b_0_0"], (0, 2)),
    },
}
print("FOUND", json.dumps(found))
