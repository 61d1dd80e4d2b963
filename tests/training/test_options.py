"""Every option is honoured or refused, as `docs/options.md` says; one that nobody has decided on fails here."""

import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch import nn
from transformers import AutoProcessor, TrainingArguments
from trl import GRPOConfig
from trl.trainer.callbacks import SyncRefModelCallback

from rewards import text_of
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Completion
from vqathinker.rollout.vllm_engine import VLLMEngine
from vqathinker.synth import tiny_policy
from vqathinker.training import VQAGRPOConfig, VQAGRPOTrainer, VQASFTConfig
from vqathinker.training.groups import ClipBatch
from vqathinker.training.options import REFUSED, SFT_REFUSED

REPO = Path(__file__).parent.parent.parent
ROW = re.compile(r"\| (`\w+`(?:, `\w+`)*) \| (honoured|refused) \| [^|]+ \|")
PAGE = (REPO / "docs/options.md").read_text(encoding="utf-8")
ROWS = [row for line in PAGE.splitlines() if (row := ROW.fullmatch(line))]
TABLE = {name: row[2] for row in ROWS for name in re.findall(r"\w+", row[1])}
FIELDS = {option.name for option in fields(VQAGRPOConfig)}
INHERITED = {option.name for option in fields(TrainingArguments)}

AS_TRANSFORMERS_DOCUMENTS = set(
    re.findall(
        r"\w+",
        """
    output_dir num_train_epochs max_steps gradient_accumulation_steps
    learning_rate lr_scheduler_type warmup_steps
    optim optim_args optim_target_modules weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm
    fp16 tf32 gradient_checkpointing torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps
    logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_on_each_node log_level
    log_level_replica run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    eval_steps eval_delay eval_on_start load_best_model_at_end greater_is_better
    save_only_model save_on_each_node save_total_limit restore_callback_states_from_checkpoint ignore_data_skip
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    seed full_determinism use_cpu local_rank debug skip_memory_metrics deepspeed
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    """,
    )
)
"""Inherited options that somebody has looked at and that mean here what transformers says."""

EITHER_WAY = {"dataloader_drop_last", "dataloader_pin_memory", "do_train"}
"""Honoured, as both values ask for what happens."""

TESTED = {
    "report_to": "training/test_console.py::test_what_cannot_be_reported_to_is_refused_by_both_configurations",
    "disable_tqdm": "training/test_console.py::test_a_bar_is_for_terminals_and_can_be_disabled",
    "log_completions": "training/test_trainer.py::test_metrics_and_completions_are_logged",
    "num_completions_to_print": "training/test_options.py::test_the_tables_of_completions_are_printed_and_uploaded",
    "log_completions_hub_repo": "training/test_options.py::test_the_tables_of_completions_are_printed_and_uploaded",
    "model_init_kwargs": "training/test_options.py::test_policy_and_reference_are_loaded_as_told",
    "disable_dropout": "training/test_options.py::test_dropout_is_disabled",
    "cast_lm_head_to_fp32": "training/test_options.py::test_the_last_layer_is_computed_in_float32",
    "eval_strategy": "training/test_validation.py::test_the_policys_own_answers_are_scored_before_and_during_training",
    "per_device_eval_batch_size": "training/test_validation.py::test_correlations_are_those_of_the_whole_set_whatever_"
    "the_batch",
    "metric_for_best_model": "training/test_validation.py::test_the_best_checkpoint_is_kept_and_loaded_at_the_end",
    "lr_scheduler_kwargs": "training/test_validation.py::test_the_learning_rate_falls_when_srcc_does_not_grow",
    "ladder_rungs": "training/test_ladders.py::test_the_run_takes_as_many_rungs_together_as_the_option_says",
    "do_eval": "training/test_options.py::test_values_that_are_not_taken",
    "save_strategy": "training/test_options.py::test_values_that_are_not_taken",
    "save_steps": "training/test_trainer.py::test_a_checkpoint_between_two_draws_is_refused",
    "gradient_checkpointing_kwargs": "training/test_options.py::test_values_that_are_not_taken",
    "accelerator_config": "training/test_options.py::test_values_that_are_not_taken",
    "head_weight": "training/test_head_loss.py::test_grpo_steps_train_the_head_or_leave_it_as_it_is",
    "head_rank": "training/test_head_loss.py::test_beside_grpo_the_head_reads_the_pass_of_the_loss",
    "head_rank_weight": "training/test_head_loss.py::test_beside_grpo_the_head_reads_the_pass_of_the_loss",
    "resume_from_checkpoint": "training/test_launch.py::test_a_run_killed_while_saving_goes_on_from_the_last_whole_"
    "checkpoint",
}
"""Honoured options whose effect another test shows."""

