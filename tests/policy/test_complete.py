"""A checkpoint loads whole, or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, TrainingArguments

from vqathinker.cli import main
from vqathinker.policy import IncompleteCheckpoint, VQAThinkerForConditionalGeneration, load_policy
from vqathinker.training import VQAGRPOTrainer, WholeCheckpointTrainer

EMBEDDING = "model.language_model.embed_tokens.weight"


def edited(base, folder, weights=None, config=None):
    """A copy of a checkpoint folder, its weights and its configuration passed through functions."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    if weights:
        kept = weights(load_file(folder / "model.safetensors"))
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
    if config:
        known = json.loads((folder / "config.json").read_text())
        config(known)
        (folder / "config.json").write_text(json.dumps(known))
    return folder


def untie(config):
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False


def without(part):
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


def with_weight(name, *size):
    return lambda weights: weights | {name: torch.ones(size)}


def renamed(weights):
    return {f"policy.{name}": tensor for name, tensor in weights.items()}


def half(weights):
    return {name: weights[name] for name in sorted(weights)[::2]}


def shallower(config):
    config["text_config"]["num_hidden_layers"] = 3
    config["text_config"]["layer_types"] = config["text_config"]["layer_types"][:3]


TOTAL = r"\d{3}"
CASES = {
    "renamed prefix": (renamed, None, rf"{TOTAL} of {TOTAL} are missing \(.*; {TOTAL} have no place .* \(policy.model"),
    "half of them": (half, None, rf"{TOTAL} of {TOTAL} are missing \(.*\.\.\.\)"),
    "no head though untied": (None, untie, rf"1 of {TOTAL} are missing \(lm_head.weight\)"),
    "neither head nor embedding": (
        without(EMBEDDING),
        None,
        rf"2 of {TOTAL} are missing \(lm_head.weight, {EMBEDDING}",
    ),
    "no motion encoder": (
        without("motion_encoder"),
        None,
        rf"{TOTAL} of {TOTAL} are missing \(model.motion_encoder.*\)",
    ),
    "no running mean": (
        without("blocks.0.multipathway_blocks.0.norm.running_mean"),
        None,
        rf"1 of {TOTAL} are missing",
    ),
    "another shape": (
        with_weight("model.language_model.norm.weight", 64),
        None,
        rf"1 of {TOTAL} have another shape \(model.language_model.norm.weight \(64,\), not \(128,\)\)",
    ),
    "one too many": (
        with_weight("model.adapter.weight", 2),
        None,
        r"1 have no place in the model \(model.adapter.weight\)",
    ),
    "fewer layers": (None, shallower, r"12 have no place in the model \(model.language_model.layers.3"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_that_is_not_the_policy_is_refused_by_name(base, tmp_path, case):
    weights, config, message = CASES[case]
    folder = edited(base, tmp_path / "policy", weights, config)
    with pytest.raises(
        IncompleteCheckpoint, match=rf"policy' does not hold .*{message}.*\. Download or copy the whole"
    ):
        load_policy(folder, "cpu")


def missing_shard(files):
    files[-1].unlink()


def torn_shard(files):
    files[-1].write_bytes(files[-1].read_bytes()[:-1000])


def pointer(files):
    files[-1].write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize("damage", [missing_shard, torn_shard, pointer])
def test_a_shard_that_is_missing_or_damaged_is_an_error_of_one_line(policy, base, tmp_path, capsys, damage):
    folder = edited(base, tmp_path / "policy")
    (folder / "model.safetensors").unlink()
    policy.save_pretrained(folder, max_shard_size="3MB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    damage(shards)
    with pytest.raises(IncompleteCheckpoint, match=r"missing or damaged .*: download or copy the whole folder again"):
        load_policy(folder, "cpu")
    assert main(["score", str(tmp_path / "clip.mp4"), "--model", str(folder)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("vqathinker score: ")


HARMLESS = {
    "as saved": (None, None, {}),
    "a head of its own": (lambda weights: weights | {"lm_head.weight": torch.zeros(562, 128)}, untie, {}),
    "the tied head repeated": (lambda weights: weights | {"lm_head.weight": weights[EMBEDDING].clone()}, None, {}),
    "only the tied head": (
        lambda weights: without(EMBEDDING)(weights) | {"lm_head.weight": weights[EMBEDDING]},
        None,
        {},
    ),
    "a buffer of former times": (with_weight("model.language_model.rotary_emb.inv_freq", 16), None, {}),
    "no motion asked for": (None, None, {"motion_tokens": 0}),
    "no motion configured": (None, lambda config: config.update(motion_tokens=0), {}),
}


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("cls", [VQAThinkerForConditionalGeneration, AutoModelForImageTextToText])
def test_what_need_not_be_there_is_no_fault(base, policy, tmp_path, case, cls):
    weights, config, settings = HARMLESS[case]
    loaded = cls.from_pretrained(edited(base, tmp_path, weights, config), **settings)
    own = policy.state_dict()
    for name, tensor in loaded.state_dict().items():
        expected = torch.zeros(562, 128) if case == "a head of its own" and name == "lm_head.weight" else own[name]
        assert torch.equal(tensor, expected), name
    assert any("motion_projector" in name for name in loaded.state_dict()) == ("motion" not in case)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without("model.norm"), r"1 of \d+ are missing \(model.language_model.norm.weight\)"),
        (
            with_weight("language_model.lm_head.weight", 3, 3),
            r"lm_head.weight \(3, 3\), not \(562, 48\)|a tied weight .* whose shape differs",
        ),
        (with_weight("extra", 2), r"1 have no place in the model \(extra\)"),
    ],
)
def test_nor_does_a_policy_start_from_part_of_internvl(internvl, tmp_path, weights, message):
    folder = edited(internvl, tmp_path / "internvl", weights)
    with pytest.raises(IncompleteCheckpoint, match=message):
        VQAThinkerForConditionalGeneration.from_internvl(folder, "random")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without("motion_projector"), rf"6 of {TOTAL} are missing \(model.motion_projector"),
        (with_weight("extra", 2), r"1 have no place in the model \(extra\)"),
    ],
)
def test_a_run_does_not_go_on_from_part_of_a_checkpoint(policy, base, tmp_path, weights, message):
    folder = edited(base, tmp_path / "checkpoint-1", weights)
    args = TrainingArguments(tmp_path, use_cpu=True, report_to=[])
    trainer = WholeCheckpointTrainer(policy, args, train_dataset=[{"input_ids": [1]}])
    with pytest.raises(IncompleteCheckpoint, match=f"checkpoint to resume from does not hold .*{message}"):
        trainer.train(resume_from_checkpoint=str(folder))


def test_a_run_goes_on_from_a_whole_checkpoint_without_a_word(policy, base, caplog):
    trainer = WholeCheckpointTrainer(policy, TrainingArguments(base / "out", use_cpu=True, report_to=[]))
    trainer._load_from_checkpoint(str(base))
    assert "lm_head" not in caplog.text and issubclass(VQAGRPOTrainer, WholeCheckpointTrainer)
