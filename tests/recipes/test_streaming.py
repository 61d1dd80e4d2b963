"""The recipe on stalls, with a few clips and two steps."""

import csv
import json
import os
import subprocess
import sys

import pytest

ONE_PROCESS = """
import sys
sys.path.insert(0, {recipes!r})
import streaming

streaming.judge = lambda: {{policy: streaming.evaluate(streaming.FOLDER / policy) for policy in streaming.SHARES}}
streaming.main(["--quick", "--seed", "1"])
"""
"""Most of several processes' time would be imports."""


@pytest.mark.engine
@pytest.mark.slow
def test_streaming_ends_in_its_tables(repo, tmp_path, without_vllm):
    (tmp_path / "small.py").write_text(ONE_PROCESS.format(recipes=str(repo / "recipes")))
    env = os.environ | without_vllm
    done = subprocess.run(
        [sys.executable, "small.py"], cwd=tmp_path, capture_output=True, text=True, timeout=500, env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    folder = tmp_path / "runs/streaming"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seed"] == 1 and summary["results"].keys() == {"never", "half", "always"}
    for result in summary["results"].values():
        assert result["srcc"].keys() >= {"missing", "true, summary", "true, frames", "true", "false"}
        counts = dict(result["clips"])
        assert counts.pop("all") == sum(counts.values()) == 16
    told = {}
    for policy in summary["results"]:
        with (folder / f"data/train_{policy}.csv").open(newline="") as file:
            told[policy] = sum(row["stalls"] != "" for row in csv.DictReader(file))
    assert told == {"never": 0, "half": 8, "always": 16}
    assert "| text in training " in done.stdout and (folder / "streaming.md").read_text() in done.stdout