SYNCED = {"beta": 0.5, "sync_ref_model": True}
CLOSE = {"use_vllm": True, "vllm_importance_sampling_clip_max": 1.01}
ADAPTIVE = {"use_adaptive_entropy": True, "entropy_target": 100.0, "entropy_coef_delta": 0.5}
EFFECTS = {
    # option: what it changes (a function of this module), another value, and the other options that it needs
    "perturbation_modes": ("maps", ["reverse"], {}),
    "perturbation_variant": ("maps", "official", {"perturbation_modes": ["drop"]}),
    "perturb_every": ("maps", 2, {}),
    "strict_clips": ("loader", True, {}),
    "decode_threads": ("loader", 3, {}),
    "frame_cache": ("cache", "frames", {}),
    "frame_cache_gib": ("cache", 2.5, {"frame_cache": "frames"}),
    "max_tokens_per_batch": ("passes", 1, {}),
    "shared_prefix": ("passes", "never", {}),
    "beta": ("loss", 0.5, {}),
    "sync_ref_model": ("reference", True, {"beta": 0.5}),
    "ref_model_mixup_alpha": ("reference", 0.1, SYNCED),
    "ref_model_sync_steps": ("reference", 5, SYNCED),
    "num_generations": ("order", 4, {}),
    "generation_batch_size": ("order", 4, {}),
    "steps_per_generation": ("order", 1, {}),
    "num_iterations": ("order", 2, {}),
    "shuffle_dataset": ("order", False, {}),
    "data_seed": ("order", 7, {}),
    "per_device_train_batch_size": ("order", 8, {}),
    "max_completion_length": ("sampling", 9, {}),
    "temperature": ("sampling", 0.5, {}),
    "top_p": ("sampling", 0.5, {}),
    "top_k": ("sampling", 5, {}),
    "use_vllm": ("engine", True, {}),
    "vllm_enable_sleep_mode": ("engine", True, {"use_vllm": True}),
    "vllm_gpu_memory_utilization": ("engine", 0.2, {"use_vllm": True}),
    "vllm_max_model_length": ("engine", 4096, {"use_vllm": True}),
    "vllm_tensor_parallel_size": ("engine", 2, {"use_vllm": True}),
    "vllm_importance_sampling_correction": ("draw", False, {"use_vllm": True}),
    "vllm_importance_sampling_mode": ("draw", "sequence_mask", {"use_vllm": True}),
    "vllm_importance_sampling_clip_max": ("draw", 1.01, {"use_vllm": True}),
    "vllm_importance_sampling_clip_min": ("draw", 1.005, CLOSE),
    "vllm_importance_sampling_cap": ("draw", 1.01, {"use_vllm": True}),
    "reward_weights": ("draw", [0.5, 2.0], {}),
    "multi_objective_aggregation": ("draw", "normalize_then_sum", {}),
    "scale_rewards": ("draw", "none", {}),
    "mask_truncated_completions": ("draw", True, {}),
    "loss_type": ("loss", "dr_grpo", {}),
    "epsilon": ("loss", 0.01, {}),
    "epsilon_high": ("loss", 0.01, {}),
    "delta": ("loss", 1.05, {}),
    "importance_sampling_level": ("loss", "sequence", {}),
    "sapo_temperature_neg": ("loss", 2.0, {"loss_type": "sapo"}),
    "sapo_temperature_pos": ("loss", 2.0, {"loss_type": "sapo"}),
    "vespo_k_pos": ("loss", 1.0, {"loss_type": "vespo"}),
    "vespo_lambda_pos": ("loss", 1.0, {"loss_type": "vespo"}),
    "vespo_k_neg": ("loss", 1.0, {"loss_type": "vespo"}),
    "vespo_lambda_neg": ("loss", 1.0, {"loss_type": "vespo"}),
    "use_bias_correction_kl": ("loss", True, {"beta": 0.5}),
    "top_entropy_quantile": ("loss", 0.3, {}),
    "entropy_coef": ("loss", 0.5, {}),
    "off_policy_mask_threshold": ("loss", 0.001, {}),
    "use_adaptive_entropy": ("entropy_coefficients", True, {"entropy_coef": 0.5}),
    "entropy_coef_min": ("entropy_coefficients", 0.4, {"use_adaptive_entropy": True, "entropy_coef": 0.402}),
    "entropy_coef_max": ("entropy_coefficients", 0.7, ADAPTIVE),
    "entropy_coef_delta": ("entropy_coefficients", 0.3, ADAPTIVE),
    "entropy_target": ("entropy_coefficients", 100.0, {"use_adaptive_entropy": True}),
    "bf16": ("precision", True, {}),
}

