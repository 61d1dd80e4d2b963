import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoProcessor

from benchmarks import measure
from vqathinker.cli import main
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.training import budget, step_time
from vqathinker.training.groups import ClipBatch, pack_groups

SETTINGS = {
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": None,
    "num_iterations": 1,
    "max_completion_length": 40,
    "gradient_checkpointing": False,
    "bf16": False,
    "beta": 0.04,
    "use_vllm": False,
}


@pytest.fixture
def shape(policy, processor):
    return budget.shape_of(SETTINGS, policy.config, prompt=len(processor.prompt_ids()))


def loss_of(policy, processor, shape, frozen=False):
    """A forward as in the loss, not yet run."""
    from trl.trainer.grpo_trainer import add_fused_lm_head

    add_fused_lm_head(policy, temperature=0.9, outputs=("log_probs", "entropy"))
    policy.train()
    prompt = torch.tensor(processor.prompt_ids())
    ids = torch.cat([prompt.expand(8, -1), torch.randint(6, 500, (8, shape.completion))], 1)
    packed = pack_groups(ids, torch.ones_like(ids), shape.clips, shape.completion)
    assert packed.inputs["input_ids"].numel() == shape.packed
    side = processor.image_size
    frames = list(torch.zeros(shape.clips, 6, 3, side, side, dtype=torch.uint8))
    motion = torch.randn(shape.clips, policy.config.motion_tokens, policy.config.motion_config.feature_size)
    if frozen:
        frames = [clip["spatial"].detach() for clip in policy.encode(frames=frames, motion_features=motion)]
    name = "spatial_features" if frozen else "frames"
    seen = [{name: a, "motion_features": b} for a, b in zip(frames, motion, strict=True)]
    clips = ClipBatch([processor.render()] * shape.clips, seen, ["spatial", "motion"])
    inputs = packed.inputs | clips.inputs() | {"shift_labels": packed.targets}
    return lambda: policy(**inputs, fused_lm_head=True).log_probs.sum()


def kept_by_a_forward(policy, processor, shape, frozen=False):
    """Bytes of what a forward in the loss keeps for its backward, beside the weights."""
    forward = loss_of(policy, processor, shape, frozen)
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor too, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_a_forward_keeps(policy, processor, checkpointing, frozen):
    settings = SETTINGS | {"freeze": ["vision_tower", "multi_modal_projector"] if frozen else []}
    shape = budget.shape_of(settings, policy.config, prompt=len(processor.prompt_ids()))
    policy.freeze(settings["freeze"])
    if checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    measured = kept_by_a_forward(policy, processor, shape, frozen)
    estimate = budget.activation_bytes(policy.config, shape, 4, checkpointing)
    if checkpointing:  # the layer that is recomputed comes on top of what is kept
        layer = budget.activation_bytes(policy.config, shape, 4, False) / policy.config.text_config.num_hidden_layers
        assert measured < estimate < measured + layer
    else:
        assert estimate == pytest.approx(measured, rel=0.03)


def test_parts_of_a_micro_batch_and_single_rows_are_counted(policy, shape):
    def activations(**changes):
        other = budget.shape_of(SETTINGS | changes, policy.config, prompt=shape.prompt)
        return budget.activation_bytes(policy.config, other, 4, False)

    each = shape.packed // shape.clips
    one = budget.activation_bytes(policy.config, replace(shape, clips=1), 4, False)
    assert activations(max_tokens_per_batch=each) == activations(max_tokens_per_batch=1) == one < activations()
    assert activations(max_tokens_per_batch=shape.clips * each) == activations()
    rows = budget.shape_of(SETTINGS | {"shared_prefix": "never"}, policy.config, prompt=shape.prompt)
    assert rows.packed == 8 * (shape.prompt + shape.completion) and activations(shared_prefix="never") > activations()


