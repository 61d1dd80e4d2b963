"""The supervised recipe in two real processes (gloo) is one training, and the same as in one process."""

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = [pytest.mark.engine, pytest.mark.slow]

REPO = Path(__file__).parents[2]
STEPS, SAVED = 8, 6  # 20 labels, four a step: in the second epoch, when each process has seen other clips before
MACHINE = {"use_cpu": True, "mixed_precision": "no"}  # no GPUs
LAUNCHES = {  # a file of recipes/accelerate, what to change in it, options
    "ddp": ("cpu", {}, ["--multi_gpu", "--num_processes", 2]),
    "zero3": ("zero3", MACHINE, ["--num_processes", 2]),
}


@pytest.fixture(scope="module")
def train(base, clip_set, tmp_path_factory, without_vllm):
    """Starts the recipe one of these ways and waits for it, or runs it here ("one"), on 16 clips and 4 that are
    missing."""
    shared = tmp_path_factory.mktemp("sft")
    labels = (clip_set / "train.csv").read_text().splitlines()
    labels += [f"videos/train/missing_{i}.mp4,{line.split(',', 1)[1]}" for i, line in enumerate(labels[1:5])]
    (shared / "labels.csv").write_text("\n".join(labels) + "\n")

    def recipe(out, clips, *arguments):
        options = [
            *("--config", REPO / "recipes/configs/demo_sft.yaml", "--model", base),
            *("--train_labels", shared / "labels.csv", "--video_root", clip_set, "--output_dir", out),
            *("--per_device_train_batch_size", clips, "--gradient_accumulation_steps", 2),
            *("--max_steps", STEPS, "--logging_steps", 1),
            *("--save_strategy", "steps", "--save_steps", SAVED, "--lr_scheduler_type", "constant"),
            *("--adam_epsilon", 1e-6),  # with 1e-8 a gradient of mere rounding becomes a step
            *("--warmup_steps", 0, "--frame_cache", shared / "cache", *arguments),
        ]
        return [str(part) for part in options]

    def run(launch, out, *arguments):
        if launch == "one":
            with pytest.MonkeyPatch.context() as patch:
                patch.syspath_prepend(REPO / "recipes")
                importlib.import_module("sft_lsvq").main(recipe(out, 2, "--use_cpu", "true"))
            return out
        file, changes, options = LAUNCHES[launch]
        if file.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
            pytest.skip("deepspeed is not installed")
        settings = yaml.safe_load((REPO / f"recipes/accelerate/{file}.yaml").read_text()) | changes
        (shared / f"{launch}.yaml").write_text(yaml.safe_dump(settings))
        command = [
            *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"),
            *("--config_file", shared / f"{launch}.yaml", "--main_process_port", 0, *options),
            *(REPO / "recipes/sft_lsvq.py", *recipe(out, 1, *arguments)),
        ]
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | without_vllm,
            cwd=shared,
            timeout=400,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return out

    return run


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """The folder of a training that was launched so; each is done once."""
    folders = {}

    def get(launch):
        if launch not in folders:
            folders[launch] = train(launch, tmp_path_factory.mktemp(launch) / "run")
        return folders[launch]

    return get


def history(folder):
    *steps, _ = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return steps


@pytest.mark.parametrize("launch", ["ddp", "zero3"])
def test_two_processes_train_as_one(trained, base, launch):
    one, two = trained("one"), trained(launch)
    assert [entry["step"] for entry in history(two)] == list(range(1, STEPS + 1))
    for ours, theirs in zip(history(two), history(one), strict=True):
        assert ours["epoch"] == theirs["epoch"]
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=2e-4), ours["step"]
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=2e-3), ours["step"]
    weights, expected, start = (load_file(folder / "model.safetensors") for folder in (two, one, base))
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, atol=2e-4, rtol=0)
    moved = max((weight - start[name]).abs().max().item() for name, weight in expected.items())
    assert moved > 2e-3
    skipped = (two / "skipped.jsonl").read_text().splitlines()
    assert len(skipped) == 4 and all("missing_" in line for line in skipped)


def test_a_resumed_run_goes_on_as_an_uninterrupted_one(train, trained, tmp_path):
    launch = "zero3"
    whole, resumed = trained(launch), tmp_path / "run"
    shutil.copytree(whole / f"checkpoint-{SAVED}", resumed / f"checkpoint-{SAVED}")
    train(launch, resumed, "--resume_from_checkpoint", "true")
    for ours, theirs in zip(history(resumed), history(whole), strict=True):
        for name in ("loss", "grad_norm", "learning_rate"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6), (ours["step"], name)
    weights, expected = (load_file(folder / "model.safetensors") for folder in (resumed, whole))
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


def test_the_embedded_default_is_made_by_one_process(torchrun, tmp_path):
    script = tmp_path / "make.py"
    script.write_text(
        "import os\n"
        "from vqathinker.synth import SynthSpec, default\n"
        "made = default.make_set\n"
        "default.make_set = lambda *args: print('made by', os.environ['RANK']) or made(*args, progress=False)\n"
        "default.prepare_default('demo', SynthSpec(splits={'train': 2, 'test': 2}))\n"
    )
    stdout, _ = torchrun(2, script)
    assert stdout.splitlines() == ["made by 0"] * 2  # the set and the longer clips