OTHER_VALUES = {
    "min_p": 1.0,
    "repetition_penalty": 1.1,
    "generation_kwargs": {"num_beams": 2},
    "vllm_structured_outputs_regex": "<answer>.*",
    "cache_implementation": "static",
    "transformers_continuous_batching_config": {"max_memory_percent": 0.3},
    "num_generations_eval": 4,
    "chat_template_kwargs": {"enable_thinking": True},
    "max_tool_calling_iterations": 2,
    "vllm_mode": "server",
    "vllm_model_impl": "transformers",
    "vllm_server_base_url": "http://localhost:8000",
    "vllm_server_host": "localhost",
    "vllm_server_port": 8001,
    "vllm_server_timeout": 1.0,
    "vllm_group_port": 51217,
    "router_aux_loss_coef": 0.001,
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 5.0,
    "fsdp": "full_shard",
    "fsdp_config": {"version": 2},
    "parallelism_config": SimpleNamespace(cp_enabled=False, sp_enabled=False),
    "pad_to_multiple_of": 8,
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "duration",
    "dataloader_num_workers": 2,
    "dataloader_prefetch_factor": 2,
    "dataloader_multiprocessing_context": "spawn",
    "label_smoothing_factor": 0.1,
    "label_names": ["mos"],
    "include_for_metrics": ["inputs"],
    "eval_accumulation_steps": 1,
    "include_num_input_tokens_seen": "all",
}
"""For what is refused and is no switch."""


class Share:
    """Two rewards that need no score: of distinct characters, and of the letter e."""

    needs_perturbed = True

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, completions, mos, **columns):
        return [
            len(set(text)) / 20 if self.__name__ == "distinct" else text.count("e") / 5
            for text in map(text_of, completions)
        ]


class FakeLLM:
    """Takes what vLLM takes."""

    def __init__(self, folder, **settings):
        self.settings, self.llm_engine = settings, SimpleNamespace(engine_core=None)

    def sleep(self, level):
        pass


@pytest.fixture(scope="module")
def build(base, train_rows, tmp_path_factory):
    """Makes a trainer, with small answers and without reference, from options. All share one policy, to save time."""
    shared = VQAThinkerForConditionalGeneration.from_pretrained(base)
    processor = AutoProcessor.from_pretrained(base)
    folder, dataset = tmp_path_factory.mktemp("options"), clip_dataset(train_rows, processor)

    def make(policy=None, **changes):
        settings = {
            "output_dir": str(folder / "run"),
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "gradient_accumulation_steps": 2,
            "max_completion_length": 12,
            "max_steps": 2,
            "beta": 0.0,
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "gradient_checkpointing": False,
        }
        if "frame_cache" in changes:
            changes["frame_cache"] = str(folder / changes["frame_cache"])
        args = VQAGRPOConfig(**(settings | changes))
        vars(shared).pop("forward", None)  # the last trainer's, with its temperature
        trainer = VQAGRPOTrainer(policy or shared, [Share("distinct"), Share("e")], args, dataset, processor)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        trainer.accelerator.gradient_state._set_sync_gradients(True)  # whatever a run that failed has left
        return trainer

    return make


