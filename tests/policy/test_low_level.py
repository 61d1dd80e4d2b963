"""Patches of key frames at their own resolution, and the stream that looks at them."""

import copy
import json

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, ViTConfig, ViTForImageClassification

import rewards
from rewards import text_of
from vqathinker.cli import main
from vqathinker.clips import cut_patches, open_clip, place_patches, write_video
from vqathinker.data import ClipLoader, clip_dataset, score_samples
from vqathinker.perturb import FrameMap
from vqathinker.policy import (
    STREAMS,
    FeatureCache,
    IncompleteCheckpoint,
    VQAThinkerConfig,
    VQAThinkerForConditionalGeneration,
    add_low_level,
    load_policy,
)
from vqathinker.policy.low_level import load_encoder
from vqathinker.training import SFTCollator, VQAGRPOConfig, VQAGRPOTrainer, budget, sft_dataset

VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
LANDSCAPE = ((8, 23), (248, 23), (488, 23), (728, 23), (8, 293), (248, 293), (488, 293), (728, 293))


@pytest.mark.parametrize(
    ("frame", "size", "fitted", "corners"),
    [
        # cells of 240 x 270 of the fitted 960 x 540, patches of 224 in their middle
        ((1920, 1080), 224, (960, 540), LANDSCAPE),
        ((1080, 1920), 224, (540, 960), tuple(sorted(((y, x) for x, y in LANDSCAPE), key=lambda c: (c[1], c[0])))),
        ((640, 640), 224, (540, 540), ((23, 23), (293, 23), (23, 293), (293, 293))),  # 2 x 2 is all that fits
        ((96, 96), 32, (96, 96), ((8, 0), (56, 0), (8, 32), (56, 32), (8, 64), (56, 64))),  # 3 rows of 2 cells 48 x 32
        ((100, 301), 224, (100, 301), ((-62, 38),)),  # never enlarged
    ],
)
def test_where_patches_lie(frame, size, fitted, corners):
    place = place_patches(*frame, size, 8)
    assert (place.width, place.height) == fitted
    assert place.corners == corners


def test_patches_are_the_frames_own_pixels_and_borders_of_small_frames_are_repeated():
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 17, 3), dtype=np.uint8)
    patches = cut_patches(frames, 4, 8)  # 2 rows of 4 cells of 4.25 x 4.5
    assert patches.shape == (2, 8, 3, 4, 4)
    np.testing.assert_array_equal(patches[1, 6], frames[1, 4:8, 8:12].transpose(2, 0, 1))
    [small] = cut_patches(frames[:1, :3, :], 6, 8).transpose(0, 1, 3, 4, 2)  # two rows above, one below
    assert small.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(small[0, 2:5], frames[0, :3, 1:7])
    assert (small[0, :2] == small[0, 2]).all() and (small[0, 5] == small[0, 4]).all()
    box = cut_patches(np.repeat(np.repeat(frames, 2, 1), 2, 2), 4, 8, (9, 17))
    assert np.abs(box.astype(int) - patches).mean() < 64  # shrunk to the same size by a filter, not by leaving out


@pytest.fixture(scope="module")
def low(base, tmp_path_factory):
    """Folder of the tiny policy with four low-level tokens a frame."""
    folder = tmp_path_factory.mktemp("low")
    torch.manual_seed(0)
    add_low_level(base, folder, 4, low_config=VIT)
    return folder


@pytest.fixture(scope="module")
def fresh(low):
    return load_policy(low, "cpu")[0]


@pytest.fixture
def policy(fresh):
    """With a gain, so that tokens differ."""
    policy = copy.deepcopy(fresh)
    torch.nn.init.normal_(policy.model.low_projector.layer_norm.weight)
    return policy


@pytest.fixture
def processor(low):
    return AutoProcessor.from_pretrained(low)


