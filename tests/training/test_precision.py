"""Updates of 1e-6 must arrive: what is trained is float32, or has float32 master weights."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor

import vqathinker.synth
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer, check_precision, load_dtype

SHIPPED = Path(vqathinker.synth.__file__).parent / "base"


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """The shipped base, which earns rewards, as `vqathinker init` writes policies: in bfloat16."""
    folder = tmp_path_factory.mktemp("halved")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.bfloat16)
    policy.save_pretrained(folder)
    AutoProcessor.from_pretrained(SHIPPED).save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(repo, clip_set, halved, tmp_path, monkeypatch):
    """Two steps of a recipe, with the paper's learning rate, from the bfloat16 policy; the trained policy's folder."""
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_lsvq
    import sft_lsvq

    def run(name, *options):
        main, config, labels = {
            "grpo": (
                grpo_lsvq.main,
                "demo.yaml",
                [
                    "--val_labels",
                    "",
                    "--num_generations",
                    "4",
                    "--steps_per_generation",
                    "1",
                    "--max_completion_length",
                    "24",
                ],
            ),
            "sft": (sft_lsvq.main, "demo_sft.yaml", []),
        }[name]
        settings = [
            *("--model", halved, "--train_labels", clip_set / "train.csv", "--video_root", clip_set, *labels),
            *("--per_device_train_batch_size", 8, "--max_steps", 2, "--frame_cache", "", "--warmup_steps", 0),
            *("--learning_rate", 1e-6, "--lr_scheduler_type", "constant", "--output_dir", tmp_path / "run", *options),
        ]
        main(["--config", str(repo / "recipes/configs" / config), *map(str, settings)])
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(("name", "dtype"), [("grpo", "auto"), ("sft", "auto"), ("sft", "float32")])
def test_a_recipe_trains_nearly_all_weights_of_a_bfloat16_policy(recipe, halved, name, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (halved, recipe(name, "--dtype", dtype)))
    trained = [key for key in before if key.startswith("model.language_model.")]
    assert {after[key].dtype for key in trained} == {torch.float32}
    changed = sum((after[key] != before[key].float()).sum().item() for key in trained)
    assert changed > 0.95 * sum(before[key].numel() for key in trained)
    assert all(torch.equal(after[key], before[key].float()) for key in before if "vision_tower" in key)  # frozen
    assert not list(tmp_path.glob("*.frames"))  # an empty frame_cache is none


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_a_recipe_that_would_round_its_updates_away_is_refused(recipe, name):
    with pytest.raises(
        ValueError, match=r"trained parameters are bfloat16, .* they must be float32, .* Load the policy with"
    ):
        recipe(name, "--dtype", "bfloat16")
    with pytest.raises(ValueError, match="dtype='half': must be one of"):
        recipe(name, "--dtype", "half")
    if name == "grpo":
        with pytest.raises(ValueError, match="with `dtype`, not here"):
            recipe(name, "--model_init_kwargs", '{"dtype": "bfloat16"}')


def test_the_trainer_counts_what_it_refuses_and_lets_frozen_parts_be(base, train_rows, config):
    def make(policy):
        processor = AutoProcessor.from_pretrained(base)
        return VQAGRPOTrainer(policy, "recommended", config(), clip_dataset(train_rows, processor), processor)

    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, dtype=torch.bfloat16)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match=f"{trained:,} of {trained:,} trained parameters are bfloat16"):
        make(policy)
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
    policy.model.motion_encoder.to(torch.bfloat16)
    make(policy)
    policy.model.motion_projector.to(torch.float16)
    with pytest.raises(ValueError, match="trained parameters are float16"):
        make(policy)


@pytest.mark.parametrize("options", [{"quantization_config": {"load_in_4bit": True}}, {"load_in_4bit": True}])
def test_a_configuration_that_quantizes_is_refused(config, options):
    with pytest.raises(ValueError, match=r"model_init_kwargs=\{'.*the reference would be loaded with it too"):
        config(model_init_kwargs=options | {"attn_implementation": "sdpa"})


@pytest.mark.parametrize(
    ("deepspeed", "dtype"),
    [
        (None, None),
        ({"bf16": {"enabled": True}, "fp16": {"enabled": False}}, torch.bfloat16),
        ({"bf16": {"enabled": False}, "fp16": {"enabled": "true"}}, torch.float16),
        ({"bf16": {"enabled": False}}, None),
        ({"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}, None),
        ({}, None),
    ],
)
def test_deepspeed_keeps_master_weights_where_it_computes_in_16_bits(deepspeed, dtype):
    plugin = None if deepspeed is None else SimpleNamespace(deepspeed_config=deepspeed)
    args = SimpleNamespace(deepspeed_plugin=plugin)
    assert load_dtype("auto", args) == (dtype or torch.float32) and load_dtype("float32", args) == torch.float32
    linear = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    if dtype is None:
        with pytest.raises(ValueError, match="6 of 6"):
            check_precision(linear, args)
    else:
        check_precision(linear, args)
