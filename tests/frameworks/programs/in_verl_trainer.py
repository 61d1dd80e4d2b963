"""verl 0.9 with our trainer mode, found by verl's own registry: what it adds to the answers of a step, and refuses."""

import json
import os
import sys
from pathlib import Path

os.environ["VERL_USE_EXTERNAL_MODULES"] = "rewards.adapters.verl_trainer"  # read when verl is imported

import verl
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.v1 import get_trainer_cls

given = json.loads(sys.argv[1])
trainer_class = get_trainer_cls("vqa")
trainer = object.__new__(trainer_class)  # its workers need GPUs
trainer.rewards, trainer.added = "format,rank=0.5", ["rank"]
labels = [{"mos": mos, "video_id": name} for mos, name in zip(given["mos"], given["video_id"], strict=True)]
metrics = {}
added = trainer.earned(given["answers"], labels, metrics)
with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
    config = compose("ppo_trainer", overrides=["reward.custom_reward_function.path=pkg://rewards.adapters.verl"])
try:
    refused = str(trainer_class(config))
except ValueError as error:
    refused = str(error)
print("FOUND", json.dumps({"added": added, "metrics": metrics, "refused": refused}))
