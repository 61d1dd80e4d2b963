import numpy as np
import pytest
import torch

from rewards import distortion_reward, format_reward, parse_answer
from rewards.distortion import parse_distortions
from vqathinker.data import ClipLoader, score_samples, trace
from vqathinker.data.traces import LEVELS
from vqathinker.policy import STREAMS
from vqathinker.training import SFTCollator, VQASFTConfig, sft_dataset


@pytest.mark.parametrize("mos", [1.0, 2.37, 5.0, 0.12])
@pytest.mark.parametrize("truth", [{}, {"frame_drop": 0.0}, {"blur": 1.0}, {"stutter": 0.3, "noise": 0.7}])
def test_traces_earn_the_rewards_and_say_the_label(mos, truth):
    for seed in range(5):
        text = trace(mos, np.random.default_rng(seed), truth, "late" if "stutter" in truth else "")
        assert format_reward(text, strict=True) == 1
        assert parse_answer(text).score == mos
        assert not truth or distortion_reward(text, truth) == 1
        assert any(f" {word}." in text for word in LEVELS) == (not truth)
    if len(truth) == 2:
        assert "strong noise and slight stutter late." in text


def test_dataset_names_the_distortion_and_repeats_with_the_seed(train_rows, processor):
    first, second = (
        sft_dataset(score_samples(train_rows), processor, 0),
        sft_dataset(score_samples(train_rows), processor, 0),
    )
    assert (
        first["completion"]
        == second["completion"]
        != sft_dataset(score_samples(train_rows), processor, 1)["completion"]
    )
    for row, text in zip(train_rows, first["completion"], strict=True):
        assert distortion_reward(text, parse_distortions(row.extra["kind"], row.extra["severity"])) == 1


@pytest.mark.contract
def test_only_the_trace_is_scored(policy, processor, train_rows):
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    rows = sft_dataset(score_samples(train_rows[:3]), processor, 0).to_list()
    batch = collate(rows)
    tokenizer = processor.tokenizer
    for row, labels, mask in zip(rows, batch["labels"], batch["attention_mask"], strict=True):
        assert tokenizer.decode(labels[labels != -100]) == row["completion"] + tokenizer.eos_token
        assert (labels[mask == 0] == -100).all()
    output = policy(**batch)
    assert torch.isfinite(output.loss)


def test_unreadable_clips_leave_the_batch(policy, processor, train_rows, tmp_path):
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    rows = sft_dataset(score_samples(train_rows[:2]), processor, 0).to_list()
    rows[0]["prompt"] = processor.messages(str(tmp_path / "missing.mp4"))
    batch = collate(rows)
    tokenizer = processor.tokenizer
    assert len(batch["input_ids"]) == 1
    assert tokenizer.decode(batch["labels"][batch["labels"] != -100]) == rows[1]["completion"] + tokenizer.eos_token


def test_a_batch_without_a_readable_clip_teaches_nothing(policy, processor, train_rows, tmp_path):
    """Another process's batch may have some; what a process saw before, which a resumed one cannot know, is no part."""
    rows = sft_dataset(score_samples(train_rows[:2]), processor, 0).to_list()
    for number, row in enumerate(rows):
        row["prompt"] = processor.messages(str(tmp_path / f"missing{number}.mp4"))
    batch = SFTCollator(processor, ClipLoader(processor.load_clip), policy)(rows)
    assert len(batch["input_ids"]) == 1 and (batch["labels"] == -100).all() and not batch["frames"][0].any()
    for scored in (torch.tensor(7), torch.tensor(0), 0):  # of all processes
        policy.zero_grad()
        loss = policy(**batch, num_items_in_batch=scored).loss
        loss.backward()
        assert loss.item() == 0 and all(not p.grad.any() for p in policy.parameters() if p.requires_grad)


def test_the_collator_computes_motion_without_the_policys_own_encoder(policy, processor, train_rows):
    """ZeRO-3 shares its weights out among processes, which can use them only together."""
    motion = [processor.load_clip(row.video).motion_frames for row in train_rows[:2]]
    expected = STREAMS["motion"].features(policy.model, motion)
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    for parameter in policy.model.motion_encoder.parameters():
        parameter.data = torch.empty(0)
    features = collate(sft_dataset(score_samples(train_rows[:2]), processor, 0).to_list())["motion_features"]
    assert all(map(torch.equal, features, expected)) and features[0].any()


@pytest.mark.parametrize("setting", [{"dataloader_num_workers": 2}, {"remove_unused_columns": True}])
def test_options_that_clips_forbid_are_refused(setting, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.*[Ll]eave (it|this)"):
        VQASFTConfig(str(tmp_path), use_cpu=True, report_to="none", **setting)
