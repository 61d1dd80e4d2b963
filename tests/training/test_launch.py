"""The recipe under `accelerate launch` with two real processes (gloo): DDP, ZeRO-2, ZeRO-3, both rollout engines."""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

import vqathinker.synth

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ACCELERATE = ["ddp", "zero2", "zero3"]
ENGINES = ["transformers", "vllm"]
UNCOMPILED = {"TORCHDYNAMO_DISABLE": "1"}  # vLLM compiles its sampler, which takes longer than all that is sampled here
BASE = Path(vqathinker.synth.__file__).parent / "base"
RECORDED = """
import json, os, runpy, sys
from contextlib import contextmanager
from pathlib import Path
from accelerate.utils import DeepSpeedPlugin
from vqathinker.training import VQAGRPOTrainer

whole_policy, found = VQAGRPOTrainer._whole_policy, []


@contextmanager
def recorded(self):
    with whole_policy(self) as policy:
        embedding = policy.get_input_embeddings().weight
        language = [*policy.model.language_model.parameters(), policy.lm_head.weight]
        layers = {id(p) for p in language if p is not embedding}
        sizes = {"there": {True: 0, False: 0}, "all": {True: 0, False: 0}}
        for p in policy.parameters():
            if not getattr(p, "ds_persist", False):  # small ones are with every process, whatever is gathered
                sizes["there"][id(p) in layers] += p.numel()
                sizes["all"][id(p) in layers] += getattr(p, "ds_numel", p.numel())
        found.append(sizes)
        yield policy


def share_out(self, *args, **kwargs):
    set_up(self, *args, **kwargs)
    self.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 10_000


set_up, DeepSpeedPlugin.__post_init__ = DeepSpeedPlugin.__post_init__, share_out
VQAGRPOTrainer._whole_policy = recorded
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
folder = Path(sys.argv[sys.argv.index("--output_dir") + 1])
(folder / f"gathered-{os.environ['RANK']}.json").write_text(json.dumps(found))
"""
"""The recipe with ZeRO-3 sharing out matrices of this size too, which writes down how large the weights are that
rollouts and validations find: those of the language model's layers and head ("true"), and all others."""


def needs(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def launch(clip_set, tmp_path_factory, without_vllm):
    """Starts the recipe on the small set with two processes, from the shipped base, which earns rewards."""
    repo, shared = Path(__file__).parents[2], tmp_path_factory.mktemp("launch")

    def start(strategy, out, *arguments):
        if strategy != "ddp":
            needs("deepspeed")
        (shared / "recorded.py").write_text(RECORDED)
        config = yaml.safe_load((repo / f"recipes/accelerate/{strategy}.yaml").read_text())
        config |= {"use_cpu": True, "mixed_precision": "no", "num_processes": 2}
        file = shared / f"{strategy}.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [
            *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", file),
            *("--main_process_port", "0"),
            *(
                shared / "recorded.py",
                repo / "recipes/grpo_lsvq.py",
                "--config",
                repo / "recipes/configs/demo.yaml",
                "--model",
                BASE,
            ),
            *("--train_labels", clip_set / "train.csv", "--video_root", clip_set, "--val_labels", ""),
            *("--output_dir", out, "--per_device_train_batch_size", 4, "--num_generations", 2),
            *("--steps_per_generation", 1, "--num_iterations", 1, "--max_steps", 2, "--logging_steps", 1),
            *("--learning_rate", 1e-3, "--lr_scheduler_type", "constant", "--max_completion_length", 16),
            *("--top_k", 0, "--save_strategy", "steps", "--save_steps", 1),
            *("--adam_epsilon", 1e-6),  # with 1e-8 a gradient of mere rounding becomes a step
            *("--frame_cache", shared / "cache", "--vllm_gpu_memory_utilization", 0.15, *arguments),
        ]
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (UNCOMPILED if "--use_vllm" in arguments else without_vllm),
            cwd=shared,
        )

    return start