def test_a_new_stream_gives_zeros_behind_each_frame_and_leaves_the_rest_of_the_policy(base, fresh, processor, frames):
    policy = copy.deepcopy(fresh)
    old, _ = load_policy(base, "cpu")
    weights, known = policy.state_dict(), old.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in known.items())
    assert {name.split(".")[1] for name in weights.keys() - known.keys()} == {"low_encoder", "low_projector"}
    prompt = processor.render()
    assert [slot.stream for slot in prompt.slots] == ["spatial", "low"] * 6 + ["motion"]
    assert prompt.counts == (4, 4) * 6 + (6,)
    text = processor.tokenizer.decode(prompt.ids)
    image = "<img>" + 4 * "<IMG_CONTEXT>" + "</img>"
    assert f"Frame1:{image}{image}\nFrame2:{image}{image}\n" in text  # no words between a frame's tokens
    batch = processor([frames])
    assert batch["patches"].shape == (1, 6, 6, 3, 32, 32)
    visual = {name: batch[name] for name in ("frames", "patches", "motion_frames")}
    [tokens] = policy.encode(**visual)
    assert not tokens["low"].any() and tokens["low"].shape == (6, 4, 128)
    tokens["low"].sum().backward()
    assert policy.model.low_projector.layer_norm.weight.grad.any()  # zero is no dead end
    assert torch.equal(
        tokens["spatial"], old.encode(frames=batch["frames"], motion_frames=batch["motion_frames"])[0]["spatial"]
    )


def test_tokens_are_those_of_the_paper_in_its_order(policy, frames):
    """Linear, mean over patches, means over areas, LayerNorm; of clips with four and with six patches a frame."""
    model, projector = policy.model, policy.model.low_projector
    clips = [torch.from_numpy(cut_patches(frames[:3, :side, :side], 32, 8)) for side in (70, 96)]
    assert [clip.shape[1] for clip in clips] == [4, 6]
    with torch.no_grad():
        stream = STREAMS["low"]
        found = stream.project(model, stream.features(model, clips))
        for clip, tokens in zip(clips, found, strict=True):
            pixels = clip.flatten(0, 1).double() / 255 * 2 - 1
            hidden = model.low_encoder(pixel_values=pixels.float()).last_hidden_state[:, 1:]
            places = projector.linear(hidden).unflatten(0, (3, -1)).mean(1).unflatten(1, (2, 2, 2, 2)).mean((2, 4))
            torch.testing.assert_close(tokens, projector.layer_norm(places.flatten(1, 2)), rtol=1e-4, atol=1e-4)


def test_copies_by_reindexing_are_the_encoded_copies(policy, processor, frames):
    clip, frame_map = processor.from_array(frames), FrameMap("official", 6, (5, -1, 3, 2, 1, 0))
    moved = {name: [frame_map.apply(getattr(clip, name))] for name in ("frames", "motion_frames", "patches")}
    with torch.no_grad():
        seen = FeatureCache(policy).inputs(["a"], [clip])[0]
        [original] = policy.encode(**{name: [value] for name, value in seen.items()})
        [direct] = policy.encode(**moved)
        features, blanks = policy.blanks(processor.blank_clip())
    assert features["low"].shape == (4, 24)
    mapped = original.perturbed(frame_map, blanks, {"motion": direct["motion"]})
    torch.testing.assert_close(mapped["low"], direct["low"])
    prompt = processor.render()
    once = policy(inputs_embeds=policy.prompt_embeds(prompt, [original])[None]).logits
    torch.testing.assert_close(policy(**processor([frames])).logits, once)  # rollouts and loss see the same


