"""The recipes on ladders, with a few clips and two steps."""

import json
import os
import subprocess
import sys

import pytest

ONE_PROCESS = """
import sys
sys.path.insert(0, {recipes!r})
import pairs

pairs.judge = lambda policies, ladders: {{name: pairs.evaluate(policy, ladders) for name, policy in policies.items()}}
pairs.main(["--quick", "--seed", "1"])
"""
"""Most of several processes' time would be imports."""


@pytest.mark.engine
@pytest.mark.slow
def test_pairs_ends_in_its_tables(repo, tmp_path, without_vllm):
    (tmp_path / "small.py").write_text(ONE_PROCESS.format(recipes=str(repo / "recipes")))
    env = os.environ | without_vllm
    done = subprocess.run(
        [sys.executable, "small.py"], cwd=tmp_path, capture_output=True, text=True, timeout=500, env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    summary = json.loads((tmp_path / "runs/pairs/summary.json").read_text())
    assert summary["seed"] == 1 and summary["results"].keys() == {"sft", "grpo"}
    assert "| policy " in done.stdout and (tmp_path / "runs/pairs/pairs.md").read_text() in done.stdout
    history = json.loads((tmp_path / "runs/pairs/grpo/trainer_state.json").read_text())["log_history"]
    assert any("rewards/order/mean" in entry for entry in history)