@pytest.mark.parametrize("tile", [32, 32_768])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_backward_takes_what_is_measured(policy, processor, monkeypatch, checkpointing, tile):
    """As on a GPU: the head sees the answers alone, and changes its tile in place."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    monkeypatch.setattr(utils, "_use_triton", lambda device: True)
    monkeypatch.setattr(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", tile)
    monkeypatch.setattr(budget, "TILE", (4096, tile))
    monkeypatch.setattr(chunked_logprob, "_forward_tile", lambda tile, stride, targets, top, *_, **__: top.zero_())
    monkeypatch.setattr(chunked_logprob, "_backward_tile", lambda tile, *_, **__: tile.mul_(1e-3))
    shape = budget.shape_of(SETTINGS, policy.config, prompt=len(processor.prompt_ids()))
    if checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    forward = loss_of(policy, processor, shape)
    measured = measure.peak_bytes(lambda: forward().backward())
    estimate = budget.activation_bytes(policy.config, shape, 4, checkpointing)
    estimate += budget.backward_bytes(policy.config, shape, 4, checkpointing)
    assert estimate == pytest.approx(measured, rel=0.1)


def test_activations_and_cache_of_other_language_models(from_internvl):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(from_internvl)
    processor = AutoProcessor.from_pretrained(from_internvl)
    policy.freeze(["vision_tower", "multi_modal_projector"])
    settings = SETTINGS | {"freeze": ["vision_tower", "multi_modal_projector"]}
    shape = budget.shape_of(settings, policy.config, prompt=len(processor.prompt_ids()))
    measured = kept_by_a_forward(policy, processor, shape, frozen=True)
    assert budget.activation_bytes(policy.config, shape, 4, False) == pytest.approx(measured, rel=0.03)
    cache = policy.model.language_model(inputs_embeds=torch.randn(1, 30, 48), use_cache=True).past_key_values
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 30 * budget.cache_bytes_per_token(policy.config, 4) == measured


def test_weights_gradients_and_optimizer_are_what_a_step_holds(policy, shape):
    machine = budget.Machine(gpus=1, zero=0)
    parts = budget.memory(SETTINGS, policy.config, shape, machine)
    assert parts["weights"] == parts["reference"] == sum(p.numel() * 4 for p in policy.parameters())
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert parts["gradients"] == sum(p.grad.numel() * 4 for p in trained)
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert parts["optimizer"] == sum(moment.numel() * 4 for moment in moments)


def test_autocast_copies_are_what_a_forward_casts(policy, processor, shape):
    """Matrices appear once more in what a forward under autocast keeps, in 16 bits."""
    matrices = {tuple(sorted(p.shape)) for p in policy.parameters() if p.ndim > 1 and p.requires_grad}
    prompt, copies = torch.tensor(processor.prompt_ids())[None], {}

    def pack(tensor):
        if tensor.dtype == torch.bfloat16 and tuple(sorted(tensor.shape)) in matrices:
            copies[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    seen = {"frames": torch.zeros(6, 3, 64, 64, dtype=torch.uint8), "motion_features": torch.randn(6, 640)}
    clips = ClipBatch([processor.render()], [seen], ["spatial", "motion"])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        policy(prompt, **clips.inputs())
    settings = SETTINGS | {"bf16": True}
    estimate = budget.memory(settings, policy.config, shape, budget.Machine(gpus=1, zero=0))["autocast copies"]
    assert estimate == pytest.approx(sum(size for size, _ in copies.values()), rel=0.1)
    for other in (SETTINGS, settings | {"freeze": ["vision_tower"]}):
        assert budget.memory(other, policy.config, shape, budget.Machine(gpus=1, zero=0))["autocast copies"] < estimate
    assert budget.memory(settings, policy.config, shape, budget.Machine(gpus=1, zero=2))["autocast copies"] == 0


def test_precision_is_that_of_the_recipe(policy, shape, tmp_path):
    """fp32 weights, gradients and moments (4 + 4 + 8 bytes); under ZeRO with bf16 2 + 2 + 12."""
    count = budget.parameter_counts(policy.config)
    mixed = SETTINGS | {"bf16": True, "dtype": "auto"}
    for settings, zero, weight, optimizer in (
        (SETTINGS, 0, 4, 8), (mixed, 0, 4, 8), (SETTINGS, 2, 4, 12), (mixed, 2, 2, 12),
        (mixed | {"dtype": "float32"}, 2, 2, 12), (SETTINGS | {"fp16": True}, 2, 2, 12),
    ):  # fmt: skip
        parts = budget.memory(settings, policy.config, shape, budget.Machine(gpus=1, zero=zero))
        assert parts["weights"] == parts["reference"] == weight * count["all"], (settings, zero)
        assert parts["gradients"] == weight * count["trained"] and parts["optimizer"] == optimizer * count["trained"]
    for zero, settings in ((0, mixed), (2, SETTINGS)):
        refused = settings | {"dtype": "bfloat16"}
        with pytest.raises(ValueError, match=r"dtype='bfloat16' with zero=.*Set dtype to auto"):
            budget.memory(refused, policy.config, shape, budget.Machine(zero=zero))
    four = budget.memory(SETTINGS, policy.config, shape, budget.Machine(gpus=4, zero=0))
    assert four["exchange buffer"] == four["gradients"]
    file = tmp_path / "config.yaml"
    for text, bf16 in (
        ("preset: paper", True),
        ("preset: paper\nfp16: true", False),
        ("preset: paper\nbf16: false", False),
    ):
        file.write_text(text)
        assert budget.read_settings(file)["bf16"] is bf16  # TRL's default


def test_a_token_in_the_cache_takes_what_a_prefill_leaves(policy):
    cache = policy.model.language_model(inputs_embeds=torch.randn(1, 30, 128), use_cache=True).past_key_values
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 30 * budget.cache_bytes_per_token(policy.config, 4) == measured


def test_rollouts_take_what_is_measured(policy, processor):
    """For the encoding, the prompts' pass and long answers, whichever takes most."""
    clips, answers, prompt = 4, 4, len(processor.prompt_ids())
    frames = list(torch.randint(256, (clips, 6, 3, processor.image_size, processor.image_size), dtype=torch.uint8))
    motion = torch.randn(clips, policy.config.motion_tokens, policy.config.motion_config.feature_size)
    engine = TransformersEngine(policy, [1], [1])
    with torch.no_grad():
        features = policy.encode(frames=frames, motion_features=motion)
        prompts = [policy.prompt_embeds(processor.render(), [clip]) for clip in features]
        encoding = measure.peak_bytes(lambda: policy.encode(frames=frames, motion_features=motion))
        for completion in (2, 200):
            settings = SETTINGS | {"max_completion_length": completion, "contrast_weight": 1.0, "num_generations": 4}
            shape = budget.Shape(clips, answers, prompt, completion, 6)
            settings["gradient_accumulation_steps"] = 1
            measured = measure.peak_bytes(lambda: engine.generate(prompts, answers, Sampling(completion)))  # noqa: B023
            assert sum(budget.sampling_bytes(settings, policy.config, shape, 4)) == pytest.approx(measured, rel=0.1)
    twice = SETTINGS | {"gradient_accumulation_steps": 2}  # 2 x 2 clips, and their copies, which are not encoded
    shape = budget.Shape(2, answers, prompt, 2, 6)
    assert budget.encoding_bytes(twice, policy.config, shape, 4) == pytest.approx(encoding, rel=0.1)


