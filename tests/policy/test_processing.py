import re

import numpy as np
import pytest
import torch

from vqathinker.clips import ClipError
from vqathinker.policy import (
    STREAMS,
    VQAThinkerProcessor,
    check_checkpoint,
    load_policy,
    load_processor,
    not_as_trained,
)
from vqathinker.policy.prompts import QUESTION, instructed, joined, motion_last, written
from vqathinker.policy.streams import find_streams
from vqathinker.synth import tiny_tokenizer


def shown(num_frames, style):
    lines = [*motion_last(num_frames, find_streams(("spatial", "motion")), style), [instructed(QUESTION, style)]]
    return written(joined(lines, style), lambda slot: "<image>")


def test_training_prompt_is_the_published_one():
    text = shown(6, "train")
    assert text == (
        "Now you will receive a video:\nFrame1:<image>\nFrame2:<image>\nFrame3:<image>\nFrame4:<image>\n"
        "Frame5:<image>\nFrame6:<image>\nMotion Feature:<image>\n"
        + QUESTION
        + " First output the thinking process in <think> </think> "
        "tags and then output the final answer in <answer> </answer> tags."
    )


def test_test_prompt_has_no_line_breaks():
    text = shown(12, "test")
    assert "\n" not in text and text.startswith("Now you will receive a video:Frame1: <image>Frame2: <image>")
    assert "Frame12: <image>Motion Feature: <image>You are doing" in text and "quality.First output" in text


@pytest.mark.parametrize(("size", "count"), [(448, 256), (560, 400)])
def test_placeholders_of_internvl3(size, count):
    processor = VQAThinkerProcessor(tiny_tokenizer(), image_size=size)
    ids = processor.prompt_ids()
    image = processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert STREAMS["spatial"].tokens(processor) == count
    assert ids.count(image) == 6 * count + 1
    assert processor.prompt_ids(4).count(image) == 4 * count + 1
    text = processor.tokenizer.decode(ids)
    assert text.startswith("<|im_start|>user\nNow you") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert QUESTION in text


def test_a_file_and_its_frames_in_memory_are_the_same_input(processor, clip_set):
    from vqathinker.clips import open_clip

    path = clip_set / "videos" / "train" / "00000.mp4"
    clip = open_clip(path)
    one, two = processor.load_clip(path), processor.from_array(clip.frames(range(clip.num_frames)))
    assert torch.equal(one.frames, two.frames) and torch.equal(one.motion_frames, two.motion_frames)
    assert one.frames.shape == (6, 3, 64, 64) and one.motion_frames.shape == (6, 4, 3, 48, 48)


def test_what_was_done_to_a_clip_travels_with_it_through_the_cache_too(processor, tmp_path):
    from fractions import Fraction

    from vqathinker.clips import VideoWriter

    with VideoWriter(tmp_path / "wide.mp4", pixel_aspect=Fraction(2)) as writer:
        for _ in range(8):
            writer.write(np.zeros((64, 96, 3), np.uint8))
    processor.use_cache(tmp_path / "cache")
    notes = ("pixels of 2:1 made square", "sees the central 64x64 of 192x64, 33 %")
    for _ in range(2):
        assert processor.load_clip(tmp_path / "wide.mp4").notes == notes
    copies = processor.load_copies(tmp_path / "wide.mp4", {"same": np.arange})
    assert copies["same"].notes == notes


def test_what_is_seen_is_what_the_widest_stream_sees(processor):
    assert processor.seen(96, 96).text == "sees the central 64x64 of 96x96, 44 %"
    processor.image_size = 32  # less than the motion encoder's 48
    assert processor.seen(96, 96).text == "sees the central 48x48 of 96x96, 25 %"
    processor.motion_tokens = 0
    assert processor.seen(96, 96).text == "sees the central 32x32 of 96x96, 11 %"
    assert processor.from_array(np.zeros((4, 32, 32, 3), np.uint8)).notes == ()
    processor.fit = "stretch"
    assert processor.from_array(np.zeros((4, 96, 96, 3), np.uint8)).notes == ()


