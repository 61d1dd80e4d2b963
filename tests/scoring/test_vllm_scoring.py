"""Scoring with vLLM for real, on the CPU build."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

pytest.importorskip("vllm", reason="vllm is not installed")

CODE = """
import json, sys
from vqathinker import QualityScorer
from vqathinker.rollout import Sampling

base, *videos = sys.argv[1:]
def answers(videos, **settings):
    scorer = QualityScorer.from_pretrained(base, "cpu", max_new_tokens=8, vllm_memory=0.2, **settings)
    found = [list(result.answers) for batch in scorer.score_many(videos) for result in batch]
    pairs = [(videos[0], videos[1]), (videos[2], videos[0])]  # two clips in a prompt
    return scorer, found + [list(pair.answers) for batch in scorer.compare_many(pairs) for pair in batch]

_, plain = answers(videos)
scorer, fast = answers(videos, engine="vllm", batch_size=2)
scorer.samples, scorer.sampling = 2, Sampling(8, temperature=1.5, top_k=0)
def draw(videos):
    return [list(result.answers) for batch in scorer.score_many(videos) for result in batch]
forth, back = draw(videos), draw(videos[::-1])[::-1]
print("RESULT" + json.dumps([plain, fast, forth, back]))
"""


def test_vllm_gives_the_greedy_answers_of_transformers_and_seeded_samples(base, train_rows, tmp_path):
    videos = [row.video for row in train_rows[:3]]
    command = [sys.executable, "-c", CODE, str(base), *videos]
    env = os.environ | {"TORCHDYNAMO_DISABLE": "1"}  # vLLM compiles its sampler, which takes longer than the sampling
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    plain, fast, forth, back = json.loads(line.removeprefix("RESULT"))
    assert fast == plain and forth == back
    assert [len(answers) for answers in plain] == [1, 1, 1, 2, 2] and plain[3] != plain[4]  # pairs in both orders
    assert all(first != second for first, second in forth)
