"""verl's configuration with the options that it gets, and what its reward function pays for a right answer."""

import asyncio
import json
import sys
from pathlib import Path

import verl
from datasets import load_dataset
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.reward import get_custom_reward_fn

given = json.loads(sys.argv[1])
with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
    config = compose("ppo_trainer", overrides=given["options"])
pay = get_custom_reward_fn(config)
[*rows] = load_dataset("parquet", data_files=given["rows"], split="train")
found = []
for row in rows:
    truth = row["reward_model"]["ground_truth"]
    answer = f"<think>a</think><answer>{json.loads(truth)['mos']:.2f}</answer>"
    paid = pay(data_source=row["data_source"], solution_str=answer, ground_truth=truth, extra_info=row["extra_info"])
    found.append(asyncio.run(paid) if asyncio.iscoroutine(paid) else paid)
print("FOUND", json.dumps({"n": config.actor_rollout_ref.rollout.n, "paid": found}))
