"""Two real processes (gloo): the answer must not depend on how many there are."""

import json
import os
import subprocess
import sys

SCRIPT = '''
import json, sys
import torch
from transformers import AutoProcessor
from vqathinker.data import clip_dataset, read_labels
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOConfig, VQAGRPOTrainer

base, clips, out, per_device = sys.argv[1:]
policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
args = VQAGRPOConfig(
    out, per_device_train_batch_size=int(per_device), num_generations=2, max_steps=1, max_completion_length=8,
    logging_steps=1, bf16=False, use_cpu=True, ddp_backend="gloo", report_to="none", save_strategy="no",
    gradient_checkpointing=False,
)
rows = read_labels(f"{clips}/train.csv", clips, "identity")
processor = AutoProcessor.from_pretrained(base)
trainer = VQAGRPOTrainer(policy, "recommended", args, clip_dataset(rows, "How good?"), processor)


def answers(self, policy, rows, clips, names, num_generations):
    """Answers that say the clip's label and place in its group, instead of sampled ones."""
    texts = [
        f"<think>a</think><answer>{max(1.0, row['mos'] - 0.31 * k):.2f}</answer>"
        for row in rows for k in range(num_generations)
    ]
    self._perturbed = [text.replace(">1", ">2").replace(">4", ">3") for text in texts]
    eos = self._tokenizer.eos_token_id
    return [[*self._tokenizer(text)["input_ids"], eos] for text in texts]


type(trainer)._roll_out = answers
scored = []
calculate = trainer._calculate_rewards
trainer._calculate_rewards = lambda *a: scored.append(calculate(*a)) or scored[-1]
trainer.train()
weights = sum(p.double().abs().sum().item() for p in policy.parameters())
if trainer.accelerator.is_main_process:
    log = {k: v for k, v in trainer.state.log_history[0].items() if k.startswith(("rew", "vqa", "kl", "completions"))}
    result = {"log": log, "rewards": scored[0].tolist(), "weights": weights, "world": trainer.accelerator.num_processes}
    open(out + "/result.json", "w").write(json.dumps(result))
'''


def launch(processes, per_device, base, clips, out):
    out.mkdir()
    script = out / "run.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*torchrun, script, base, clips, out, per_device]
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=400, env=env, cwd=out)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((out / "result.json").read_text())


def test_two_processes_give_the_rewards_and_the_step_of_one(base, clip_set, tmp_path):
    one = launch(1, 8, base, clip_set, tmp_path / "one")
    two = launch(2, 4, base, clip_set, tmp_path / "two")
    assert (one["world"], two["world"]) == (1, 2)
    rows = [[round(value, 5) for value in row] for row in one["rewards"]]
    assert rows == [[round(value, 5) for value in row] for row in two["rewards"]] and len(rows) == 8
    assert one["log"].keys() == two["log"].keys()
    for name, value in one["log"].items():
        assert abs(value - two["log"][name]) < 1e-5, name
    assert abs(one["weights"] - two["weights"]) < 1e-4 * one["weights"]
