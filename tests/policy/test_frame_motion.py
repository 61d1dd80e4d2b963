"""Motion tokens per frame: SlowFast's fast pathway alone, on all frames of a clip (VQA²)."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import rewards
from rewards import text_of
from vqathinker.cli import main
from vqathinker.clips import open_clip, write_video
from vqathinker.data import ClipLoader, clip_dataset, read_labels, score_samples
from vqathinker.perturb import FrameMap
from vqathinker.policy import (
    STREAMS,
    ClipLength,
    MotionConfig,
    VQAThinkerConfig,
    VQAThinkerForConditionalGeneration,
    load_processor,
    tokens_in,
)
from vqathinker.policy.motion import VQA2_PROJECTOR, FrameProjector, MotionEncoder, _create_slowfast, load_motion
from vqathinker.scoring import QualityScorer
from vqathinker.synth import tiny_policy
from vqathinker.synth.tiny import tiny_motion
from vqathinker.training import SFTCollator, VQAGRPOConfig, VQAGRPOTrainer, budget, sft_dataset
from vqathinker.training.groups import ClipBatch, rows_about

KEYS = (1, 5, 9, 13, 16, 20)
"""Key frames of a clip of 24 frames, by the published rule."""
COUNTS = (5, 4, 4, 3, 4, 4)
"""Its frames from each of them to the next one; the first frame belongs to the first."""


@pytest.fixture(scope="module")
def made():
    """A tiny policy with such tokens, whose positions and projector matter, and its processor."""
    policy, processor = tiny_policy(pathway="fast")
    for parameter in policy.model.motion_projector.parameters():
        nn.init.normal_(parameter, std=0.3)
    return policy.eval(), processor


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("per_frame")
    for part in made:
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def policy(made):
    return copy.deepcopy(made[0])


@pytest.fixture
def processor(made):
    return copy.copy(made[1])


@pytest.fixture
def clips(frames, processor):
    """Of 24 and of 18 frames, of which 16 are seen."""
    return [processor.from_array(frames), processor.from_array(frames[::-1][:18].copy())]


@pytest.fixture(scope="module")
def whole():
    """pytorchvideo's SlowFast, both pathways and head, with batch statistics that matter."""
    torch.manual_seed(0)
    model = _create_slowfast()(
        model_depth=18, stem_dim_outs=(16, 4), slowfast_channel_reduction_ratio=(4,), model_num_class=2
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def published_features(model, frames, mean, std):
    """(N, F) of the published code: both pathways run, the slow one on the first quarter of the frames."""
    video = ((frames.float() / 255 - mean) / std).transpose(0, 1)[None]
    pathways = [video[:, :, : round(len(frames) / 4)], video]
    for block in list(model.blocks)[:5]:
        pathways = block(pathways)
    return nn.AdaptiveAvgPool3d((len(frames), 1, 1))(pathways[1])[0, :, :, 0, 0].T


def published_weights(model, width, rows):
    """Of encoder, positions and projector by the names of VQA²'s code, and the projector itself."""
    channels = model.blocks[4].multipathway_blocks[1].res_blocks[-1].branch2.norm_c.num_features
    projector = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, width))
    positions = torch.randn(rows, channels)
    blocks = {k: v for k, v in model.state_dict().items() if k.startswith("blocks.") and int(k.split(".")[1]) < 5}
    state = {f"model.slowfast.feature_extraction.{k.removeprefix('blocks.')}": v.clone() for k, v in blocks.items()}
    state |= {f"model.slowfast_projector.{name}": tensor.clone() for name, tensor in projector.state_dict().items()}
    state |= {"model.slowfast.position_embedding.weight": positions, "model.image_newline": torch.zeros(3)}
    return state, projector, positions