@pytest.fixture(scope="module")
def observe(build):
    """What a function of this module gives for a trainer with some options."""
    known = {}
    vllm = SimpleNamespace(__version__="0.31.0", LLM=FakeLLM)

    def run(kind, changes):
        key = kind, repr(sorted(changes.items()))
        if key not in known:
            with (
                patch.dict(os.environ),  # the engine sets ranks, which are meant for the processes of a launch
                patch.dict(sys.modules, vllm=vllm),
                patch.object(VLLMEngine, "sync_weights"),
            ):
                known[key] = globals()[kind](build, changes)
        return known[key]

    return run


def loss(build, changes):
    """Of answers to two clips that a policy of before has given, and whose reference differs."""
    return round(_loss(build(**changes)), 6)


def _loss(trainer):
    generator = torch.Generator().manual_seed(0)
    processor, policy = trainer.processing_class, trainer.accelerator.unwrap_model(trainer.model)
    prompt = torch.tensor(list(processor.prompt_ids()))
    config = policy.config
    frames = (2, processor.num_frames, config.image_seq_length, config.text_config.hidden_size)
    motion = (2, config.motion_tokens, config.motion_config.feature_size)
    answers = torch.randint(10, 400, (4, 12), generator=generator)
    mask = torch.ones_like(answers)
    mask[1, 7:] = 0
    spatial, motion = (torch.randn(shape, generator=generator) for shape in (frames, motion))
    clips = [{"spatial_features": a, "motion_features": b} for a, b in zip(spatial, motion, strict=True)]
    trainer._clips = ClipBatch([processor.render()] * 2, clips, ["spatial", "motion"])
    ids = torch.cat([prompt.expand(4, -1), answers], 1)
    seen = torch.cat([torch.ones(4, len(prompt), dtype=torch.long), mask], 1)
    with torch.no_grad():
        logps = trainer._get_per_token_logps_and_entropies(trainer.model, ids, seen, 12)[0].float()
    inputs = {
        "clips": trainer._clips,
        "prompt_ids": prompt.expand(4, -1),
        "prompt_mask": torch.ones(4, len(prompt), dtype=torch.long),
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5]),
        "num_items_in_batch": mask.sum(),
        "old_per_token_logps": logps + 0.1 + 0.3 * torch.randn(logps.shape, generator=generator),
        "ref_per_token_logps": logps + 0.3 * torch.randn(logps.shape, generator=generator),
    }
    return trainer._compute_loss(trainer.model, inputs).item()


def passes(build, changes):
    """Rows and tokens of the language model's passes."""
    trainer, shapes = build(**changes), []
    language = trainer.accelerator.unwrap_model(trainer.model).model.language_model
    hook = language.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    _loss(trainer)
    hook.remove()
    return shapes


def entropy_coefficients(build, changes):
    trainer = build(**changes)
    return [(_loss(trainer), trainer.entropy_coef)[1] for _ in range(3)]


def order(build, changes):
    return list(build(**changes)._get_train_sampler())


def sampling(build, changes):
    return build(**changes).sampling


def precision(build, changes):
    return build(**changes).accelerator.mixed_precision


def loader(build, changes):
    made = build(**changes).loader
    return made.strict, made._pool._max_workers


def cache(build, changes):
    made = build(**changes).processing_class._cache
    return made and (made.folder.name, made.max_bytes)


def maps(build, changes):
    trainer = build(**changes)
    found, clip = [], trainer.processing_class.blank_clip()
    for step in range(3):
        trainer.state.global_step = step
        found += [trainer._frame_map(row, clip) for row in trainer.train_dataset.select(range(4))]
    return found