def test_zero_shares_out_what_it_says(policy, shape):
    one = budget.memory(SETTINGS, policy.config, shape, budget.Machine(gpus=1, zero=3))
    for stage, parts in (
        (1, ["optimizer"]),
        (2, ["optimizer", "gradients"]),
        (3, ["optimizer", "gradients", "weights"]),
    ):
        four = budget.memory(SETTINGS, policy.config, shape, budget.Machine(gpus=4, zero=stage))
        for part in ("optimizer", "gradients", "weights"):
            assert four[part] == one[part] // (4 if part in parts else 1), (stage, part)
    layers = sum(p.numel() for p in policy.model.language_model.parameters()) - policy.lm_head.weight.numel()  # tied
    vllm = {"use_vllm": True, "vllm_tensor_parallel_size": 1, "vllm_enable_sleep_mode": False}
    vllm |= {"vllm_gpu_memory_utilization": 0.3}
    fast = budget.memory(SETTINGS | vllm, policy.config, shape, budget.Machine(gpus=4, zero=3))
    assert fast["gathered weights"] == four["gathered weights"] - 4 * layers > 0  # vLLM has those of its own
    frozen = budget.memory(SETTINGS | {"freeze": ["vision_tower"]}, policy.config, shape, budget.Machine())
    assert frozen["gradients"] < budget.memory(SETTINGS, policy.config, shape, budget.Machine())["gradients"]


def test_copies_double_the_rollouts_and_the_training_where_they_are_trained_on(repo):
    settings = budget.read_settings(repo / "recipes/configs/lsvq_8gpu.yaml")
    config, machine = budget.published_config("1B"), budget.Machine()
    copies = {"contrast_weight": 1.0}
    plain, both, fourth = (
        step_time.seconds_per_step(settings | chosen, config, budget.shape_of(settings | chosen, config), machine)
        for chosen in ({}, copies, copies | {"perturb_every": 4})
    )
    for part in ("reference", "update"):  # but for the optimizer
        assert both[part] == pytest.approx(2 * plain[part], rel=0.01)
        assert fourth[part] == pytest.approx(1.25 * plain[part], rel=0.01)
    assert both["rollouts"] == plain["rollouts"]
    assert 0.625 * plain["rollouts"] < fourth["rollouts"] < plain["rollouts"]  # weights are read as often


