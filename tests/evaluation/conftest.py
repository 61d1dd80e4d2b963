import zlib

import pytest

from vqathinker import QualityScorer
from vqathinker.rollout import Completion


class Judge:
    """Stands in for the engine: every clip gets a score that follows from its frames."""

    def __init__(self, tokenizer, say=None):
        self.tokenizer = tokenizer
        self.say = say or (lambda seed: f"<think>seen</think><answer>{1 + seed % 400 / 100:.2f}</answer>")

    def generate(self, prompts, n, sampling, seeds=None):
        return [[Completion(self.tokenizer(self.say(seed))["input_ids"])] * n for seed in seeds]


@pytest.fixture
def scorer(policy, processor):
    scorer = QualityScorer(policy, processor, max_new_tokens=12)
    scorer.engine = Judge(processor.tokenizer)
    return scorer


@pytest.fixture
def score_of(processor):
    """What `Judge` says of a file."""
    return lambda video: 1 + zlib.crc32(processor.load_clip(video).frames.numpy()) % 400 / 100
