"""Engines by name."""

import pytest

from vqathinker.rollout import ENGINES, Completion, TransformersEngine, make_engine


class Silent:
    """Answers nothing."""

    def __init__(self, **settings):
        self.settings = settings

    def generate(self, prompts, n, sampling, seeds=None):
        return [[Completion([0])] * n for _ in prompts]


def test_an_engine_of_ones_own_is_made_by_its_name(monkeypatch):
    monkeypatch.setitem(ENGINES, "silent", lambda policy, processor, **settings: Silent(**settings))
    engine = make_engine(None, None, "silent", batch_size=4, longest_answer=9)
    assert isinstance(engine, Silent)
    assert engine.settings == {"batch_size": 4, "longest_answer": 9, "vllm_memory": 0.5}


def test_the_default_is_the_policy_itself(policy, processor):
    engine = make_engine(policy, processor, batch_size=3)
    assert isinstance(engine, TransformersEngine) and engine.batch_size == 3
    assert engine.suppress_tokens == [policy.config.image_token_id]


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match=r"engine='warp': must be one of \['transformers', 'vllm'\]; put one of your"):
        make_engine(None, None, "warp")
