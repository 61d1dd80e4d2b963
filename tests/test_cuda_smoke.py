"""The CUDA smoke script on a CPU, with no more installed than it says it needs."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import cuda_smoke
from vqathinker.policy.packed_attention import PackedLayout, Segment

BLOCKED = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))  # importing them raises ImportError
runpy.run_module("benchmarks.cuda_smoke", run_name="__main__", alter_sys=True)
"""
NEVER = ["trl", "vllm", "deepspeed", "av", "datasets", "scipy", "pandas", "peft"]


@pytest.mark.parametrize("missing", [NEVER, [*NEVER, "pytorchvideo", "PIL", "tabulate"]], ids=["motion", "no motion"])
def test_it_runs_without_trl_and_video_readers(missing, repo, tmp_path):
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(repo)!r})" + BLOCKED.format(missing=missing)]
    done = subprocess.run([*command, "--device", "cpu"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "runs/cuda_smoke.json").read_text())
    assert result["motion"] == ("pytorchvideo" not in missing) == ("without the motion branch" not in done.stdout)
    assert len(result["checks"]) == 3 + result["motion"] and all(check["passed"] for check in result["checks"])
    exact, _, share, *_ = (check["value"] for check in result["checks"])
    assert exact < 1e-5 and share > 0.99
    assert result["memory_gib"]["measured"] is None and result["memory_gib"]["budget"] > 0
    assert {"torch", "transformers", "accelerate"} <= result["versions"].keys() and result["device"].startswith("CPU")
    assert "FAILED" not in done.stdout and "not measured" in done.stdout


@pytest.fixture
def accelerator():
    return SimpleNamespace(
        device=torch.device("cpu"),
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
        backward=lambda loss: loss.backward(),
    )


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    config = cuda_smoke.make_config("tiny")
    return cuda_smoke.VQAThinkerForConditionalGeneration(config).train(), cuda_smoke.Batch(config, 2, 4, 8, 4)


def test_bfloat16_weights_fail(tiny, accelerator):
    policy, batch = tiny
    share = cuda_smoke.train(policy.to(torch.bfloat16), batch, accelerator)
    assert not share["passed"] and share["value"] < 0.5


def test_answers_that_see_each_other_fail(tiny, accelerator, monkeypatch):
    policy, batch = tiny
    packed = batch.packed()
    length = packed.inputs["input_ids"].shape[1]
    packed.inputs["packed"] = PackedLayout((Segment(0, length, length),))  # one text
    monkeypatch.setattr(cuda_smoke.Batch, "packed", lambda self: packed)
    exact, mixed = cuda_smoke.compare(policy, batch, accelerator)
    assert not exact["passed"] and not mixed["passed"]


def test_a_failed_check_is_the_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cuda_smoke, "EXACT", -1.0)
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # that of trainers in other tests of this process
    assert cuda_smoke.main(["--device", "cpu", "--out", str(tmp_path / "smoke.json"), "--completion", "8"]) == 1
    assert capsys.readouterr().out.count("FAILED") == 1 and (tmp_path / "smoke.json").exists()
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            cuda_smoke.main([])
        assert "use --device cpu" in capsys.readouterr().err