def reference(build, changes):
    """The sum of its weights, which were 0, after 512 steps."""
    trainer = build(**changes)
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.zero_()
    trainer.state.global_step = 512
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, SyncRefModelCallback):
            callback.on_step_end(trainer.args, trainer.state, trainer.control, model=trainer.model)
    return sum(parameter.sum().item() for parameter in trainer.ref_model.parameters())


def engine(build, changes):
    """What vLLM is given, or why it is given nothing."""
    try:
        trainer = build(**changes)
    except ValueError as error:
        return str(error)
    return trainer.vllm_generation.llm.settings if trainer.use_vllm else None


def draw(build, changes):
    """Advantages, masks and importance ratios of fixed answers, of which some did not end."""
    trainer = build(**changes)
    end = trainer.processing_class.tokenizer.eos_token_id
    generator = torch.Generator().manual_seed(1)

    def roll_out(policy, rows, shown):
        answers = torch.randint(10, 400, (2 * len(rows), 12), generator=generator).tolist()
        trainer._perturbed = ["a"] * len(answers)
        with_end = [[*answer[: 5 + i], end] if i % 3 else answer for i, answer in enumerate(answers)]
        return [Completion(row, [-6.5] * len(row)) for row in with_end]

    trainer._roll_out = roll_out
    trainer.loader.get = lambda video: trainer.processing_class.blank_clip()
    trainer._prepare_inputs([row for row in trainer.train_dataset.select(range(4)) for _ in range(2)])
    names = ("advantages", "completion_mask", "importance_sampling_ratio")
    return [chunk[name].tolist() for chunk in trainer._buffered_inputs for name in names if name in chunk]


@pytest.mark.contract
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_option_is_decided(name, config, observe):
    state = TABLE.get(name)
    if state is None:
        assert name in AS_TRANSFORMERS_DOCUMENTS & INHERITED, (
            f"{name} is new: does it do here what it is documented to do? Say so in docs/options.md, with a test; or "
            "refuse it in vqathinker/training/options.py."
        )
    elif state == "refused":
        default = next(option.default for option in fields(VQAGRPOConfig) if option.name == name)
        with pytest.raises(ValueError, match=name):
            config(**{name: OTHER_VALUES.get(name, not default)})
    elif name in EFFECTS:
        kind, value, context = EFFECTS[name]
        assert observe(kind, context | {name: value}) != observe(kind, context)
    elif name not in EITHER_WAY:
        file, test = TESTED[name].split("::")
        assert f"def {test}(" in (REPO / "tests" / file).read_text(encoding="utf-8")


def test_the_page_lists_no_option_that_is_not_there():
    decided = [*TABLE, *AS_TRANSFORMERS_DOCUMENTS]
    assert sorted(decided) == sorted(FIELDS)  # each once
    assert {name for name, state in TABLE.items() if state == "refused"} >= REFUSED.keys()
    trls = {option.name for option in fields(GRPOConfig)}
    counts = len(FIELDS - trls), len(trls - INHERITED), len(INHERITED)
    assert "the {} options of this library, the {} of\nTRL's `GRPOConfig` and the {} of".format(*counts) in PAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"do_eval": True},
        {"max_completion_length": None},
        {"accelerator_config": {"split_batches": True}},
        {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 2}}, "gradient_accumulation_steps": 1},
        {"gradient_checkpointing_kwargs": {"every_n_layers": 2}},
        {"save_steps": 0.1, "save_strategy": "steps", "num_iterations": 2},
        {"eval_steps": 3, "eval_strategy": "steps", "save_strategy": "best", "num_iterations": 2}
        | {"metric_for_best_model": "plcc"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_values_that_are_not_taken(config, changes):
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}="):
        config(**changes)


