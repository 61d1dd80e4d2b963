"""The GPU's benchmark at toy size on a CPU, with no more installed than it says it needs."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu, report

BLOCKED = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))  # importing them raises ImportError
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""
MISSING = ["trl", "vllm", "deepspeed", "av", "datasets", "scipy", "pandas", "peft", "pytorchvideo", "PIL", "tabulate"]


@pytest.mark.slow
def test_a_dry_run_needs_no_trl_and_measures_all(repo, tmp_path):
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(repo)!r})" + BLOCKED.format(missing=MISSING)]
    done = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(word in done.stdout for word in ("update", "rollout", "step", "activations", "float32"))
    found = json.loads((tmp_path / "runs/gpu.json").read_text())
    assert found["quick"] and found["environment"]["device"] == "CPU" and found["environment"]["packages"]["torch"]
    [row] = found["gpu"]["rows"]
    assert all(row[part]["ratios"]["stock way"] > 0 for part in ("update", "rollout", "step"))
    assert row["gradient_errors"]["ours, float32"] < 1e-5
    assert row["gradient_errors"]["ours"] < 2 * row["gradient_errors"]["stock way"] < 0.1
    assert row["forms"]["dense"]["median"] > 0 and "left_out" in row["forms"]["flex"]  # no backward on a CPU
    assert row["activation_ratio"] < 0.5 and row["memory"]["budget"] > 0

    (tmp_path / "bench.json").write_text((tmp_path / "runs/gpu.json").read_text())
    page = report.page(report.read(tmp_path))
    assert "## On a GPU" in page and "CPU, random weights" in page and "| tiny " in page


def test_a_size_that_would_take_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(gpu, "measured", lambda size, *_: {"size": size, "elapsed": 100.0})
    rows = list(gpu.measured_sizes(gpu.SIZES, torch.device("cpu")))
    assert [row["size"] for row in rows] == ["1B", "2B", "8B"]
    assert ["left_out" in row for row in rows] == [False, False, True]


def test_targets_of_a_gpu_are_judged_where_they_apply():
    timed = {"arms": {"ours": {"median": 1.0}, "stock way": {"median": 2.6}}, "ratios": {"stock way": 2.6}}
    row = {"update": timed, "step": timed, "activation_ratio": 0.39}
    row |= {"activation_bytes": {"ours": 39, "stock way": 100}}
    judged = {size: [result.met for result in report.gpu_results(row | {"size": size})] for size in gpu.SIZES}
    assert judged == {"1B": [], "2B": [True], "8B": [False, True]}