def test_the_command_says_whether_it_fits(repo, base, tmp_path, capsys):
    config = str(repo / "recipes/configs/lsvq_8gpu.yaml")
    assert main(["budget", "--config", config, "--model", "8B"]) == 0
    said = capsys.readouterr().out
    assert "fits 80 GiB" in said and "frame cache: 28056 clips x 4.3 MiB = 118.0 GiB in runs/lsvq_frames (holds" in said
    assert main(["budget", "--config", config, "--model", "8B", "--clips", "100"]) == 0
    assert "frame cache: 100 clips x 4.3 MiB = 0.4 GiB" in capsys.readouterr().out
    assert main(["budget", "--config", config, "--model", "8B", "--zero", "0"]) == 0
    assert "does NOT fit 80 GiB" in capsys.readouterr().out
    assert main(["budget", "--config", config, "--model", str(base), "--use_vllm", "false"]) == 0
    assert "vLLM" not in capsys.readouterr().out
    larger = tmp_path / "larger.yaml"
    larger.write_text((repo / config).read_text() + "frames: 12\nimage_size: 560\n")
    assert main(["budget", "--config", str(larger), "--model", "8B"]) == 0
    assert "28056 clips x 12.5 MiB" in capsys.readouterr().out  # 12 frames of 560 and of 224 pixels, RGB
    assert main(["budget", "--config", config]) == 2
    assert "vqathinker init" in capsys.readouterr().err
    for changed, said in [
        (["--gpus", "0"], "gpus=0: must be above 0"),
        (["--config", str(repo / "recipes/configs/lsvq_sft.yaml")], "not a config of recipes/grpo_lsvq.py"),
        (["--config", str(repo / "README.md")], "not valid YAML"),
    ]:
        assert main(["budget", "--config", config, "--model", "8B", *changed]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_the_readmes_table_is_what_the_command_says(repo):
    settings = budget.read_settings(repo / "recipes/configs/lsvq_8gpu.yaml")
    steps = budget.LSVQ_CLIPS * settings["num_train_epochs"] / (8 * 2 * settings["gradient_accumulation_steps"])
    rows = re.findall(r"^\| (\dB) \| (.+) \|$", (repo / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [size for size, _ in rows] == list(budget.PUBLISHED)
    for size, cells in rows:
        config = budget.published_config(size)
        shape = budget.shape_of(settings, config)
        two, three = (budget.memory(settings, config, shape, budget.Machine(zero=z))["total"] for z in (2, 3))
        seconds = sum(step_time.seconds_per_step(settings, config, shape, budget.Machine()).values())
        expected = [f"{two / 2**30:.1f}", f"{three / 2**30:.1f}", f"{seconds:.0f}", f"{seconds * steps / 3600:.0f}"]
        assert cells.split(" | ") == expected, size


def test_published_sizes_have_the_published_parameter_counts():
    """InternVL3-1B, -2B and -8B have 938 million, 2.09 and 7.94 billion parameters on the hub; SlowFast 34 million."""
    for size, billions in (("1B", 0.938), ("2B", 2.09), ("8B", 7.94)):
        count = budget.parameter_counts(budget.published_config(size))["all"]
        assert count / 1e9 == pytest.approx(billions + 0.034, rel=0.005), size


# ---------------------------------------------------------------------- adapters

ADAPTER = SETTINGS | {"use_peft": True, "lora_r": 4}


def with_lora(policy, settings=ADAPTER):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from vqathinker.training.adapters import get_peft_config

    model = peft.get_peft_model(policy, get_peft_config(budget.adapter_of(settings), policy))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


@pytest.mark.parametrize("changes", [{}, {"lora_target_modules": ["q_proj"]}, {"lora_target_modules": ["all-linear"]}])
def test_an_adapters_parameters_are_counted(policy, changes):
    settings = ADAPTER | changes
    count = budget.parameter_counts(policy.config, (), budget.adapter_of(settings))
    before = sum(p.numel() for p in policy.parameters())
    trained = [p for p in with_lora(policy, settings).parameters() if p.requires_grad]
    assert count["all"] == before and count["trained"] == sum(p.numel() for p in trained)
    assert count["cast"] == sum(p.numel() for p in trained if p.ndim > 1)
    shape = budget.shape_of(settings, policy.config)
    assert shape.frozen_vision is (changes.get("lora_target_modules") != ["all-linear"])
    parts = budget.memory(settings, policy.config, shape, budget.Machine(gpus=1, zero=0))
    assert parts["adapter"] == parts["gradients"] == parts["optimizer"] // 2 == 4 * count["trained"]
    assert parts["reference"] == 0 and parts["weights"] == 4 * before


@pytest.mark.parametrize("halved", [False, True])
def test_activations_beside_an_adapter_are_what_a_forward_keeps(policy, processor, halved):
    policy = policy.to(torch.bfloat16) if halved else policy
    shape = budget.shape_of(ADAPTER, policy.config, prompt=len(processor.prompt_ids()))
    policy = with_lora(policy).get_base_model()
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        measured = kept_by_a_forward(policy, processor, shape, frozen=True)
    estimate = budget.activation_bytes(policy.config, shape, 2 if halved else 4, False)
    assert measured < estimate < 1.2 * measured


@pytest.mark.engine
@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_4_bits_are_counted(policy, nested):
    functional = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").functional
    settings = ADAPTER | {"load_in_4bit": True, "use_bnb_nested_quant": nested}
    packed, state = functional.quantize_4bit(torch.randn(4096, 4096), quant_type="nf4", compress_statistics=nested)
    constants = [state.absmax, state.state2.absmax] if nested else [state.absmax]
    measured = sum(part.nbytes for part in (packed, *constants)) / 4096**2
    count = budget.parameter_counts(policy.config, (), budget.adapter_of(settings))
    language = policy.model.language_model.named_modules()
    assert count["packed"] == sum(m.weight.numel() for _, m in language if isinstance(m, torch.nn.Linear))
    shape = budget.shape_of(settings, policy.config)
    parts = budget.memory(settings, policy.config, shape, budget.Machine(gpus=1, zero=0))
    assert parts["weights"] == int(count["packed"] * measured) + 4 * (count["all"] - count["packed"])
    for refused, zero in ((settings | {"use_vllm": True}, 0), (settings, 2)):
        with pytest.raises(ValueError, match="a run refuses either"):
            budget.memory(refused, policy.config, shape, budget.Machine(zero=zero))


def test_an_adapter_fits_one_gpu_as_the_readme_says(repo, capsys):
    config = str(repo / "recipes/configs/lsvq_lora.yaml")
    text = (repo / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\dB), (16|4) bits, (vLLM|transformers) \| (\d+) \| ([\d.]+) \| (\d+) \|$", text, re.MULTILINE
    )
    assert [(size, bits) for size, bits, *_ in rows] == [("8B", "16"), ("8B", "4"), ("1B", "16"), ("1B", "4")]
    for size, bits, engine, memory, total, seconds in rows:
        own = ["--model", size, "--gpus", "1", "--zero", "0", "--memory", memory]
        own += ["--load_in_4bit", "true" if bits == "4" else "false"]
        own += ["--use_vllm", "true" if engine == "vLLM" else "false"]
        assert main(["budget", "--config", config, *own]) == 0
        said = capsys.readouterr().out
        assert f"fits {memory} GiB" in said and "NOT" not in said
        assert re.search(rf"^total +{re.escape(total)}$", said, re.MULTILINE), (size, said)
        assert f"about {seconds} s per step" in said


def test_where_pairs_are_asked_about_a_prompt_may_show_two_clips(policy):
    one, two = (budget.shape_of(SETTINGS | {"pairs": pairs}, policy.config, 6, 100) for pairs in (0, 0.5))
    assert (two.prompt, two.prompt_frames, two.clips) == (2 * one.prompt, 2 * one.prompt_frames, one.clips)
    cache = {"frame_cache": "cache", "frame_cache_gib": 1}
    assert budget.frame_cache(cache, policy.config, two, 9) == budget.frame_cache(cache, policy.config, one, 9)
    encoding = [budget.encoding_bytes(SETTINGS, policy.config, shape, 4) for shape in (one, two)]
    assert encoding[1] == 2 * encoding[0]


@pytest.mark.parametrize(
    "adapter", [{}, {"use_peft": True}, {"use_peft": True, "lora_modules_to_save": ["motion_projector"]}]
)
def test_a_score_head_counts_where_it_is_trained(policy, adapter):
    def trained(**settings):
        settings = SETTINGS | adapter | settings
        frozen = budget.frozen_parts(settings, policy.config)
        return budget.parameter_counts(policy.config, frozen, budget.adapter_of(settings))["trained"]

    without = trained()
    policy.set_score_head("hidden")
    head = sum(parameter.numel() for parameter in policy.model.score_head.parameters())
    assert trained() == without
    assert trained(head_weight=1.0) - without == (0 if "lora_modules_to_save" in adapter else head)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [({}, True), ({"lora_target_modules": ["all-linear"]}, False), ({"lora_modules_to_save": ["low_encoder"]}, False)],
)
def test_a_low_level_encoder_that_an_adapter_reaches_is_trained(policy, options, frozen):
    assert budget.shape_of(SETTINGS | {"use_peft": True} | options, policy.config).frozen_low == frozen
