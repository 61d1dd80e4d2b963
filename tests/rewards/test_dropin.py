"""`import rewards` alone, and each reward unchanged in stock TRL."""

import os
import subprocess
import sys

import pytest


def test_import_is_light(repo):
    code = "import sys, rewards, perturb; print(sorted({'torch', 'trl', 'transformers'} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
        after = os.times()  # of the processor: other tests run beside this one
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert done.stdout.strip() == "[]"
    assert min(seconds) < 0.5


@pytest.mark.contract
def test_each_reward_works_in_stock_trl(text_policy, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    import rewards

    regression, ranking = rewards.Regression(), rewards.Ranking()
    functions = [
        rewards.Format(),
        regression,
        ranking,
        rewards.Temporal(regression, ranking),
        rewards.Threshold(),
        rewards.Linear(),
        rewards.Length(),
        rewards.Choice(),
        rewards.Contrast(perturbed=False, name="order"),
        rewards.ProductHinge(),
        rewards.BradleyTerry(),
        rewards.Rubric([rewards.Format(), ranking], [0.5, 1]),
        rewards.gathered(rewards.Length(low=0, name="any_length")),
    ]
    dataset = Dataset.from_dict({"prompt": ["rate a", "rate b"], "mos": [4.0, 2.0], "video_id": ["a", "b"]})
    dataset = dataset.add_column("answer", ["B", None]).add_column("options", [["Yes", "No"], None])
    dataset = dataset.add_column("ladder", ["a", "a"]).add_column("rank", [20.0, 30.0])
    args = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        max_steps=1,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = GRPOTrainer(str(text_policy), reward_funcs=functions, args=args, train_dataset=dataset)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert {f"rewards/{f.__name__}/mean" for f in functions} <= logged.keys()
    assert logged["rewards/format/mean"] == 0.0  # random weights: nothing parses, so the rest is unscorable
    assert logged["rewards/regression/mean"] is None
    assert logged["rewards/rubric/mean"] == logged["rubric/format"] == 0.0 and logged["rubric/unparsable"] == 1.0
    assert logged["rewards/any_length/mean"] == 1.0
    assert logged["rewards/choice/mean"] == 0.0  # an answer that names no option is wrong
