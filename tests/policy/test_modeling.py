import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import perturb
from perturb import FrameMap
from vqathinker.policy import STREAMS, VQAThinkerForConditionalGeneration, tokens_in
from vqathinker.scoring import QualityScorer
from vqathinker.synth import tiny_policy


@pytest.fixture
def batch(processor, frames):
    return processor([frames, frames[::-1].copy()])


@pytest.mark.contract
def test_auto_classes_and_identical_score_after_saving(policy, processor, clip_set, tmp_path):
    policy.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert type(again) is VQAThinkerForConditionalGeneration
    reloaded = AutoProcessor.from_pretrained(tmp_path)
    assert reloaded.to_dict() == processor.to_dict() and reloaded.prompt_ids() == processor.prompt_ids()
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    video = clip_set / "videos" / "val" / "00000.mp4"
    scores = [QualityScorer(p, q, max_new_tokens=16).score(video) for p, q in ((policy, processor), (again, reloaded))]
    assert scores[0].answers == scores[1].answers and len(scores[0].answers[0]) > 0


def test_a_checkpoint_without_every_weight_is_refused(policy, tmp_path):
    weights = {name: tensor.clone() for name, tensor in policy.state_dict().items() if "motion_projector" not in name}
    policy.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"6 of 340 are missing .*motion_projector"):
        VQAThinkerForConditionalGeneration.from_pretrained(tmp_path)


@pytest.mark.parametrize("mode", list(perturb.MODES))
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_map_on_frames_and_on_features_is_the_same_model_input(policy, processor, frames, mode, variant):
    clip = processor.from_array(frames)
    frame_map = perturb.draw(6, np.random.default_rng(1), [mode], variant)
    runs = frame_map.apply(clip.motion_frames)
    with torch.no_grad():
        [direct] = policy.encode(frames=[frame_map.apply(clip.frames)], motion_frames=[runs])
        [original] = policy.encode(frames=[clip.frames], motion_frames=[clip.motion_frames])
        mapped = original.perturbed(frame_map, policy.blanks(processor.blank_clip())[1], {"motion": direct["motion"]})
    assert not frame_map.is_identity and mapped.num_frames == len(frame_map.source)
    prompt = processor.render(frames=[mapped.num_frames])
    shown = [tokens_in(prompt, [features]) for features in (mapped, direct)]
    torch.testing.assert_close(*shown, atol=1e-5, rtol=1e-5)


def test_gradients_reach_everything_but_slowfast(policy, batch):
    policy.train()
    output = policy(**batch, labels=batch["input_ids"])
    output.loss.backward()
    for name, parameter in policy.named_parameters():
        if "motion_encoder" in name:
            assert not parameter.requires_grad and parameter.grad is None
        elif "mask_token" not in name:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert not any(module.training for module in policy.model.motion_encoder.modules())


@pytest.mark.contract
def test_gradient_checkpointing_changes_nothing(policy, batch):
    def gradients():
        policy.zero_grad()
        policy(**batch, labels=batch["input_ids"]).loss.backward()
        return policy.model.vision_tower.embeddings.patch_embeddings.projection.weight.grad.clone()

    policy.train()
    plain = gradients()
    policy.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients(), plain)


def test_encoded_features_replace_pixels(policy, processor, batch):
    with torch.no_grad():
        pixels = policy(**batch, logits_to_keep=1).logits
        features = policy.encode(frames=batch["frames"], motion_frames=batch["motion_frames"])
        embeds = torch.stack([policy.prompt_embeds(processor.render(), [f]) for f in features])
        from_embeds = policy(inputs_embeds=embeds, attention_mask=batch["attention_mask"], logits_to_keep=1).logits
        tokens = torch.stack([tokens_in(processor.render(), [f]) for f in features])
        visual = policy(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], visual_embeds=tokens, logits_to_keep=1
        ).logits
    torch.testing.assert_close(from_embeds, pixels)
    torch.testing.assert_close(visual, pixels)
    options = {"max_new_tokens": 5, "do_sample": False}
    one = policy.generate(**batch, **options)
    two = policy.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], visual_embeds=tokens, **options
    )
    assert one.tolist() == two.tolist() and one.shape == (2, 5)


def test_larger_frames_interpolate_the_position_embedding(policy, frames):
    _, processor = tiny_policy()
    processor.image_size = 96
    batch = processor([frames])
    assert STREAMS["spatial"].tokens(processor) == 9
    assert batch["input_ids"].shape[1] == 6 * 5 + len(tiny_policy()[1].prompt_ids())
    with torch.no_grad():
        assert torch.isfinite(policy(**batch).logits).all()


def test_settings_changed_after_the_first_prompt_change_the_prompt(processor):
    before = len(processor.prompt_ids())
    processor.image_size = 96
    assert len(processor.prompt_ids()) == before + 6 * 5


def test_freezing_leaves_parts_as_they_are(policy, batch):
    policy.freeze(["vision_tower", "motion_projector"])
    policy(**batch, labels=batch["input_ids"]).loss.backward()
    frozen = {name for name, p in policy.named_parameters() if p.grad is None}
    assert any("vision_tower" in name for name in frozen) and not any("language_model" in name for name in frozen)
    with pytest.raises(ValueError, match="lm_head"):
        policy.freeze(["lm_head"])
    with pytest.raises(ValueError, match="no motion branch"):
        tiny_policy(motion_tokens=0)[0].freeze(["motion_projector"])


def test_without_motion_tokens_there_is_no_motion_branch(frames):
    policy, processor = tiny_policy(motion_tokens=0)
    assert not hasattr(policy.model, "motion_encoder")
    batch = processor([frames])
    assert "Motion" not in processor.tokenizer.decode(processor.prompt_ids())
    with torch.no_grad():
        assert torch.isfinite(policy(**batch).logits).all()


@pytest.mark.parametrize("motion_tokens", [1, 3])
def test_sampled_motion_input_and_any_number_of_tokens(frames, motion_tokens):
    policy, processor = tiny_policy(motion_tokens=motion_tokens, motion_run_length=1)
    assert policy.config.motion_input == "sampled"
    clip = processor.from_array(frames)
    assert clip.motion_frames.shape == (6, 1, 3, 48, 48)
    with torch.no_grad():
        [features] = policy.encode(frames=[clip.frames], motion_frames=[clip.motion_frames])
    assert features["motion"].shape == (motion_tokens, 128)


def test_prompt_and_clip_that_disagree_are_refused(policy, batch):
    shown = {"input_ids": batch["input_ids"], "frames": batch["frames"], "visual_index": batch["visual_index"]}
    with pytest.raises(ValueError, match="60 placeholders but the clips give 50"):
        policy(**shown, motion_features=torch.zeros(2, 1, 640))
    with pytest.raises(ValueError, match="motion_frames or motion_features"):
        policy(**shown)
    with pytest.raises(ValueError, match="without visual_index"):
        policy(**{**batch, "visual_index": None})


def test_a_blank_position_shows_a_black_frame(policy, processor, frames):
    clip = processor.from_array(frames)
    frame_map = FrameMap("drop", 6, (0, -1, 2, 3, 4, 5))
    black = clip.frames.clone()
    black[1] = 0
    assert torch.equal(frame_map.apply(clip.frames), black)