def test_patches_come_from_the_same_decoding_and_have_their_own_place_in_the_cache(low, base, tmp_path):
    video = tmp_path / "clip.mp4"
    write_video(video, np.random.default_rng(1).integers(0, 256, (12, 80, 120, 3), dtype=np.uint8))
    plain, processor = AutoProcessor.from_pretrained(base), AutoProcessor.from_pretrained(low)
    for one in (plain, processor):
        one.use_cache(tmp_path / "cache")
    assert plain.load_clip(video).patches is None and plain.blank_clip().patches is None
    [file] = (tmp_path / "cache").iterdir()
    assert b"patches" not in file.read_bytes().partition(b"\n")[0]
    made, kept = processor.load_clip(video), processor.load_clip(video)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    clip = open_clip(video)
    memory = processor.from_array(clip.frames(range(clip.num_frames)))
    copies = processor.load_copies(video, {"back": lambda n: np.arange(n)[::-1]})
    assert made.patches.shape == (6, 6, 3, 32, 32) and torch.equal(made.patches, kept.patches)
    assert torch.equal(made.patches, memory.patches) and torch.equal(made.frames, plain.load_clip(video).frames)
    keys = torch.from_numpy(np.concatenate([cut_patches(clip.frames([i]), 32, 8) for i in made.indices.tolist()]))
    assert torch.equal(made.patches, keys)
    back = processor.from_array(clip.frames(range(clip.num_frames))[::-1])
    assert torch.equal(copies["back"].patches, back.patches)
    assert processor.clip_bytes - plain.clip_bytes == 6 * 8 * 3 * 32**2  # of 8 patches, the most there are
    assert processor.seen(1280, 720).text.endswith("64x64 of 1280x720, 0.4 %, and 8 patches of 32x32 at 960x540")
    processor.low_patches = 4  # other patches are another entry
    assert processor.load_clip(video).patches.shape[1] == 4


def test_checkpoints_keep_it_and_it_can_be_left_out(policy, processor, base, tmp_path):
    policy.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its = load_policy(tmp_path, "cpu")
    assert all(torch.equal(again.state_dict()[name], value) for name, value in policy.state_dict().items())
    assert its.to_dict() == processor.to_dict() and its.low_box == [540, 1080] and its.low_patch_size == 32
    bare = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path, low_tokens=0)
    assert bare.state_dict().keys() == VQAThinkerForConditionalGeneration.from_pretrained(base).state_dict().keys()
    weights = {name: value for name, value in policy.state_dict().items() if "low_projector.linear" not in name}
    policy.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(IncompleteCheckpoint, match=r"2 of \d+ are missing \(model\.low_projector\.linear\.bias"):
        VQAThinkerForConditionalGeneration.from_pretrained(tmp_path, low_tokens=4)
    with pytest.raises(
        ValueError, match="low_tokens=17: its 1 x 17 areas of a patch must be no more than the encoder's 4 x 4"
    ):
        VQAThinkerForConditionalGeneration.from_pretrained(base, low_tokens=17, low_config=VIT)


