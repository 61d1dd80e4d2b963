"""Adapters in both recipes and the trainer: what is trained, what is the reference, and what is refused."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig

pytest.importorskip("peft", reason="peft is not installed")

import peft

import vqathinker.synth
from rewards import text_of
from vqathinker import QualityScorer
from vqathinker.data import clip_dataset
from vqathinker.policy import STREAMS, VQAThinkerForConditionalGeneration, base_policy, has_adapters
from vqathinker.policy.adapters import NAME, merged_weight, plain_parameters, save_adapter
from vqathinker.training import VQAGRPOTrainer, VQASFTConfig, load_dtype
from vqathinker.training.adapters import (
    AdapterArguments,
    completed,
    get_peft_config,
    get_quantization_config,
    with_adapter,
)
from vqathinker.training.checks import check_models
from vqathinker.training.head_loss import HeadArguments, check_head_learns

TINY_VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8} | {
    "image_size": 16, "patch_size": 8
}  # fmt: skip
SHIPPED = Path(vqathinker.synth.__file__).parent / "base"
LONGER = {"max_completion_length": 24, "num_generations": 4, "per_device_train_batch_size": 8}


def letters(completions, **columns):
    """A reward that answers to one clip differ in."""
    return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def trainer(train_rows, config):
    """Makes a trainer of the shipped base or of another policy."""

    def make(policy=None, args=None, **options):
        policy = policy or VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED)
        processor = AutoProcessor.from_pretrained(SHIPPED)
        args = args or config(**LONGER)
        dataset = clip_dataset(train_rows, processor)
        return VQAGRPOTrainer(policy, [letters], args, dataset, processor, **options)

    return make


def trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def shake(model, size):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))


def logps(trainer, model, batch=None):
    """A generation batch with what TRL computed, and a model's log-probabilities of its answers."""
    batch = batch or trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    rows, mask = (torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], 1) for name in ("ids", "mask"))
    with torch.no_grad():
        own = trainer._get_per_token_logps_and_entropies(model, rows, mask, batch["completion_ids"].shape[1])[0]
    return batch, own


def test_the_reference_is_the_policy_with_its_adapter_off_and_no_second_model(trainer):
    ours = trainer(peft_config=peft.LoraConfig(r=4))
    assert ours.ref_model is None
    shake(ours.model, 0.05)
    base = trainer(VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED), ours.args).model
    batch, of_base = logps(ours, base)
    reference, scored = batch["ref_per_token_logps"], batch["completion_mask"].bool()
    assert torch.allclose(of_base[scored], reference[scored], atol=1e-4)
    of_policy = logps(ours, ours.model, batch)[1]
    assert (of_policy - of_base)[scored].abs().max() > 0.1


@pytest.mark.contract
def test_steps_change_adapter_and_motion_projector_only_and_rollouts_with_them(trainer):
    ours = trainer(peft_config=peft.LoraConfig(r=4), args=None)
    policy = base_policy(ours.model)
    before, start = {name: p.clone() for name, p in ours.model.named_parameters()}, trained(ours.model)
    parts = {name.removeprefix("base_model.model.model.").split(".")[0] for name in start}
    assert parts == {"language_model", "motion_projector"} and {p.dtype for p in start.values()} == {torch.float32}
    seen, engine = [], ours._engine

    def watched(given):
        assert given is policy
        seen.append(sum(merged_weight(x).sum().item() for _, _, x in plain_parameters(policy) if x is not None))
        return engine(given)

    ours._engine = watched
    ours.train()
    after = dict(ours.model.named_parameters())
    assert all(torch.equal(after[name], p) for name, p in before.items() if name not in start)
    assert sum(not torch.equal(after[name], p) for name, p in start.items()) > 0.9 * len(start)
    assert len(set(seen)) == len(seen) == 2  # answers of the second step come from changed weights
    assert next(log["kl"] for log in ours.state.log_history if "kl" in log) == pytest.approx(0, abs=1e-6)