def finish(process, seconds=400):
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.terminate()  # takes its workers along; nothing if it has ended
    assert process.returncode == 0, output[-6000:]
    return output


def history(folder):
    """Of the training steps, and the run's last entry."""
    return [entry for entry in log_of(folder) if "eval_runtime" not in entry]


def log_of(folder):
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


@pytest.fixture(scope="module")
def trained(launch, clip_set, tmp_path_factory):
    """Two steps with two processes, once for each strategy and engine, after a validation on 3 clips; the folder."""
    done = {}
    labels = tmp_path_factory.mktemp("labels") / "val.csv"
    labels.write_text("".join((clip_set / "val.csv").read_text().splitlines(keepends=True)[:4]))

    def run(strategy, engine):
        if (strategy, engine) not in done:
            if engine == "vllm":
                needs("vllm")
            folder = tmp_path_factory.mktemp(f"{strategy}_{engine}")
            span = 2 if strategy == "zero2" else 1  # there one engine spans both processes
            options: tuple = ()
            if engine == "vllm":
                options = ("--use_vllm", "true", "--vllm_tensor_parallel_size", span)
            elif strategy != "ddp":
                options = ("--max_tokens_per_batch", 1)  # a micro-batch's two groups one by one: the same step
            finish(launch(strategy, folder, "--val_labels", labels, *options))
            done[strategy, engine] = folder
        return done[strategy, engine]

    return run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("strategy", ACCELERATE)
def test_the_recipe_trains_with_two_processes(trained, strategy, engine):
    from vqathinker.policy import load_policy

    folder = trained(strategy, engine)
    first, second, last = history(folder)
    assert last["step"] == 2 and math.isfinite(last["train_loss"])
    assert last["epoch"] == 0.5  # 2 steps of 2 processes with 2 clips each, of 16
    for entry in (first, second):
        assert math.isfinite(entry["loss"]) and entry["quality/skipped_clips"] == 0
        assert entry["completions/mean_length"] > 1
        if engine == "vllm":  # sampler and trainer agree: the weights arrived, after the first update too
            assert entry["sampling/sampling_logp_difference/max"] < 1e-2
    validated = [entry for entry in log_of(folder) if "eval_runtime" in entry]  # by the engine, which went on after it
    assert [entry["step"] for entry in validated] == [0, 2]
    assert all(entry["eval_skipped_clips"] == 0 <= entry["eval_parse_rate"] for entry in validated)
    plain = log_of(trained(strategy, "transformers"))[0]
    for name in ("eval_parse_rate", "eval_srcc"):
        assert validated[0].get(name) == pytest.approx(plain.get(name)), name
    for sizes in [sizes for rank in (0, 1) for sizes in json.loads((folder / f"gathered-{rank}.json").read_text())]:
        there, whole = sizes["there"], sizes["all"]
        assert there["false"] == whole["false"] > 0 < whole["true"]
        assert there["true"] == (0 if (strategy, engine) == ("zero3", "vllm") else whole["true"])
    if (strategy, engine) == ("zero3", "vllm"):  # what encodes was whole
        draws = [completions(which, 1)["completion"].tolist() for which in (folder, trained("ddp", "vllm"))]
        assert draws[0] == draws[1]
    assert second["kl"] > 1e-4 > first["kl"]  # the second draw is made with other weights
    load_policy(folder)


@pytest.mark.parametrize("strategy", ACCELERATE[1:])
def test_all_strategies_take_the_same_step(trained, strategy):
    folders = [trained(name, "transformers") for name in ("ddp", strategy)]
    for ours, theirs in zip(*(history(folder)[:2] for folder in folders), strict=True):
        for name in ("loss", "reward", "kl", "entropy", "completions/mean_length"):
            assert ours[name] == pytest.approx(theirs[name], abs=2e-4), name
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], atol=1e-4, rtol=0)