def test_the_encoder_starts_from_a_vit_checkpoint(base, tmp_path):
    source = ViTForImageClassification(ViTConfig(**VIT, num_labels=3))
    source.save_pretrained(tmp_path / "vit")
    settings = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings))
    add_low_level(base, tmp_path / "out", 16, tmp_path / "vit")
    policy, processor = load_policy(tmp_path / "out", "cpu")
    for name, value in source.vit.state_dict().items():
        assert torch.equal(policy.model.low_encoder.state_dict()[name], value)
    assert policy.config.low_config.image_mean == settings["image_mean"] and processor.low_tokens == 16
    patch = torch.full((1, 1, 3, 32, 32), 255, dtype=torch.uint8)
    stream = STREAMS["low"]
    white = torch.tensor([3.0, 2.0, 4 / 3]).view(1, 3, 1, 1).expand(1, 3, 32, 32)  # (1 - mean) / std
    with torch.no_grad():
        own = stream.features(policy.model, [patch])[0][0]
        torch.testing.assert_close(own, source.vit(white).last_hidden_state[0, 1:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="is an adapter or has a low-level stream"):
        add_low_level(tmp_path / "out", tmp_path / "twice", 4)
    with pytest.raises(ValueError, match="model_type 'vqathinker': the low-level encoder must be a ViT"):
        add_low_level(base, tmp_path / "other", 4, base)
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no readable safetensors"):
        add_low_level(base, tmp_path / "other", 4, tmp_path / "vit")


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_an_encoder_with_dropout_is_refused(name):
    with pytest.raises(ValueError, match=f"low_config has {{'{name}': 0.1}}: rollouts and loss would see different"):
        VQAThinkerConfig(low_tokens=4, low_config=VIT | {name: 0.1})


@pytest.mark.parametrize("internvl", ["qwen2"], indirect=True)
def test_init_makes_a_policy_with_it(internvl, tmp_path, frames, capsys):
    ViTForImageClassification(ViTConfig(**VIT)).save_pretrained(tmp_path / "vit")
    options = ["--slowfast", "random", "--motion-tokens", "0", "--dtype", "float32", "--low-tokens", "6"]
    start = ["init", "--internvl", str(internvl), *options, "--low-level", str(tmp_path / "vit")]
    main([*start, "--out", str(tmp_path / "policy")])
    policy, processor = load_policy(tmp_path / "policy", "cpu")
    source = load_encoder(tmp_path / "vit").state_dict()
    assert all(torch.equal(policy.model.low_encoder.state_dict()[name], value) for name, value in source.items())
    assert not policy.model.low_projector.layer_norm.weight.any() and processor.render().counts == (4, 6) * 6
    assert policy(**processor([frames])).logits.isfinite().all()
    with pytest.raises(SystemExit):
        main(["init", "--policy", str(tmp_path / "policy"), *options, "--out", str(tmp_path / "other")])
    assert "--slowfast, --motion-tokens, --dtype with --policy: all but the low-level" in capsys.readouterr().err


class Distinct:
    """A reward with a gradient at random weights."""

    __name__ = "distinct"

    def __call__(self, completions, **columns):
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.mark.parametrize("frozen", [False, True])
def test_grpo_trains_it_on_clips_and_their_copies(policy, processor, train_rows, tmp_path, frozen):
    policy.freeze(["low_encoder", "vision_tower", "multi_modal_projector"] if frozen else [])
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    settings = VQAGRPOConfig(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=12,
        max_steps=1,
        learning_rate=1e-3,
        beta=0,
        perturbation_variant="official",
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=not frozen,
    )
    rubric = rewards.Rubric([Distinct(), rewards.Contrast()])
    trainer = VQAGRPOTrainer(policy, rubric, settings, clip_dataset(train_rows, processor), processor)
    trainer.train()
    seen = trainer._buffered_inputs[0]["clips"].clips[0]
    assert ("low_features" in seen) is frozen and ("patches" in seen) is not frozen
    changed = {n.split(".")[1] for n, value in policy.state_dict().items() if not torch.equal(value, before[n])}
    assert "low_projector" in changed and ("low_encoder" in changed) is not frozen


def test_the_warm_start_trains_it(policy, processor, train_rows):
    collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    batch = collator(list(sft_dataset(score_samples(train_rows[:2]), processor, seed=0)))
    policy(**batch).loss.backward()
    assert policy.model.low_encoder.layers[0].mlp.fc1.weight.grad.any()
    with pytest.raises(ValueError, match=r"freeze=\['low'\]: must be among .*'low_encoder', 'low_projector'"):
        policy.freeze(["low"])


def test_the_budget_counts_it(policy):
    """What the encoder keeps for its backward, measured; its patches in the frame cache; its tokens in the prompt."""
    settings = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 8}
    shapes = [budget.shape_of(settings | {"freeze": freeze}, policy.config) for freeze in ([], ["low_encoder"])]
    assert shapes[0].prompt == 6 * (4 + 4) + 6 + budget.TEXT_TOKENS and shapes[1].frozen_low
    trained, frozen = (budget.activation_bytes(policy.config, shape, 4, False) for shape in shapes)
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    clips = list(torch.zeros(shapes[0].clips, 6, 8, 3, 32, 32, dtype=torch.uint8))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        STREAMS["low"].features(policy.model, clips)
    assert trained - frozen == pytest.approx(sum(size for size, _ in kept.values()), rel=0.03)
    line = budget.frame_cache({"frame_cache": "cache", "frame_cache_gib": 1}, policy.config, shapes[0], 1)
    assert f"{(6 * 3 * (64**2 + 4 * 48**2 + 8 * 32**2)) / 2**20:.1f} MiB" in line
