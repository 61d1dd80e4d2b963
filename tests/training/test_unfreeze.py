"""The motion encoder is trained where a run says so, as in VQA²'s stage 1, and its features are then not kept."""

import pytest
import torch
from torch import nn

from vqathinker.data import ClipLoader, score_samples
from vqathinker.policy import STREAMS, FeatureCache, VQAThinkerForConditionalGeneration, modeling
from vqathinker.synth import tiny_policy
from vqathinker.training import SFTCollator, SFTTrainer, VQASFTConfig, sft_dataset
from vqathinker.training.console import parts_line

STAGE_1_MOTION = ["language_model", "vision_tower", "multi_modal_projector"]
"""What it freezes."""


@pytest.fixture
def stage_1(policy):
    policy.freeze(STAGE_1_MOTION)
    policy.unfreeze(["motion_encoder"])
    return policy


def collator(policy, processor):
    return SFTCollator(processor, ClipLoader(processor.load_clip), policy)


def test_stage_1_changes_the_motion_encoder_and_keeps_no_features(stage_1, processor, train_rows, tmp_path):
    before = {name: value.clone() for name, value in stage_1.state_dict().items()}
    rows = sft_dataset(score_samples(train_rows[:4]), processor, 0)
    collate = collator(stage_1, processor)
    batch = collate(rows.to_list())
    assert "motion_frames" in batch and "motion_features" not in batch
    settings = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "use_cpu": True}
    args = VQASFTConfig(str(tmp_path), report_to="none", save_strategy="no", **settings)
    trainer = SFTTrainer(stage_1, args, data_collator=collate, train_dataset=rows, processing_class=processor)
    trainer.train()

    changed = {name for name, value in stage_1.state_dict().items() if not torch.equal(value, before[name])}
    weights = {name for name, _ in stage_1.named_parameters() if "motion_" in name}
    assert changed == weights  # and no running statistics of a batch norm, which are buffers
    assert not any(module.training for module in stage_1.model.motion_encoder.modules())

    # The next stage keeps features again, those of the new weights.
    trainer.save_model(tmp_path)
    after = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert not any(p.requires_grad for p in after.model.motion_encoder.parameters())
    kept = collator(after, processor)(rows.to_list())["motion_features"]
    with torch.no_grad():
        new = STREAMS["motion"].features(stage_1.model, batch["motion_frames"])
        old = STREAMS["motion"].features(VQAThinkerForConditionalGeneration(after.config).model, batch["motion_frames"])
    torch.testing.assert_close(kept, new)
    assert not torch.allclose(torch.stack(kept), torch.stack(old))


def test_the_gradient_is_the_slope_of_the_loss(stage_1, processor, train_rows):
    """Along the gradient itself, by a central difference."""
    for module in stage_1.model.motion_encoder.modules():
        if isinstance(module, nn.BatchNorm3d):  # whose scales are 0 at the end of a new residual branch
            nn.init.uniform_(module.weight, 0.5, 1.5)
    batch = collator(stage_1, processor)(sft_dataset(score_samples(train_rows[:2]), processor, 0).to_list())
    stage_1(**batch).loss.backward()
    weights = list(stage_1.model.motion_encoder.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in weights)
    norm = torch.stack([weight.grad.norm() for weight in weights]).norm()
    losses = []
    with torch.no_grad():
        for step in (1e-2, -2e-2):
            for weight in weights:
                weight += step * weight.grad / norm
            losses.append(stage_1(**batch).loss)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(norm.item(), rel=0.02)


def test_features_are_forgotten_once_it_is_trained(policy, processor, frames):
    cache, clip = FeatureCache(policy), processor.from_array(frames)
    assert "motion_features" in cache.inputs(["a"], [clip])[0]
    policy.unfreeze(["motion_encoder"])
    assert "motion_frames" in cache.inputs(["a"], [clip])[0]
    policy.model.motion_encoder.blocks[0].multipathway_blocks[0].conv.weight.data += 0.1
    policy.model.fix_streams()
    [seen] = cache.inputs(["a"], [clip])
    torch.testing.assert_close(
        seen["motion_features"], STREAMS["motion"].features(policy.model, [clip.motion_frames])[0]
    )


def test_a_collator_made_before_gives_no_features_once_it_is_trained(policy, processor, train_rows):
    rows = sft_dataset(score_samples(train_rows[:1]), processor, 0).to_list()
    collate = collator(policy, processor)
    assert "motion_features" in collate(rows)
    policy.unfreeze(["motion_encoder"])
    batch = collate(rows)
    assert "motion_frames" in batch and "motion_features" not in batch


def test_the_console_says_what_is_trained(stage_1):
    assert parts_line(stage_1, STAGE_1_MOTION).endswith(f"as they are: {', '.join(STAGE_1_MOTION)}")
    assert parts_line(tiny_policy()[0], []).endswith("as they are: motion_encoder")


def test_freezing_the_language_model_freezes_a_head_of_its_own(policy):
    policy.lm_head.weight = nn.Parameter(policy.lm_head.weight.detach().clone())  # as in InternVL3
    policy.freeze(["language_model"])
    assert not policy.lm_head.weight.requires_grad


def test_what_cannot_be_unfrozen_is_refused(policy, monkeypatch):
    with pytest.raises(ValueError, match=r"unfreeze=\['vision_tower'\]: must be among \['motion_encoder'\]"):
        policy.unfreeze(["vision_tower"])
    with pytest.raises(ValueError, match=r"unfreeze=\['motion_encoder'\]: must be among \[\]"):
        tiny_policy(motion_tokens=0)[0].unfreeze(["motion_encoder"])
    monkeypatch.setattr(modeling, "is_deepspeed_zero3_enabled", lambda: True)
    policy.unfreeze([])
    with pytest.raises(ValueError, match=r"under ZeRO-3: .*zero2\.yaml"):
        policy.unfreeze(["motion_encoder"])
