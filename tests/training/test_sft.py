import numpy as np
import pytest
import torch

from rewards import distortion_reward, format_reward, parse_answer
from rewards.distortion import parse_distortions
from vqathinker.clips import ClipError
from vqathinker.data import ClipLoader, trace
from vqathinker.data.traces import LEVELS
from vqathinker.training import SFTCollator, sft_dataset


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


def test_dataset_names_the_distortion_and_repeats_with_the_seed(train_rows):
    first, second = sft_dataset(train_rows, 0), sft_dataset(train_rows, 0)
    assert first["completion"] == second["completion"] != sft_dataset(train_rows, 1)["completion"]
    for row, text in zip(train_rows, first["completion"], strict=True):
        assert distortion_reward(text, parse_distortions(row.extra["kind"], row.extra["severity"])) == 1


def test_only_the_trace_is_scored(policy, processor, train_rows):
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    rows = sft_dataset(train_rows[:3], 0).to_list()
    batch = collate(rows)
    tokenizer = processor.tokenizer
    for row, labels, mask in zip(rows, batch["labels"], batch["attention_mask"], strict=True):
        assert tokenizer.decode(labels[labels != -100]) == row["completion"] + tokenizer.eos_token
        assert (labels[mask == 0] == -100).all()
    output = policy(**batch)
    assert torch.isfinite(output.loss)


def test_unreadable_clips_leave_the_batch(policy, processor, train_rows, tmp_path):
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    rows = sft_dataset(train_rows[:2], 0).to_list()
    rows[0]["video"] = str(tmp_path / "missing.mp4")
    assert len(collate(rows)["input_ids"]) == 1
    readable = rows[1]["completion"]
    rows[1]["video"] = str(tmp_path / "missing2.mp4")
    labels = collate(rows)["labels"]
    assert processor.tokenizer.decode(labels[labels != -100], skip_special_tokens=True) == readable
    with pytest.raises(ClipError, match="no other clip could be read"):
        SFTCollator(processor, ClipLoader(processor.load_clip), policy)(rows)
