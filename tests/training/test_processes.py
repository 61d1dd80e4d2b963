"""Several real processes (gloo): the answer must not depend on how many there are."""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SCRIPT = '''
import json, sys, zlib
import torch
from transformers import AutoProcessor
from vqathinker.data import clip_dataset, read_labels
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Completion
from vqathinker.scoring import Prediction
from vqathinker.training import VQAGRPOConfig, VQAGRPOTrainer, trainer as trainer_module

base, clips, out, per_device, most = sys.argv[1:]
policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
args = VQAGRPOConfig(
    out, per_device_train_batch_size=int(per_device), num_generations=2, max_steps=1, max_completion_length=8,
    logging_steps=1, bf16=False, use_cpu=True, ddp_backend="gloo", report_to="none", save_strategy="no",
    gradient_checkpointing=False, max_tokens_per_batch=int(most) or None,
)
rows = read_labels(f"{clips}/train.csv", clips, "identity")
mos = {row.video: row.mos for row in rows}
processor = AutoProcessor.from_pretrained(base)
trainer = VQAGRPOTrainer(policy, "recommended", args, clip_dataset(rows, processor), processor)


def answers(self, policy, rows, shown):
    """Answers that say the clip's label and place in its group, instead of sampled ones."""
    texts = [
        f"<think>a</think><answer>{max(1.0, mos[name] - 0.31 * k):.2f}</answer>"
        for name in shown.names for k in range(self.num_generations)
    ]
    self._perturbed = [text.replace(">1", ">2").replace(">4", ">3") for text in texts]
    eos = self._tokenizer.eos_token_id
    ids = [[*self._tokenizer(text)["input_ids"], eos] for text in texts]
    return [Completion(tokens, [0.0] * len(tokens)) for tokens in ids]


type(trainer)._roll_out = answers
scored, advantages = [], []
calculate, generate = trainer._calculate_rewards, trainer._generate_and_score_completions
trainer._calculate_rewards = lambda *a: scored.append(calculate(*a)) or scored[-1]


def keep_advantages(inputs):
    output = generate(inputs)
    advantages.append(trainer.accelerator.gather(output["advantages"]))
    return output


trainer._generate_and_score_completions = keep_advantages
trainer.train()


def judge(policy, processor, videos, **settings):
    """Answers that say something else than the label, clip by clip."""
    scores = [mos[video] - zlib.crc32(video[-9:].encode()) % 7 / 3 for video in videos]
    return [Prediction(video, (f"<answer>{score:.2f}</answer>",), True) for video, score in zip(videos, scores)]


trainer_module.predict = judge
held_out = trainer.evaluate(clip_dataset(rows[:7], processor))
weights = sum(p.double().abs().sum().item() for p in policy.parameters())
if trainer.accelerator.is_main_process:
    log = {k: v for k, v in trainer.state.log_history[0].items() if k.startswith(("rew", "vqa", "kl", "completions"))}
    result = {
        "log": log, "rewards": scored[0].tolist(), "advantages": advantages[0].tolist(), "weights": weights,
        "world": trainer.accelerator.num_processes,
        "eval": [held_out[f"eval_{name}"] for name in ("srcc", "plcc", "parse_rate", "skipped_clips")],
    }
    open(out + "/result.json", "w").write(json.dumps(result))
'''


def test_rewards_advantages_and_metrics_do_not_depend_on_processes_and_parts(torchrun, base, clip_set, tmp_path):
    def results(processes):
        out = tmp_path / str(processes)
        out.mkdir()
        script = out / "run.py"
        script.write_text(SCRIPT)
        most = int(processes == 2)  # its two groups one by one
        torchrun(processes, script, base, clip_set, out, 8 // processes, most, ACCELERATE_USE_CPU="true")
        return json.loads((out / "result.json").read_text())

    runs = [results(processes) for processes in (1, 2, 4)]
    assert [run["world"] for run in runs] == [1, 2, 4]
    one = runs[0]
    assert len(one["rewards"]) == len(one["advantages"]) == 8 and np.ptp(one["advantages"]) > 0.1
    assert 0 < one["eval"][2] <= 1 and -1 < one["eval"][0] < 1
    for run in runs[1:]:
        np.testing.assert_allclose(run["rewards"], one["rewards"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(run["advantages"], one["advantages"], rtol=0, atol=1e-6)
        assert run["log"].keys() == one["log"].keys()
        for name, value in one["log"].items():
            assert run["log"][name] == pytest.approx(value, abs=1e-6), name
        assert run["eval"] == pytest.approx(one["eval"], abs=1e-9)  # 7 clips, whoever judged them
        assert run["weights"] == pytest.approx(one["weights"], rel=1e-6)  # the update too
