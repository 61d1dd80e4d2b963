"""A stream of one's own is treated like the others: prompts, freezing, caches, copies, checkpoints."""

import pytest
import torch
from torch import nn

from vqathinker.perturb import FrameMap
from vqathinker.policy import STREAMS, FeatureCache, MotionConfig, VisualStream, VQAThinkerForConditionalGeneration
from vqathinker.synth import tiny_policy

NAMES = ["spatial", "shade", "motion"]


class Shade(VisualStream):
    """Two tokens for each key frame, of the frames that the motion encoder sees."""

    name, label, takes, per_frame = "shade", "Shade", "motion_frames", True
    trunk, head, fixed = ("shade_encoder",), ("shade_projector",), ("shade_encoder",)

    def build(self, config):
        return {"shade_encoder": nn.Linear(3, 6), "shade_projector": nn.Linear(3, config.text_config.hidden_size)}

    def tokens(self, sizes):
        return 2

    def features(self, model, clips):
        means = [clip.float().mean((1, 3, 4)) / 255 for clip in clips]  # (T, r, 3, s, s) to (T, 3)
        return [model.shade_encoder(mean).unflatten(1, (2, 3)) for mean in means]

    def project(self, model, features):
        return [model.shade_projector(own) for own in features]


@pytest.fixture
def shade(monkeypatch):
    monkeypatch.setitem(STREAMS, "shade", Shade())
    return tiny_policy(streams=NAMES)


def test_its_tokens_are_in_the_prompt_and_in_every_pass(shade, frames):
    policy, processor = shade
    policy.eval()
    prompt = processor.render()
    assert [slot.stream for slot in prompt.slots] == ["spatial", "shade"] * 6 + ["motion"]
    assert prompt.counts == (4, 2) * 6 + (6,)
    batch = processor([frames])
    clip = processor.from_array(frames)
    seen = FeatureCache(policy).inputs(["a"], [clip])[0]
    assert sorted(seen) == ["frames", "motion_features", "shade_features"]
    with torch.no_grad():
        [features] = policy.encode(**{name: [value] for name, value in seen.items()})
        embeds = policy.prompt_embeds(prompt, [features])
        torch.testing.assert_close(policy(**batch).logits, policy(inputs_embeds=embeds[None]).logits)


def test_what_it_declares_fixed_is_never_trained(shade, frames, tmp_path):
    policy, processor = shade
    policy.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.streams == NAMES and type(processor).from_pretrained(tmp_path).streams == NAMES
    for model in (policy, again):
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert not any("shade_encoder" in name or "motion_encoder" in name for name in trained)
        assert any("shade_projector" in name for name in trained)
    for part in ("shade_encoder", "motion_encoder"):
        with pytest.raises(ValueError, match=rf"freeze=\['{part}'\]: must be among .*'shade_projector'"):
            again.freeze([part])
    again.freeze(["shade_projector"])
    batch = processor([frames])
    again(**batch, labels=batch["input_ids"]).loss.backward()
    assert all(p.grad is None for name, p in again.named_parameters() if "shade" in name)


def test_black_frames_and_copies_show_it_too(shade, frames):
    policy, processor = shade
    policy.eval()
    clip, frame_map = processor.from_array(frames), FrameMap("official", 6, (5, -1, 3, 2, 1, 0))
    moved = {name: [frame_map.apply(getattr(clip, name))] for name in ("frames", "motion_frames")}
    with torch.no_grad():
        [original] = policy.encode(frames=[clip.frames], motion_frames=[clip.motion_frames])
        [direct] = policy.encode(**moved)
        features, blanks = policy.blanks(processor.blank_clip())
    assert features["shade"].shape == (2, 3) and blanks["shade"].shape == (2, 128)
    mapped = original.perturbed(frame_map, blanks, {"motion": direct["motion"]})
    torch.testing.assert_close(mapped["shade"], direct["shade"])


def test_a_policy_made_from_internvl_has_it(shade, internvl, frames):
    motion = MotionConfig(model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=64)
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, "random", motion, streams=NAMES)
    assert policy.config.streams == NAMES and policy.model.shade_projector.out_features == 48
    assert not any(p.requires_grad for p in policy.model.shade_encoder.parameters())


def test_without_motion_tokens_nothing_of_motion_is_handed_on(frames):
    _, processor = tiny_policy(motion_tokens=0)
    assert "motion_frames" not in processor([frames])


def test_other_streams_after_the_first_prompt_change_the_prompt(shade):
    _, processor = shade
    before = len(processor.prompt_ids())
    processor.streams = ["spatial", "motion"]
    assert len(processor.prompt_ids()) < before


def test_the_tiny_policys_vocabulary_does_not_depend_on_what_is_registered(shade):
    with_shade = shade[1].tokenizer.get_vocab()
    STREAMS.pop("shade")
    assert tiny_policy()[1].tokenizer.get_vocab() == with_shade


@pytest.mark.parametrize("entry", [Shade, STREAMS["motion"]])
def test_an_entry_that_is_no_stream_of_that_name_is_refused(monkeypatch, entry):
    monkeypatch.setitem(STREAMS, "shade", entry)
    with pytest.raises(ValueError, match=r"STREAMS\['shade'\] is .*: it must be an instance of a VisualStream"):
        tiny_policy(streams=NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": ("vision_tower",)}, r"builds \['vision_tower'\], which the policy already has"),
        ({"trunk": ()}, r"builds \['shade_encoder'\], which are neither in its trunk nor in its head"),
    ],
)
def test_modules_that_nobody_could_tell_apart_are_refused(monkeypatch, changes, message):
    class Other(Shade):
        def build(self, config):
            return dict.fromkeys((*self.head, "shade_encoder"), nn.Linear(3, 6))

    for name, value in changes.items():
        monkeypatch.setattr(Other, name, value, raising=False)
    monkeypatch.setitem(STREAMS, "shade", Other())
    with pytest.raises(ValueError, match=message):
        tiny_policy(streams=NAMES)


def test_an_unknown_stream_is_refused():
    with pytest.raises(ValueError, match=r"put your own stream into vqathinker\.policy\.STREAMS before"):
        tiny_policy(streams=["spatial", "depth"])


def test_several_prompts_about_one_clip_look_at_it_once(frames):
    policy, processor = tiny_policy()
    policy.freeze(["vision_tower", "multi_modal_projector"])
    clips, shown = [processor.from_array(frames), processor.from_array(frames[::-1].copy())], []
    policy.model.vision_tower.register_forward_hook(
        lambda module, given, named, out: shown.append(len(named["pixel_values"])), with_kwargs=True
    )
    cache = FeatureCache(policy)
    first, other, again, alone = cache.inputs(["a", "b", "a", None], [clips[0], clips[1], clips[0], clips[0]])
    cache.inputs(["b"], [clips[1]])
    assert sum(shown) == 4 * 6  # of these features none are kept for the next call
    for name, value in first.items():
        assert torch.equal(value, again[name]) and not torch.equal(value, other[name])
        torch.testing.assert_close(value, alone[name])
