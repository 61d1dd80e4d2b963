"""Settings fitted to a set of one's own."""

import shlex
from functools import partial

import pytest
import torch

from vqathinker.synth.default import BASE
from vqathinker.training import VQAGRPOConfig, small_set
from vqathinker.training.small_set import as_arguments, fitted_settings, fitted_warm_start, given_options

MODEL = str(BASE)
PLENTY = 1000.0
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")


def test_a_generation_batch_takes_no_more_clips_than_there_are():
    for clips in (2, 5, 6, 9, 13, 40, 5000):
        own = fitted_settings(MODEL, clips, {}, PLENTY)
        size, micro, shared = (own[name] for name in BATCH)
        assert size % own["num_generations"] == 0
        assert 2 <= size // own["num_generations"] * shared <= min(clips, 24)
        assert own["max_steps"] % (shared // micro) == own["save_steps"] % (shared // micro) == 0


def test_a_small_policy_goes_through_few_clips_often():
    own = fitted_settings(MODEL, 12, {"max_completion_length": 48}, PLENTY)
    # 12 clips: two steps of 6 clips x 8 answers from one generation batch, 30 times
    assert [own[name] for name in BATCH] == [48, 1, 2]
    assert (own["num_generations"], own["max_steps"], own["learning_rate"]) == (8, 60, 2e-4)
    assert "max_completion_length" not in own  # was given


def test_long_answers_are_fewer():
    assert fitted_settings(MODEL, 12, {}, PLENTY)["num_generations"] == 4  # the base says no length: up to 512 tokens


def test_less_memory_takes_smaller_micro_batches_then_an_adapter(monkeypatch):
    whole = fitted_settings(MODEL, 12, {}, PLENTY)
    sizes = []
    for free in (PLENTY, 1.0, 0.5):
        own = fitted_settings(MODEL, 12, {}, free)
        sizes.append(own["per_device_train_batch_size"])
        assert own["per_device_train_batch_size"] * own["gradient_accumulation_steps"] == 6 * own["num_generations"]
    assert sizes[0] == whole["per_device_train_batch_size"] > sizes[1] > sizes[2]
    assert fitted_settings(MODEL, 12, {}, 2.0)["per_device_train_batch_size"] == sizes[0]
    with pytest.raises(ValueError, match=r"needs 2\.1 GiB"):  # all clips of a step are encoded at a time
        fitted_settings(MODEL, 12, {"frames": 12, "image_size": 448}, 2.0)
    with pytest.raises(ValueError, match=r"GiB for the smallest batch and adapter, but 0\.0 GiB are free"):
        fitted_settings(MODEL, 12, {}, 0.001)


def test_an_adapter_is_trained_where_all_weights_do_not_fit(monkeypatch):
    real = small_set.budget.memory
    monkeypatch.setattr(  # all weights of any policy are too much
        small_set.budget,
        "memory",
        lambda settings, *rest: {"total": 2**50} if not settings.get("use_peft") else real(settings, *rest),
    )
    own = fitted_settings(MODEL, 12, {}, PLENTY)
    assert own["use_peft"] is True
    assert "load_in_4bit" not in own
    with pytest.raises(ValueError, match="smallest batch"):
        fitted_settings(MODEL, 12, {"use_peft": False}, PLENTY)


def test_what_is_stated_goes_before_what_is_fitted():
    own = fitted_settings(MODEL, 12, {"num_generations": 4, "max_steps": 3, "learning_rate": 1e-5}, PLENTY)
    assert {"num_generations", "max_steps", "learning_rate", "save_steps"}.isdisjoint(own)
    assert own["per_device_train_batch_size"] == 24
    own = fitted_settings(MODEL, 12, {"per_device_train_batch_size": 16, "num_generations": 8}, PLENTY)
    assert "per_device_train_batch_size" not in own
    assert own["max_steps"] == 180  # 2 clips a step, 30 times through 12


def test_a_batch_that_cuts_groups_is_refused():
    with pytest.raises(ValueError, match=r"multiple of num_generations=16.*Use per_device_train_batch_size=16"):
        fitted_settings(MODEL, 12, {"num_generations": 16, "per_device_train_batch_size": 8}, PLENTY)


def test_one_clip_is_refused():
    with pytest.raises(ValueError, match="give at least 2"):
        fitted_settings(MODEL, 1, {}, PLENTY)


def test_warm_start():
    own = fitted_warm_start(MODEL, 10, {})
    assert (own["per_device_train_batch_size"], own["max_steps"], own["learning_rate"]) == (16, 90, 1e-3)
    assert own["labels_weight"] == 16  # 160 traces of 10 clips
    assert "labels_weight" not in fitted_warm_start(MODEL, 160, {})
    assert fitted_warm_start(MODEL, 1000, {"max_steps": 5}).keys() == {
        "per_device_train_batch_size",
        "learning_rate",
        "bf16",
        "logging_steps",
    }
    assert own["bf16"] is torch.cuda.is_available()
    # A short run has rows too
    for fitted, each in ((fitted_warm_start, 3), (partial(fitted_settings, free=PLENTY), 2)):
        assert [fitted(MODEL, 1000, {"max_steps": steps})["logging_steps"] for steps in (2, 30)] == [1, each]


def test_settings_as_a_command_line_come_back():
    own = {"learning_rate": 2e-4, "max_steps": 7, "bf16": False}
    line = as_arguments(own)
    assert shlex.join(line) == "--learning-rate 0.0002 --max-steps 7 --bf16 false"
    assert given_options([*line, "--unknown", "x"], VQAGRPOConfig) == own