def test_the_vision_tower_is_adapted_where_it_is_meant(trainer, config):
    target = {"target_modules": "all-linear", "exclude_modules": r"model\.motion_projector\..*"}
    ours = trainer(None, config(**LONGER, gradient_checkpointing=True), peft_config=peft.LoraConfig(r=4, **target))
    assert not STREAMS["spatial"].frozen(base_policy(ours.model).model)
    start = trained(ours.model)
    parts = {name.removeprefix("base_model.model.model.").split(".")[0] for name in start}
    assert parts == {"language_model", "motion_projector", "vision_tower", "multi_modal_projector"}
    assert any("motion_projector.modules_to_save" in name for name in start)
    ours.train()
    after = trained(ours.model)
    vision = [name for name in start if "vision_tower" in name and "lora_B" in name]
    assert vision and all(not torch.equal(after[name], start[name]) for name in vision)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_a_base_of_16_bits_the_adapter_has_32_and_resumes_exactly(trainer, config, checkpointing):
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "gradient_checkpointing": checkpointing}

    def make():
        policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.bfloat16)
        return trainer(policy, config(**LONGER, **saving), peft_config=peft.LoraConfig(r=4))

    whole = make()
    whole.train()
    assert {p.dtype for p in trained(whole.model).values()} == {torch.float32}
    folder = Path(whole.args.output_dir)
    checkpoint = folder / "checkpoint-1"
    assert get_last_checkpoint(folder) == str(folder / "checkpoint-2")
    assert not (checkpoint / "model.safetensors").exists() and (checkpoint / "processor_config.json").exists()
    resumed = make()
    resumed.train(resume_from_checkpoint=str(checkpoint))
    ends = [trained(run.model) for run in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert any(not torch.equal(p, dict(make().model.named_parameters())[name]) for name, p in ends[0].items())
    (checkpoint / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no readable adapter_model\.safetensors"):
        make().train(resume_from_checkpoint=str(checkpoint))


def test_the_best_adapter_is_loaded_at_the_end(trainer, train_rows, config):
    args = config(
        **LONGER, max_steps=2, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1,
        load_best_model_at_end=True, metric_for_best_model="parse_rate",
    )  # fmt: skip
    held_out = clip_dataset(train_rows[:4], AutoProcessor.from_pretrained(SHIPPED))
    ours = trainer(None, args, peft_config=peft.LoraConfig(r=4), eval_dataset=held_out)
    ours.train()
    best = Path(ours.state.best_model_checkpoint)
    assert best.name == "checkpoint-1"  # both are as good
    saved = load_file(best / "adapter_model.safetensors")
    now = peft.get_peft_model_state_dict(ours.model)
    assert saved.keys() == now.keys() and all(torch.equal(now[name], value) for name, value in saved.items())


def test_what_is_saved_scores_and_its_card_is_ours(trainer, frames, tmp_path):
    ours = trainer(peft_config=peft.LoraConfig(r=4))
    ours.train()
    ours.create_model_card()
    ours.save_model()
    folder = Path(ours.args.output_dir)
    assert (folder / "README.md").read_text().count("Judges the quality") == 1
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(SHIPPED)
    scorer = QualityScorer.from_pretrained(folder)
    assert scorer.sampling.max_new_tokens == 24 and scorer.score(frames).answers


def test_a_peft_model_goes_on_from_its_adapter_which_is_the_reference(trainer, tmp_path):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED)
    model = peft.get_peft_model(policy, completed(peft.LoraConfig(r=4, task_type="CAUSAL_LM"), policy))
    shake(model, 0.02)
    ours = trainer(model)
    batch, own = logps(ours, ours.model)
    scored = batch["completion_mask"].bool()
    assert torch.allclose(own[scored], batch["ref_per_token_logps"][scored], atol=1e-4)
    assert not any(".ref." in name for name in trained(ours.model))
    ours.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved/ref").exists()  # it would be taken for the adapter when resuming
    start = trained(ours.model)
    ours.train()
    assert any(not torch.equal(p, start[name]) for name, p in trained(ours.model).items())


@pytest.mark.engine
def test_on_a_base_of_4_bits(trainer, train_rows, frames, config):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    quantization = get_quantization_config(AdapterArguments(use_peft=True, load_in_4bit=True), torch.float32)
    ours = trainer(str(SHIPPED), peft_config=peft.LoraConfig(r=4), quantization_config=quantization)
    policy, start = base_policy(ours.model), trained(ours.model)
    assert policy.is_loaded_in_4bit and {p.dtype for p in start.values()} == {torch.float32}
    whole = "base_model.model.model.motion_projector.{}.linear_1.weight"
    weights = dict(ours.model.named_parameters())  # TRL's cast to bfloat16 would change the first step
    assert torch.equal(weights[whole.format("modules_to_save.default")], weights[whole.format("original_module")])
    ours.evaluate(clip_dataset(train_rows[:4], ours.processing_class))  # packs weights on CPUs, if let
    before = {name: p.clone() for name, p in ours.model.named_parameters() if not p.is_floating_point()}
    ours.train()
    after = dict(ours.model.named_parameters())
    assert before and all(torch.equal(after[name], value) for name, value in before.items())
    changed = [name for name, p in start.items() if not torch.equal(after[name], p)]
    assert len(changed) > 0.9 * len(start)
    ours.save_model()
    scorer = QualityScorer.from_pretrained(ours.args.output_dir)
    assert scorer.policy.is_quantized and scorer.score(frames).answers
    for options, message in (
        ({"args": config(), "quantization_config": quantization}, "quantized and cannot be trained: train an adapter"),
        ({"policy": policy, "quantization_config": quantization}, "quantization_config with a loaded policy"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(**{"policy": str(SHIPPED)} | options)


@pytest.mark.slow
def test_an_adapter_reaches_four_fifths_of_full_trainings_gain_in_the_same_steps(trainer, config):
    def gain(learning_rate, steps=24, **options):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED)
        if not options:
            policy.freeze(["vision_tower", "multi_modal_projector"])
        args = config(
            **{**LONGER, "num_generations": 8, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1},
            max_steps=steps, learning_rate=learning_rate, lr_scheduler_type="constant", beta=0.0,
        )  # fmt: skip
        ours = trainer(policy, args, **options)
        ours.train()
        rewards = [log["reward"] for log in ours.state.log_history if "reward" in log]
        return sum(rewards[-4:]) / 4 - sum(rewards[:4]) / 4

    full, adapted = gain(2e-4), gain(2e-3, peft_config=peft.LoraConfig(r=16, lora_alpha=32))
    assert full > 0.05 and adapted > 0.8 * full


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_other_ways_to_scale_load_as_they_were_trained(trainer, options):
    ours = trainer(peft_config=peft.LoraConfig(r=4, **options))
    ours.train()
    shake(ours.model, 0.01)
    ours.save_model()
    batch, of_training = logps(ours, ours.model)
    loaded = trainer(VQAThinkerForConditionalGeneration.from_pretrained(ours.args.output_dir), ours.args)
    scored = batch["completion_mask"].bool()
    assert torch.allclose(of_training[scored], logps(ours, loaded.model, batch)[1][scored], atol=1e-3)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_dropout": 0.1}, "lora_dropout=0.1: each pass of the loss"),
        ({"bias": "all"}, "bias='all': with the adapter off"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa': with the adapter off"),
        ({"lora_bias": True}, "'lora_bias': True.*only add products to the weights"),
        ({"target_modules": ["lm_head", "q_proj"]}, r"names \['lm_head'\]: SlowFast, token"),
        ({"target_modules": ["embed_tokens"]}, r"names \['embed_tokens'\]"),
        ({"target_modules": ["conv"]}, r"names (no layer|\['motion_encoder'\])"),
        ({"target_modules": "nothing"}, "names no layer"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]: only these parts can be trained whole"),
        ({"target_modules": "all-linear", "modules_to_save": ["motion_projector"]}, "adapted, not both"),
    ],
)
def test_adapters_that_are_refused(trainer, options, message):
    with pytest.raises(ValueError, match=message):
        trainer(peft_config=peft.LoraConfig(**options))


def test_other_kinds_of_adapters_are_refused(trainer, policy):
    with pytest.raises(ValueError, match="peft_config=PromptTuningConfig: only LoRA adapters are supported"):
        trainer(peft_config=peft.PromptTuningConfig(num_virtual_tokens=4))
    wrapped = peft.get_peft_model(policy, completed(peft.LoraConfig(), policy))
    with pytest.raises(ValueError, match="peft_config with a policy that already has an adapter"):
        trainer(wrapped, peft_config=peft.LoraConfig())
    with pytest.raises(ValueError, match=r"has the adapters \['default'\]: only one is trained, 'default'"):
        trainer(base_policy(wrapped))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.04, "sync_ref_model": True}, "sync_ref_model=True with an adapter"),
        (
            {"model_init_kwargs": {"dtype": "float32"}},
            "beta=0 or an adapter, which need no reference: they would not be used",
        ),
    ],
)
def test_settings_that_do_not_go_with_an_adapter(trainer, config, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(args=config(**settings), peft_config=peft.LoraConfig())


def test_what_vllm_cannot_be_given(trainer, config, monkeypatch):
    monkeypatch.setattr("vqathinker.training.config.check_vllm", lambda: None)
    args = config(use_vllm=True)
    with pytest.raises(ValueError, match="adapter 'default' is DoRA: for vLLM only a plain LoRA"):
        trainer(args=args, peft_config=peft.LoraConfig(use_dora=True))
    policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED)
    policy.is_quantized = policy.is_loaded_in_4bit = True
    with pytest.raises(ValueError, match=r"weights are quantized: vLLM needs unquantized ones\. Set use_vllm=False"):
        trainer(policy, args, peft_config=peft.LoraConfig())
    policy.is_loaded_in_4bit = False
    with pytest.raises(ValueError, match="not 4 bits of bitsandbytes"):
        trainer(policy, args, peft_config=peft.LoraConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_r": 8}, r"\['lora_r'\] without use_peft"),
        ({"load_in_4bit": True}, r"\['load_in_4bit'\] without use_peft"),
        ({"use_peft": True, "use_bnb_nested_quant": True}, "without load_in_4bit"),
        ({"use_peft": True, "lora_r": 0}, "lora_r=0"),
        ({"use_peft": True, "load_in_4bit": True, "bnb_4bit_quant_type": "int4"}, "must be 'nf4' or 'fp4'"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdapterArguments(**options)


@pytest.mark.contract
def test_every_option_of_trls_model_config_is_taken_or_said_to_be_left_out(repo):
    page = (repo / "docs/options.md").read_text(encoding="utf-8").partition("## Adapters")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (taken|replaced|left out) \|", page, re.MULTILINE)
    table = {name: said for names, said in rows for name in re.findall(r"\w+", names)}
    assert table.keys() == {option.name for option in fields(ModelConfig)}
    taken = {name for name, said in table.items() if said == "taken"}
    assert taken == {option.name for option in fields(AdapterArguments)}


def test_layers_are_the_language_models_unless_told(policy):
    def layers(names=None, **options):
        config = get_peft_config(AdapterArguments(use_peft=True, lora_target_modules=names), policy, **options)
        model = peft.get_peft_model(VQAThinkerForConditionalGeneration.from_pretrained(policy.name_or_path), config)
        found = {name.split(".lora_A")[0].removeprefix("base_model.model.model.") for name in trained(model)}
        return {name.split(".")[0] for name in found}, {name.rpartition(".")[2] for name in found}

    parts, names = layers(["q_proj", "v_proj"])
    assert parts == {"language_model", "motion_projector"} and {"q_proj", "v_proj"} <= names and "k_proj" not in names
    assert layers(frozen=["motion_projector", "vision_tower"])[0] == {"language_model"}
    assert layers([r".*\.q_proj"])[0] == {"language_model", "motion_projector", "vision_tower"}
    assert "multi_modal_projector" in layers(["all-linear"])[0]
    with pytest.raises(ValueError, match=r"lora_target_modules=\['qproj'\]: the language model's linear layers are"):
        layers(["qproj", "v_proj"])
    with pytest.raises(ValueError, match=r"freeze=\['language_model'\], but the adapter trains it"):
        layers(frozen=["language_model"])


def test_a_score_head_is_trained_whole_or_the_run_is_refused(policy):
    policy.set_score_head("hidden")
    assert get_peft_config(AdapterArguments(use_peft=True), policy).modules_to_save == [
        "motion_projector", "score_head"
    ]  # fmt: skip
    everything = get_peft_config(AdapterArguments(use_peft=True, lora_target_modules=["all-linear"]), policy)
    assert everything.modules_to_save == ["score_head"]  # the projectors are adapted
    named = AdapterArguments(use_peft=True, lora_modules_to_save=["motion_projector"])
    without = peft.get_peft_model(policy, get_peft_config(named, policy))
    with pytest.raises(
        ValueError, match=r"head_weight=1\.0, but no weight of a score head is trained\. Beside an adap"
    ):
        check_head_learns(without, HeadArguments(head_weight=1.0))
    check_head_learns(without, HeadArguments())


@pytest.mark.parametrize("excluded", [None, ["k_proj"], r".*\.k_proj"])
def test_an_adapter_leaves_the_score_head_whole(policy, tmp_path, excluded):
    """A head with products on random weights would come back with other random weights."""
    policy.set_score_head("hidden")
    config = completed(peft.LoraConfig(target_modules="all-linear", exclude_modules=excluded), policy)
    model = peft.get_peft_model(policy, config)
    adapted = {name for name in trained(model) if "lora_" in name}
    assert any("q_proj" in name for name in adapted) and not any("score_head" in name for name in adapted)
    assert any("k_proj" in name for name in adapted) == (excluded is None)
    assert sum("score_head.modules_to_save" in name for name in trained(model)) == 6
    check_head_learns(model, HeadArguments(head_weight=1.0))
    save_adapter(model, tmp_path)
    found = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    own = {name.replace("modules_to_save.default.", ""): value for name, value in policy.state_dict().items()}
    head = [name for name in found if "score_head" in name]
    assert len(head) == 6 and all(torch.equal(found[name], own[name]) for name in head)


def test_what_an_adapter_could_not_be_loaded_with_or_train_is_refused(policy, base, tmp_path):
    config = get_peft_config(AdapterArguments(use_peft=True), policy)
    args = VQASFTConfig(str(tmp_path), use_cpu=True, report_to="none", head_weight=1.0, head_only=True)
    with pytest.raises(ValueError, match=r"head_only=True with an adapter \(use_peft\)"):
        with_adapter(policy, config, args)
    other = VQAThinkerForConditionalGeneration.from_pretrained(base, low_tokens=1, low_config=TINY_VIT)
    args.head_only = False
    with pytest.raises(
        ValueError, match=r"the policy has low_tokens=1, but '.*', which its adapter .* base, 0: the ad"
    ):
        with_adapter(other, get_peft_config(AdapterArguments(use_peft=True), other), args)
    with pytest.raises(
        ValueError, match=r"the reference, .*'low_tokens': 0\}, the policy .*'low', .*'low_tokens': 1\}"
    ):
        check_models(other, policy, 8, 8)


def test_auto_loads_the_type_in_which_a_run_with_an_adapter_computes(config):
    assert load_dtype("auto", config(bf16=True), adapter=True) == torch.bfloat16
    assert load_dtype("auto", config(bf16=True)) == load_dtype("auto", config(), adapter=True) == torch.float32


def test_a_missing_extra_is_named(policy, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match=r"use_peft=True needs PEFT .*pip install '.\[lora\]'"):
        get_peft_config(AdapterArguments(use_peft=True), policy)
    monkeypatch.setattr("vqathinker.training.adapters.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ImportError, match=r"needs bitsandbytes: pip install '.\[quantized\]'"):
        get_quantization_config(AdapterArguments(use_peft=True, load_in_4bit=True), torch.float32)


# ---------------------------------------------------------------------- the recipes


@pytest.fixture
def recipe(repo, clip_set, tmp_path, monkeypatch):
    """Runs two steps of a recipe with an adapter; the folder that it leaves."""
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    monkeypatch.chdir(tmp_path)
    import grpo_lsvq
    import sft_lsvq

    def run(name, model, *options):
        main, file = {"grpo": (grpo_lsvq.main, "demo.yaml"), "sft": (sft_lsvq.main, "demo_sft.yaml")}[name]
        only = {
            "grpo": [
                *("--val_labels", "", "--num_generations", 4, "--steps_per_generation", 1),
                *("--max_completion_length", 24),
            ],
            "sft": [],
        }
        settings = [
            *("--model", model, "--train_labels", clip_set / "train.csv", "--video_root", clip_set, *only[name]),
            *("--per_device_train_batch_size", 8, "--max_steps", 2, "--frame_cache", "", "--warmup_steps", 0),
            *("--use_peft", "true", "--lora_r", 4, "--learning_rate", 1e-3, "--output_dir", tmp_path / name, *options),
        ]
        main(["--config", str(repo / "recipes/configs" / file), *map(str, settings)])
        return tmp_path / name

    return run


def test_a_warm_start_and_grpo_each_leave_an_adapter_that_builds_on_the_one_before(recipe, frames):
    first = recipe("sft", SHIPPED, "--lora_dropout", 0.1)
    second = recipe("grpo", first)
    bases = [
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        for folder in (first, second)
    ]
    assert bases == [str(SHIPPED), str(first)]
    loaded = [VQAThinkerForConditionalGeneration.from_pretrained(folder) for folder in (SHIPPED, first, second)]
    weights = [policy.state_dict()["model.language_model.layers.0.mlp.up_proj.weight"] for policy in loaded]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert QualityScorer.from_pretrained(second).score(frames).answers


def test_recipes_refuse_what_they_would_not_honour(recipe, capsys):
    for name in ("sft", "grpo"):
        with pytest.raises(ValueError, match="without load_in_4bit"):
            recipe(name, SHIPPED, "--use_bnb_nested_quant", "true")
        with pytest.raises(SystemExit):  # of ModelConfig
            recipe(name, SHIPPED, "--lora_task_type", "CAUSAL_LM")
        assert "unknown option --lora-task-type" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"lora_dropout=0\.1"):
        recipe("grpo", SHIPPED, "--lora_dropout", 0.1)


def test_reentrant_checkpointing_trains_the_language_models_adapter_and_refuses_the_vision_towers(tmp_path):
    args = VQASFTConfig(
        str(tmp_path), gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}, use_cpu=True
    )
    for names, refused in ((None, False), ([r"model\..*\.q_proj"], True)):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(SHIPPED)
        config = get_peft_config(AdapterArguments(use_peft=True, lora_target_modules=names), policy)
        if refused:
            with pytest.raises(ValueError, match="no gradient through reentrant checkpointing"):
                with_adapter(policy, config, args)
            continue
        model = with_adapter(policy, config, args)
        assert has_adapters(model) and list(model.peft_config) == [NAME]
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
        model.train()
        processor = AutoProcessor.from_pretrained(SHIPPED)
        ids = torch.tensor(processor.prompt_ids())[None]
        side, motion = processor.image_size, policy.config.motion_config.feature_size
        frames = torch.zeros(1, processor.num_frames, 3, side, side, dtype=torch.uint8)
        features = torch.randn(1, policy.config.motion_tokens, motion)
        shown = {
            "frames": frames,
            "motion_features": features,
            "visual_index": processor.index_of([processor.render()]),
        }
        model(input_ids=ids, labels=ids, **shown).loss.backward()
        assert all(p.grad is not None for name, p in model.named_parameters() if ".lora_B." in name)
