"""Trainers take policies with a stream of somebody's own like any other."""

import pytest
import torch
from torch import nn

import rewards
from rewards import text_of
from vqathinker.data import ClipLoader, clip_dataset, score_samples
from vqathinker.policy import STREAMS, VisualStream
from vqathinker.synth import tiny_policy
from vqathinker.training import SFTCollator, VQAGRPOTrainer, sft_dataset


class Change(VisualStream):
    """One token for the whole clip: how much each colour changes from key frame to key frame."""

    name, label, takes, per_frame = "change", "Change", "frames", False
    trunk, head, remembered = ("change_encoder",), ("change_projector",), True

    def build(self, config):
        return {"change_encoder": nn.Linear(3, 4), "change_projector": nn.Linear(4, config.text_config.hidden_size)}

    def tokens(self, sizes):
        return 1

    def features(self, model, clips):
        means = [clip.float().mean((2, 3)) / 255 for clip in clips]
        return [model.change_encoder(mean.diff(dim=0).abs().mean(0, keepdim=True)) for mean in means]

    def project(self, model, features):
        return [model.change_projector(own) for own in features]


class Distinct:
    """A reward with a gradient at random weights."""

    __name__ = "distinct"

    def __call__(self, completions, **columns):
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def change(monkeypatch):
    monkeypatch.setitem(STREAMS, "change", Change())
    return tiny_policy(streams=["spatial", "change", "motion"])


@pytest.mark.parametrize("frozen", [False, True])
def test_grpo_trains_it_on_clips_and_their_copies(change, train_rows, config, frozen):
    policy, processor = change
    policy.freeze(["change_encoder", "vision_tower", "multi_modal_projector"] if frozen else [])
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    settings = config(beta=0, max_steps=1, perturbation_variant="official")
    rubric = rewards.Rubric([Distinct(), rewards.Contrast()])
    trainer = VQAGRPOTrainer(policy, rubric, settings, clip_dataset(train_rows, processor), processor)
    trainer.train()
    seen = trainer._buffered_inputs[0]["clips"].clips[0]
    assert ("change_features" in seen) is frozen and "motion_features" in seen
    after = policy.state_dict()
    changed = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert "change_projector" in changed and ("change_encoder" in changed) is not frozen


def test_the_warm_start_shows_it_too(change, train_rows):
    policy, processor = change
    policy.freeze(["change_encoder"])
    collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    batch = collator(list(sft_dataset(score_samples(train_rows[:2]), processor, seed=0)))
    assert {"frames", "change_features", "motion_features"} <= batch.keys()
    policy(**batch).loss.backward()
    assert policy.model.change_projector.weight.grad is not None and policy.model.change_encoder.weight.grad is None