def test_what_is_changed_is_told_saved_and_then_what_the_policy_was_trained_with(base, tmp_path, frames):
    looks = {"num_frames": 3, "image_size": 96, "frame_sampling": "time", "view": "resize", "question": "How sharp?"}
    processor = load_processor(base, **looks)
    assert not_as_trained(processor) == (
        "frames 3, trained with 6; image_size 96, trained with 64; view resize, trained with center_crop; "
        "another question than in training"
    )
    assert processor.changes["num_frames"] == (6, 3) and processor.changes["sampling"] == ("number", "time")
    assert not_as_trained(load_processor(base, frame_sampling="time")) == ""
    processor.save_pretrained(tmp_path)
    loaded = load_processor(tmp_path, **looks)
    assert loaded.changes == {} and loaded.fit == "stretch" and loaded.question == "How sharp?"
    assert loaded.to_dict() == processor.to_dict() and loaded.prompt_ids() == processor.prompt_ids()
    assert torch.equal(loaded.from_array(frames).frames, processor.from_array(frames).frames)
    plain = load_processor(base)
    plain.save_pretrained(tmp_path / "plain")
    for file in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja"):  # the processor's alone
        assert (tmp_path / file).read_text() == (tmp_path / "plain" / file).read_text()
    policy, processor = load_policy(base, "cpu", **looks)
    assert processor.prompt_ids() == loaded.prompt_ids() and policy(**processor([frames])).logits.isfinite().all()
    for looks, message in (
        ({"view": "zoom"}, r"view='zoom': must be one of \('resize', 'center_crop'\)"),
        ({"question": " "}, "question=' ': write the question"),
        ({"image_size": 65}, "image_size=65: must be a multiple of"),
    ):
        with pytest.raises(ValueError, match=message):
            load_processor(base, **looks)


def test_key_frames_are_the_uniform_ones_and_runs_surround_them(processor):
    frames = np.zeros((24, 96, 96, 3), np.uint8)
    frames[:] = np.arange(24, dtype=np.uint8)[:, None, None, None] * 10
    clip = processor.from_array(frames)
    assert (clip.frames[:, 0, 0, 0] // 10).tolist() == [1, 5, 9, 13, 16, 20]
    assert (clip.motion_frames[0, :, 0, 0, 0] // 10).tolist() == [0, 1, 2, 3]


def test_copies_show_the_frames_that_they_ask_for_and_are_decoded_once(processor, clip_set, monkeypatch):
    from vqathinker.clips import open_clip

    path = clip_set / "videos" / "train" / "00000.mp4"
    orders = {
        "reversed": lambda n: np.arange(n)[::-1],
        "half": lambda n: np.arange(0, n, 2),
        "frozen": lambda n: np.zeros(n, int),
    }
    opened = []
    monkeypatch.setattr("vqathinker.clips.open_clip", lambda p: opened.append(p) or open_clip(p))
    copies = processor.load_copies(path, orders)
    assert opened == [path] and list(copies) == list(orders)
    whole = open_clip(path)
    for name, order in orders.items():
        alone = processor.from_array(whole.frames(order(whole.num_frames)))
        for part in ("frames", "motion_frames", "indices"):
            assert torch.equal(getattr(copies[name], part), getattr(alone, part))


def test_cached_frames_are_the_decoded_ones(processor, clip_set, tmp_path):
    path = clip_set / "videos" / "train" / "00001.mp4"
    plain = processor.load_clip(path)
    processor.use_cache(tmp_path)
    for _ in range(2):
        cached = processor.load_clip(path)
        assert torch.equal(plain.frames, cached.frames) and torch.equal(plain.motion_frames, cached.motion_frames)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cached_clip_has_the_bytes_that_are_foretold(processor, clip_set, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    path = clip_set / "videos" / "train" / "00001.mp4"
    for none in ("", None, " "):
        processor.use_cache(none, 1.0, clips=16)
        clip = processor.load_clip(path)
    assert not list(tmp_path.iterdir()) and not caplog.records  # an empty value is no folder
    assert processor.clip_bytes == clip.frames.nbytes + clip.motion_frames.nbytes
    processor.use_cache("cache", 1.0, clips=16)
    [record] = caplog.records
    assert record.getMessage().startswith(
        "frame cache: 16 clips x 0.2 MiB = 0.0 GiB in cache (holds 0.0, at most 1.0), "
    )
    processor.load_clip(path)
    [file] = (tmp_path / "cache").iterdir()
    assert 0 < file.stat().st_size - processor.clip_bytes < 2048
    processor.save_pretrained(tmp_path / "saved")
    assert "cache" not in (tmp_path / "saved/processor_config.json").read_text()
    with pytest.raises(ValueError, match=r"frame_cache_gib=0: must be above 0; for no cache leave frame_cache empty"):
        processor.use_cache("cache", 0)


def test_bad_settings_and_files_are_refused(processor, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"image_size=450: must be a multiple of .* 28"):
        VQAThinkerProcessor(tiny_tokenizer(), image_size=450)
    with pytest.raises(ValueError, match="'eval'"):
        VQAThinkerProcessor(tiny_tokenizer(), prompt_style="eval")
    for bad in (np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match=re.escape(f"shape {bad.shape}")):
            processor.from_array(bad)
    with pytest.raises(ClipError, match="it is a folder"):
        processor.load_clip(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
        load_policy(tmp_path / "nope")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for gone in ("nope", "runs/nope"):
        with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
            check_checkpoint(gone)
    check_checkpoint("OpenGVLab/InternVL3-8B-hf")  # the hub's
    with pytest.raises(ClipError, match="no such file"):
        processor([tmp_path / "no.mp4"])