def test_features_are_those_of_the_fast_pathway_of_the_whole_slowfast(whole, frames, tmp_path):
    torch.save({"model_state": whole.state_dict()}, tmp_path / "slowfast.pyth")
    encoder = MotionEncoder(tiny_motion("fast"))
    encoder.load_pytorchvideo(tmp_path / "slowfast.pyth")
    assert all(".multipathway_blocks.1." in name for name in encoder.state_dict())  # nothing of the slow one is there
    shown = torch.from_numpy(frames[:, :48, :48].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = published_features(whole, shown, 0.45, 0.225)
        torch.testing.assert_close(encoder(shown[None], 1)[0], expected, atol=1e-5, rtol=1e-4)
    less = {name: own for name, own in whole.state_dict().items() if "blocks.2.multipathway_blocks.1" not in name}
    torch.save(less, tmp_path / "less.pyth")
    with pytest.raises(ValueError, match=r"missing \(\['blocks\.2\.multipathway_blocks\.1\."):
        encoder.load_pytorchvideo(tmp_path / "less.pyth")


@pytest.mark.parametrize("internvl", ["qwen2"], indirect=True)
def test_weights_of_vqa2_give_its_tokens_and_survive_saving(whole, internvl, frames, tmp_path):
    state, projector, positions = published_weights(whole, 48, 64)
    (tmp_path / "vqa2").mkdir()
    save_file(state, tmp_path / "vqa2" / "model.safetensors")
    config = MotionConfig(**tiny_motion("fast").to_dict() | {"normalization": "siglip", "image_size": 96})
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, tmp_path / "vqa2", config)
    policy.save_pretrained(tmp_path / "policy")
    again = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path / "policy")
    assert again.config.motion_max_frames == 64 and again.config.motion_input == "whole"
    shown = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = projector(published_features(whole, shown, 0.5, 0.5) + positions[:24])
        for model in (policy.model, again.model):
            [tokens] = STREAMS["motion"].project(model, STREAMS["motion"].features(model, [shown]))
            torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in again.model.motion_encoder.parameters())
    longer = {"motion_encoder": policy.model.motion_encoder, "motion_projector": FrameProjector(128, 48, 128)}
    with pytest.raises(ValueError, match=r"another shape .*\(64, 128\), \(128, 128\).*max_frames=2000"):
        load_motion(longer, tmp_path / "vqa2")
    with pytest.raises(ValueError, match=r"set motion_config\.pathway to 'fast'"):
        load_motion(longer | {"motion_projector": nn.Linear(2, 2)}, tmp_path / "vqa2")
    save_file({k: v for k, v in state.items() if "embedding" not in k}, tmp_path / "vqa2" / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks \['model\.slowfast\.position_embedding\.weight'\]"):
        load_motion(longer, tmp_path / "vqa2")


@pytest.mark.parametrize("internvl", ["qwen2"], indirect=True)
def test_init_takes_a_vqa2_checkpoint_with_its_sizes(internvl, tmp_path, capsys):
    with torch.device("meta"):
        sizes = MotionEncoder(MotionConfig(pathway="fast")).state_dict()
    blocks = {name: torch.rand(own.shape).to(own.dtype) for name, own in sizes.items()}
    state = {name.replace("blocks.", "model.slowfast.feature_extraction.", 1): own for name, own in blocks.items()}
    shapes = ((2000, 256), (48, 256), (48,), (48, 48), (48,))
    state |= {name: torch.randn(shape) for name, shape in zip(VQA2_PROJECTOR.values(), shapes, strict=True)}
    source, names = tmp_path / "vqa2", dict.fromkeys(state, "model-1.safetensors")
    source.mkdir()
    save_file(state, source / "model-1.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    own = ["--motion-tokens", "per_frame", "--layout", "interleaved", "--dtype", "float32"]
    start = ["init", "--internvl", str(internvl), "--slowfast", str(source), *own]
    assert main([*start, "--out", str(tmp_path / "out")]) == 0
    processor = load_processor(tmp_path / "out")
    motion = VQAThinkerConfig.from_pretrained(tmp_path / "out").motion_config
    assert (motion.feature_size, motion.image_size, motion.normalization) == (256, 384, "siglip")
    assert (processor.motion_max_frames, processor.motion_image_size, processor.layout) == (2000, 384, "interleaved")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    for name, theirs in VQA2_PROJECTOR.items():
        assert torch.equal(weights[f"model.motion_projector.{name}"], state[theirs])
    assert all(torch.equal(weights[f"model.motion_encoder.{name}"], own) for name, own in blocks.items())
    with pytest.raises(SystemExit):
        main(["init", "--internvl", "x", "--motion-tokens", "many", "--out", "y"])
    assert "'many': must be a number or per_frame" in capsys.readouterr().err


def test_every_frame_has_a_token_and_belongs_to_the_key_frame_before_it(processor, frames, tmp_path):
    clip = processor.from_array(frames)
    assert tuple(clip.indices.tolist()) == KEYS and clip.motion_counts == COUNTS
    shown = torch.from_numpy(frames[:, 24:72, 24:72].transpose(0, 3, 1, 2))
    assert torch.equal(clip.motion_frames, shown)
    for layout, counts in (("motion_last", (4,) * 6 + (24,)), ("interleaved", (4, 5, 4, 4, 4, 4, 4, 3, 4, 4, 4, 4))):
        processor.layout = layout
        assert processor.render(frames=[clip.length]).counts == counts
    text = processor.tokenizer.decode(processor.render(frames=[clip.length]).ids)
    assert f"Motion Feature4:<img>{3 * '<IMG_CONTEXT>'}</img>\nFrame5:" in text
    for given, seen, counts in (
        (frames[:19], 16, (4, 3, 3, 3, 3, 0)),  # keys 1, 4, 7, 10, 13, 16; cut to a multiple of four
        (frames[:3], 4, (0, 1, 0, 0, 1, 2)),  # keys 0, 0, 1, 1, 1, 2; the last frame twice
        (frames[:1], 4, (0, 0, 0, 0, 0, 4)),
    ):
        short = processor.from_array(given)
        assert (len(short.motion_frames), sum(short.motion_counts)) == (seen, seen)
        assert short.motion_counts == counts and not short.notes[1:]
    write_video(tmp_path / "long.mp4", np.tile(frames, (3, 1, 1, 1)), 24)
    long = processor.load_clip(tmp_path / "long.mp4")
    assert long.notes[-1] == "sees motion in the first 64 of 72 frames"
    assert long.motion_counts == (17, 12, 12, 11, 12, 0)  # keys 5, 17, 29, 41, 52, 64
    decoded = open_clip(tmp_path / "long.mp4").frames(range(64))[:, 24:72, 24:72]
    assert torch.equal(long.motion_frames, torch.from_numpy(decoded.transpose(0, 3, 1, 2).copy()))
    copies = processor.load_copies(tmp_path / "long.mp4", {"back": lambda number: np.arange(number)[40::-1]})
    direct = processor.from_array(open_clip(tmp_path / "long.mp4").frames(range(40, -1, -1)))
    assert copies["back"].length == direct.length and torch.equal(copies["back"].motion_frames, direct.motion_frames)
    with pytest.raises(ValueError, match="a clip of length 6 with motion_max_frames=64"):
        processor.render(frames=[6])
    processor.use_cache(tmp_path / "cache")
    twice = [processor.load_clip(tmp_path / "long.mp4") for _ in range(2)]
    assert all(other.length == long.length and torch.equal(other.motion_frames, long.motion_frames) for other in twice)


def test_a_copy_moves_the_frames_with_their_key_frame(processor, frames):
    clip = processor.from_array(frames)
    parts = clip.motion_frames.split(list(COUNTS))
    backwards = clip.moved(FrameMap("reverse", 6, (5, 4, 3, 2, 1, 0)))
    assert torch.equal(backwards.motion_frames, torch.cat(parts[::-1])) and backwards.motion_counts == COUNTS[::-1]
    blank = clip.moved(FrameMap("drop", 6, (0, -1, 2, 3, 4, 5)))
    assert not blank.motion_frames[5:9].any() and not blank.frames[1].any() and blank.indices[1] == -1
    assert torch.equal(blank.motion_frames[9:], torch.cat(parts[2:])) and blank.motion_counts == COUNTS
    lost = FrameMap("drop", 6, (0, 2, 3, 5))  # 5 + 4 + 3 + 4 frames
    assert torch.equal(clip.moved(lost).motion_frames, torch.cat([parts[i] for i in lost.source]))
    assert clip.length.moved(lost) == clip.moved(lost).length == ClipLength(4, (5, 4, 3, 4))
    twice = FrameMap("duplicate", 6, (0, 0, 0, 3, 4, 5))  # 26 frames: no more than the clip has
    assert clip.length.moved(twice).motion == (5, 5, 5, 3, 4, 2)
    few = processor.from_array(frames[:3]).moved(FrameMap("drop", 6, (0, 2)))  # key frames without frames of their own
    assert few.motion_counts == (0, 4) and torch.equal(few.motion_frames, few.motion_frames[:1].expand(4, -1, -1, -1))


def test_clips_of_different_lengths_in_one_batch_are_as_alone(policy, processor, clips):
    visual = {"frames": [clip.frames for clip in clips], "motion_frames": [clip.motion_frames for clip in clips]}
    with torch.no_grad():
        together = policy.encode(**visual)
        alone = [policy.encode(frames=[c.frames], motion_frames=[c.motion_frames])[0] for c in clips]
        assert [len(features["motion"]) for features in together] == [24, 16]
        for layout in ("motion_last", "interleaved"):
            processor.layout = layout
            prompts = [processor.render(frames=[clip.length]) for clip in clips]
            expected = [tokens_in(prompt, [own]) for prompt, own in zip(prompts, alone, strict=True)]
            table = policy.model.ordered(visual, processor.index_of(prompts))
            torch.testing.assert_close(table, torch.cat(expected), atol=1e-5, rtol=1e-4)
    assert torch.equal(expected[0][4:9], alone[0]["motion"][:5])  # behind the first frame those of its motion frames


def test_positions_tell_equal_frames_apart(policy, processor, frames):
    still = processor.from_array(np.repeat(frames[:1], 24, 0))
    [features] = STREAMS["motion"].features(policy.model, [still.motion_frames])
    torch.testing.assert_close(features[8], features[12])  # away from the ends all see the same
    with torch.no_grad():
        [tokens] = STREAMS["motion"].project(policy.model, [features])
        assert (tokens[8] - tokens[12]).abs().max() > 0.1
        policy.model.motion_projector.positions.weight.zero_()
        [tokens] = STREAMS["motion"].project(policy.model, [features])
    torch.testing.assert_close(tokens[8], tokens[12])


@pytest.mark.parametrize("layout", ["motion_last", "interleaved"])
def test_packed_rows_are_one_row_per_answer(policy, processor, clips, layout):
    processor.layout = layout
    prompts = [processor.render(frames=[clip.length]) for clip in clips]
    seen = [{"frames": clip.frames, "motion_frames": clip.motion_frames} for clip in clips]
    batch = ClipBatch(prompts, seen, ["spatial", "motion"])
    width = max(len(prompt.ids) for prompt in prompts)
    ids, mask = torch.zeros(4, width + 3, dtype=torch.long), torch.zeros(4, width + 3, dtype=torch.long)
    for row in range(4):
        prompt = torch.tensor(prompts[row // 2].ids)
        ids[row, width - len(prompt) : width], ids[row, width:] = prompt, torch.tensor([50, 60, 70]) + row
        mask[row, width - len(prompt) : width + 3 - row % 2] = 1
    found = []
    for packs in (True, False):
        rows, visual = rows_about(batch, batch.trees, ids, mask, 3, packs)
        with torch.no_grad():
            logits = policy(**rows.inputs, **visual).logits.log_softmax(-1)
        found.append(rows.unpack(logits.gather(-1, rows.targets.clamp(min=0)[..., None])[..., 0]))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


class Distinct:
    """A reward with a gradient at random weights."""

    __name__ = "distinct"

    def __call__(self, completions, **columns):
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.mark.parametrize(("variant", "layout"), [("official", "motion_last"), ("paper", "interleaved")])
def test_grpo_trains_it_on_clips_of_different_lengths_and_their_copies(
    policy, processor, frames, tmp_path, variant, layout
):
    processor.layout = layout
    rows = []
    for i, length in enumerate((24, 18)):
        write_video(tmp_path / f"{i}.mp4", frames[:length], 24)
        rows.append(f"{i}.mp4,{2 + i}\n")
    (tmp_path / "clips.csv").write_text("video,mos\n" + "".join(rows))
    labels = read_labels(tmp_path / "clips.csv", tmp_path, "identity")
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    settings = VQAGRPOConfig(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        max_steps=1,
        learning_rate=1e-3,
        beta=0,
        perturbation_modes=["drop"],
        perturbation_variant=variant,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
    )
    rubric = rewards.Rubric([Distinct(), rewards.Contrast()])
    trainer = VQAGRPOTrainer(policy, rubric, settings, clip_dataset(labels, processor), processor)
    trainer.train()
    seen = [len(clip["motion_features"]) for clip in trainer._buffered_inputs[0]["clips"].clips]
    assert sorted(seen)[-1] == 24 and 16 in seen
    changed = {n for n, value in policy.state_dict().items() if not torch.equal(value, before[n])}
    assert "model.motion_projector.positions.weight" in changed
    assert not any("motion_encoder" in name for name in changed)


def test_the_warm_start_shows_it(policy, processor, train_rows):
    collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    batch = collator(list(sft_dataset(score_samples(train_rows[:2]), processor, seed=0)))
    assert [tuple(own.shape) for own in batch["motion_features"]] == [(24, 128)] * 2
    policy(**batch).loss.backward()
    grad = policy.model.motion_projector.positions.weight.grad
    assert grad[:24].abs().sum(1).all() and not grad[24:].any()


def test_clips_are_scored_from_the_command_line(folder, clip_set, frames, tmp_path, capsys):
    videos = [clip_set / "videos" / "val" / "00000.mp4", tmp_path / "short.mp4"]
    write_video(videos[1], frames[:18], 24)
    command = ["score", *map(str, videos), "--model", str(folder), "--device", "cpu", "--readout", "levels"]
    assert main([*command, "--json", str(tmp_path / "s.json")]) == 0
    scores = [json.loads(line)["score"] for line in (tmp_path / "s.json").read_text().splitlines()]
    scorer = QualityScorer.from_pretrained(folder, "cpu", readout="levels")
    assert scores == pytest.approx([scorer.score(video).score for video in videos], abs=1e-4)
    settings = json.loads((tmp_path / "s.json").read_text().splitlines()[0])
    assert settings["status"] == "ok"


def test_the_budget_counts_a_token_for_each_frame(policy):
    settings = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 8}
    for frames, seen in ((24, 24), (300, 64)):
        shape = budget.shape_of(settings, policy.config, clip_frames=frames)
        assert shape.prompt == 6 * 4 + seen + budget.TEXT_TOKENS and budget.motion_frames(policy.config, shape) == seen
        line = budget.frame_cache({"frame_cache": "cache", "frame_cache_gib": 1}, policy.config, shape, 1)
        assert f"{3 * (6 * 64**2 + seen * 48**2) / 2**20:.1f} MiB" in line


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pathway": "slow"}, "pathway='slow': must be 'both' or 'fast'"),
        ({"pathway": "fast", "max_frames": 30}, "max_frames=30: must be a multiple of 4"),
        ({"max_frames": 64}, r"pathway='both' with \{'max_frames': 64\}"),
        ({"pathway": "fast", "pooling": "windows"}, r"pathway='fast' with \{'pooling': 'windows'\}"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(Exception, match=message):
        MotionConfig(**settings)
    with pytest.raises(Exception, match=r"motion_tokens=4, motion_run_length=1 with motion_config\.pathway='fast'"):
        VQAThinkerConfig(motion_config={"pathway": "fast"}, motion_tokens=4)