def test_zero_with_bf16_trains_bfloat16_weights_over_its_master_weights(launch, tmp_path):
    finish(launch("zero2", tmp_path, "--bf16", "true", "--use_cpu", "true", "--dtype", "auto", "--save_strategy", "no"))
    weights = load_file(tmp_path / "model.safetensors").values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.bfloat16}
    assert all(math.isfinite(entry["loss"]) for entry in history(tmp_path)[:2])


def test_a_failing_process_ends_the_run_and_is_named(launch, clip_set, tmp_path):
    """One unreadable clip in strict mode: one rank fails, the other waits for it in a collective."""
    lines = (clip_set / "train.csv").read_text().splitlines()
    lines[3] = "videos/train/missing.mp4," + lines[3].split(",", 1)[1]
    labels = tmp_path / "broken.csv"
    labels.write_text("\n".join(lines) + "\n")
    start = time.monotonic()
    process = launch("ddp", tmp_path, "--train_labels", labels, "--strict_clips", "true", "--max_steps", 20)
    output, _ = process.communicate(timeout=200)
    assert process.returncode not in (0, None)
    assert time.monotonic() - start < 150
    cause = output.split("Root Cause", 1)[1]
    assert "Traceback" in cause and "ClipError" in cause and "missing.mp4" in cause


def test_a_run_killed_while_saving_goes_on_from_the_last_whole_checkpoint(launch, trained, tmp_path):
    whole, killed = trained("ddp", "transformers"), tmp_path / "killed"
    process = launch("ddp", killed)
    deadline = time.monotonic() + 300
    while not ((killed / "checkpoint-1").exists() and any((killed / "_saving").glob("*/*"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    process.communicate()
    assert any((killed / "_saving").glob("*/*")) and not (killed / "checkpoint-2").exists()
    finish(launch("ddp", killed, "--resume_from_checkpoint", "true"))
    for ours, theirs in zip(history(killed)[:2], history(whole)[:2], strict=True):
        for name in ("loss", "reward", "kl", "grad_norm", "learning_rate"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6), (ours["step"], name)
    # Drawn after the resume: clips, perturbations, answers, those to the copies, rewards, advantages.
    pd.testing.assert_frame_equal(completions(killed, 2), completions(whole, 2))


def test_a_resumed_vllm_run_goes_on_as_an_uninterrupted_one(launch, trained, tmp_path):
    whole = trained("ddp", "vllm")
    shutil.copytree(whole / "checkpoint-1", tmp_path / "checkpoint-1")
    finish(launch("ddp", tmp_path, "--use_vllm", "true", "--resume_from_checkpoint", "true"))
    ours, theirs = completions(tmp_path, 2), completions(whole, 2)
    for column in ("video_id", "perturbation", "completion"):
        assert ours[column].tolist() == theirs[column].tolist() and len(ours) == 8
    assert all(math.isfinite(history(tmp_path)[1][name]) for name in ("loss", "reward", "kl", "entropy"))


def completions(folder, step):
    return pd.read_parquet(folder / "completions" / f"completions_{step:05d}.parquet")


def children(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        found += [
            int(child) for task in Path(f"/proc/{parent}/task").glob("*/children") for child in task.read_text().split()
        ]
    return found


def test_an_adapter_is_trained_and_saved_whole_by_several_processes(launch, tmp_path):
    needs("peft")
    finish(launch("zero3", tmp_path, "--use_peft", "true", "--lora_r", 4, "--freeze", "vision_tower"))
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "checkpoint-1", tmp_path)]
    assert {value.shape[0] for name, value in weights[0].items() if "lora_A" in name} == {4}
    changed = [not torch.equal(value, weights[1][name]) for name, value in weights[0].items()]
    assert sum(changed) > 0.9 * len(changed)
    assert not list(tmp_path.glob("model*.safetensors"))
    from vqathinker.policy import load_policy

    assert load_policy(tmp_path)[0].name_or_path == str(tmp_path)
