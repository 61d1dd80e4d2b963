"""verl 0.9's default configuration with our line, its reward manager, and what it pays each answer."""

import asyncio
import json
import sys
from pathlib import Path

import torch
import verl
from hydra import compose, initialize_config_dir
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from vqathinker.synth import tiny_tokenizer

given = json.loads(sys.argv[1])
tokenizer = tiny_tokenizer()
with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
    config = compose("ppo_trainer", overrides=["reward.custom_reward_function.path=pkg://rewards.adapters.verl"])


def batch(text, ground_truth):
    """One answer as the agent loop hands it over."""
    ids = torch.tensor([[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]])
    rows = {"data_source": "vqa", "reward_model": {"ground_truth": ground_truth}, "extra_info": {"video_id": "a"}}
    return DataProto.from_dict(
        tensors={"prompts": ids[:, :1], "responses": ids, "attention_mask": torch.ones(1, 1 + ids.shape[1]).long()},
        non_tensors={key: [value] for key, value in rows.items()},
    )


async def pay():
    manager = load_reward_manager(config, tokenizer)
    rows = zip(given["answers"], given["labels"], strict=True)
    found = [await manager.run_single(batch(*row)) for row in rows]
    try:
        ended = str(await manager.run_single(batch(given["answers"][0], "")))
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    return {"paid": found, "ended": ended}


print("FOUND", json.dumps(asyncio.run(pay())))