def test_values_that_mean_nothing_are_taken(config):
    config(generation_kwargs={}, chat_template_kwargs={}, cache_implementation="", include_for_metrics=[])
    config(gradient_checkpointing_kwargs={"use_reentrant": False}, accelerator_config={"non_blocking": True})
    config(save_strategy="epoch", num_iterations=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens_per_batch": 0}, "max_tokens_per_batch=0: must be at least 1, or unset"),
        (
            {"max_tokens_per_batch": 9, "entropy_coef": 0.1},
            "max_tokens_per_batch=9 with entropy_coef=0.1: the latter is",
        ),
        ({"max_tokens_per_batch": 9, "top_entropy_quantile": 0.5}, "with top_entropy_quantile=0.5"),
        ({"max_tokens_per_batch": 9, "optim": "adalomo"}, "with optim=adalomo: this optimizer takes a step in every"),
        (
            {"max_tokens_per_batch": 9, "optim": "galore_adamw_layerwise", "optim_target_modules": ["q"]},
            "_layerwise: this",
        ),
        ({"shared_prefix": "yes"}, "shared_prefix='yes': must be 'auto', 'always' or 'never'"),
    ],
)
def test_what_packed_rows_do_not_take(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_fsdp_is_refused_from_the_launcher_too(config, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="launched with FSDP"):
        config()


@pytest.mark.parametrize("name", sorted(SFT_REFUSED))
def test_the_warm_start_refuses_what_it_would_ignore(name, tmp_path):
    with pytest.raises(ValueError, match=f"^{name}="):
        VQASFTConfig(str(tmp_path), use_cpu=True, **{name: OTHER_VALUES.get(name, True)})


def test_arguments_for_several_turns_are_refused(base, train_rows, config):
    processor = AutoProcessor.from_pretrained(base)
    dataset = clip_dataset(train_rows, processor)
    with pytest.raises(ValueError, match=r"\['tools'\]"):
        VQAGRPOTrainer(str(base), "paper", config(), dataset, processor, tools=[len])


def test_a_reference_that_moves_is_not_resumed(build):
    with pytest.raises(ValueError, match="with sync_ref_model=True: a checkpoint does not hold the reference"):
        build(**SYNCED).train(resume_from_checkpoint=True)


def test_policy_and_reference_are_loaded_as_told(build, base):
    for policy in (str(base), None):
        with pytest.raises(ValueError, match="attn_implementation='eager'"):
            build(policy, beta=0.5, shared_prefix="always", model_init_kwargs={"attn_implementation": "eager"})


def test_dropout_is_disabled(build, base):
    for disable in (False, True):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        layers = [module for module in policy.modules() if isinstance(module, nn.Dropout)]
        for layer in layers:
            layer.p = 0.5
        build(policy, disable_dropout=disable)
        assert layers and {layer.p for layer in layers} == {0 if disable else 0.5}


def test_the_last_layer_is_computed_in_float32(build):
    losses = []
    for cast in (False, True):
        policy, _ = tiny_policy()
        policy.config.tie_word_embeddings = policy.config.text_config.tie_word_embeddings = False
        policy.lm_head.weight = nn.Parameter(policy.lm_head.weight.detach().clone())
        losses.append(_loss(build(policy, bf16=True, loss_type="cispo", cast_lm_head_to_fp32=cast)))
    assert losses[0] != losses[1]
    with pytest.raises(ValueError, match=r"cast_lm_head_to_fp32=True: .*tie_word_embeddings"):
        build(cast_lm_head_to_fp32=True)


def test_the_tables_of_completions_are_printed_and_uploaded(build, monkeypatch):
    def asked(repo, **settings):
        raise ConnectionError(repo)

    assert build(log_completions=True, num_completions_to_print=3).num_completions_to_print == 3
    monkeypatch.setattr("trl.trainer.grpo_trainer.create_repo", asked)
    with pytest.raises(ConnectionError, match="me/answers"):
        build(log_completions=True, log_completions_hub_repo="me/answers")


def test_several_gpus_in_one_process_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", 2)
    with pytest.raises(ValueError, match=r"2 GPUs in one process.*accelerate launch --num_processes 2"):
        config()
    with pytest.raises(ValueError, match="2 GPUs in one process"):
        VQASFTConfig(str(tmp_path), report_to="none")
