"""Engines by name."""

import pytest

from vqathinker.data import Sample
from vqathinker.rollout import ENGINES, Completion, TransformersEngine, make_engine
from vqathinker.scoring import QualityScorer
from vqathinker.tasks import TASKS


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
    assert engine.settings == {"batch_size": 4, "longest_answer": 9, "vllm_memory": 0.5, "longest_prompt": 0}


def test_a_scorer_takes_it_by_name(monkeypatch, policy, processor, frames):
    monkeypatch.setitem(ENGINES, "silent", lambda policy, processor, **settings: Silent(**settings))
    scorer = QualityScorer(policy, processor, engine="silent", batch_size=2, max_new_tokens=9)
    assert scorer.score(frames).status == "no_answer"
    assert scorer.engine.settings["batch_size"] == 2 and scorer.engine.settings["longest_answer"] == 9


def test_two_clips_need_the_tokens_of_both_and_of_the_comparison(monkeypatch, policy, processor):
    monkeypatch.setitem(ENGINES, "silent", lambda policy, processor, **settings: Silent(**settings))
    made = [QualityScorer(policy, processor, engine="silent", clips_per_prompt=n).engine.settings for n in (1, 2, 3)]
    pair = processor.render(TASKS["compare"].messages(Sample("", "compare", ("a", "b")), processor))
    tokens = [settings["longest_prompt"] for settings in made]
    assert tokens[:2] == [len(processor.prompt_ids()), len(pair.ids)]
    assert tokens[2] - tokens[1] > processor.num_frames  # a third clip's
    with pytest.raises(ValueError, match="clips_per_prompt=0: must be at least"):
        QualityScorer(policy, processor, clips_per_prompt=0)


def test_the_default_is_the_policy_itself(policy, processor):
    engine = make_engine(policy, processor, batch_size=3)
    assert isinstance(engine, TransformersEngine) and engine.batch_size == 3
    assert engine.suppress_tokens == [policy.config.image_token_id]


def test_an_unknown_engine_is_refused():
    with pytest.raises(
        ValueError, match=r"engine='warp': must be one of \['transformers', 'vllm'\]; put your own engine into"
    ):
        make_engine(None, None, "warp")
