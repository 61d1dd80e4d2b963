"""The digits of a small run are those recorded in digits.json, as no change was meant to touch them.

One that is meant to records them anew, and says why: `python tests/golden/record.py tests/golden/digits.json`.
"""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def digits(pytestconfig, tmp_path_factory, without_vllm):
    """Those recorded, and those of a run now."""
    folder, file = pytestconfig.rootpath / "tests/golden", tmp_path_factory.mktemp("golden") / "digits.json"
    command = [sys.executable, str(folder / "record.py"), str(file)]
    env = os.environ | without_vllm
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "digits.json", file)]


@pytest.mark.slow
def test_prompts_are_the_recorded_token_ids(digits):
    recorded, now = digits
    assert recorded["prompts"] == now["prompts"] and len(now["prompts"]) == 6


@pytest.mark.slow
def test_steps_and_scores_are_the_recorded_ones(digits):
    recorded, now = digits
    assert [sorted(entry) for entry in now["steps"]] == [sorted(entry) for entry in recorded["steps"]]
    if any(recorded[name] != now[name] for name in ("torch", "cpu")):  # kernels round otherwise, and answers follow
        start, first = ({**entry} for entry in now["steps"][:2])
        assert start["eval_parse_rate"] == pytest.approx(recorded["steps"][0]["eval_parse_rate"], abs=0.5)
        assert first["completions/mean_length"] == pytest.approx(
            recorded["steps"][1]["completions/mean_length"], rel=0.3
        )
        return
    for ours, theirs in zip(now["steps"], recorded["steps"], strict=True):
        for name, value in theirs.items():  # the last bit of numpy's sums hangs on where in memory the numbers lie
            assert ours[name] == (value if value is None else pytest.approx(value, rel=1e-12)), (ours["step"], name)
    assert now["scores"] == recorded["scores"]
    assert sum(status == "ok" for _, status, _ in now["scores"]) >= 3  # they say something
