"""The recipes on ladders, with a few clips and two steps."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.engine
def test_pairs_ends_in_its_tables_and_the_controls_in_theirs(repo, tmp_path, without_vllm):
    def run(*command):
        env = os.environ | without_vllm | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=500, env=env
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    out = run(repo / "recipes/pairs.py", "--quick", "--seed", "1")
    summary = json.loads((tmp_path / "runs/pairs/summary.json").read_text())
    assert summary["seed"] == 1 and summary["results"].keys() == {"sft", "grpo"}
    assert "| policy " in out and (tmp_path / "runs/pairs/pairs.md").read_text() in out
    history = json.loads((tmp_path / "runs/pairs/grpo/trainer_state.json").read_text())["log_history"]
    assert any("rewards/order/mean" in entry for entry in history)

    small = tmp_path / "small.py"  # the ladders and clips that are there, two steps, in one process
    small.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(repo / 'recipes')!r})\n"
        "import pairs, pairs_controls\n"
        "pairs_controls.prepare_default = pairs.prepare_ladders = lambda *a: None\n"
        "pairs.STEPS[1] = pairs_controls.STEPS[1] = '2'\n"
        "def here(arm, seed, jobs):\n"
        "    pairs_controls.folder_of(arm, seed).mkdir(parents=True, exist_ok=True)\n"
        "    pairs_controls.run_arm(arm, seed)\n"
        "pairs_controls.launch = here\n"
        "pairs_controls.main(['--seeds', '0', '--arms', 'compare,low'])\n"
    )
    out = run(small)
    table = json.loads((tmp_path / "runs/pairs_controls/controls.json").read_text())
    assert table.keys() == {"sft_compare", "sft_low", "compare", "low"} and "order consistency" in out
    assert "words" in table["compare"]["0"] and "words" not in table["low"]["0"]
