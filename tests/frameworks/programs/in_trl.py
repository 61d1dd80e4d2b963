"""One step of stock TRL's trainer in each of two processes, with a rubric as it is and with rewards that see both.

A process has the two answers to one clip, which alone cannot be ranked. A policy of random weights gives no answers:
the rewards `told` are paid for given ones in their place.
"""

import json
import sys

import torch.distributed as dist
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rewards import Format, Ranking, Regression, Rubric, gathered

given = json.loads(sys.argv[1])
paid = {}


def told(reward, name):
    def pay(completions, video_id, **columns):
        texts = [given["answers"][clip][place] for place, clip in enumerate(video_id)]
        values = reward(completions=texts, video_id=video_id, **columns)
        paid[name] = dict(zip(texts, values, strict=True))
        return values

    pay.__name__ = name
    return pay


rubric = Rubric([Format(strict=True), Regression()], weights=[0.5, 1.0])
whole = Rubric([Format(strict=True), Regression(), Ranking()])
functions = [rubric, told(rubric, "told_rubric"), told(gathered(Ranking()), "told_rank"), told(gathered(whole), "told")]
rows = {"prompt": ["rate a", "rate b"], "mos": [given["mos"][clip] for clip in "ab"], "video_id": ["a", "b"]}
args = GRPOConfig(
    output_dir="out",
    per_device_train_batch_size=2,
    num_generations=2,
    max_completion_length=8,
    max_steps=1,
    logging_steps=1,
    bf16=False,
    use_cpu=True,
    report_to="none",
    save_strategy="no",
)
trainer = GRPOTrainer(given["policy"], reward_funcs=functions, args=args, train_dataset=Dataset.from_dict(rows))
trainer.train()
everybody = [None, None]
dist.all_gather_object(everybody, paid)
if dist.get_rank() == 0:
    table = {name: everybody[0][name] | everybody[1][name] for name in paid}
    print("FOUND", json.dumps({"paid": table, "logged": trainer.state.log_history[0]}))
dist.destroy_process_group()
