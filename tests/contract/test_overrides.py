"""What this library overrides, patches and reads of TRL and transformers is still there, and called as it was."""

import inspect

import pytest
from transformers import Trainer, TrainerCallback
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.models.utils import _unwrap_model_for_generation
from trl.trainer import grpo_trainer
from trl.trainer.utils import RepeatSampler

from vqathinker._compat import float32_adapters, vllm_generation, without_false_alarm
from vqathinker.rollout.vllm_engine import VLLMEngine
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.order import EpochCallback, EpochSampler

pytestmark = pytest.mark.contract

OVERRIDDEN = {
    (VQAGRPOTrainer, GRPOTrainer): (
        "_get_train_sampler train _generate_and_score_completions _tokenize_prompts _generate_single_turn _generate "
        "_get_per_token_logps_and_entropies _calculate_rewards _prepare_inputs evaluate evaluation_loop log "
        "_compute_loss _save_checkpoint _get_output_dir _push_from_checkpoint "
        "_issue_warnings_after_load _load_from_checkpoint _save create_model_card"
    ),
    (VLLMEngine, VLLMGeneration): "_init_vllm sync_weights",
    (EpochSampler, RepeatSampler): "__iter__",
    (EpochCallback, TrainerCallback): "on_epoch_begin",
}
"""(Ours, theirs) -> methods of theirs that call or are called by the others of theirs, and are ours."""

CALLED_OTHERWISE = {
    "generate": "only the library calls it",
    "train": "it hands on what it does not name",
    "set_epoch": "no method of theirs",
}

READ = {
    GRPOTrainer.__init__: [
        *("_logs", "_metrics", "_pending_extra_logs", "VLLMGeneration", "reward_weights", "scale_rewards"),
        *("multi_objective_aggregation", "eos_token_ids", "num_generations_eval", "_step", "_buffered_inputs"),
        *("is_loaded_in_4bit", 'add_adapter("ref"', "enable_input_require_grads"),
    ],
    GRPOTrainer._generate_and_score_completions: ["_generate(", "_calculate_rewards(", "num_items_in_batch"],
    GRPOTrainer._generate_single_turn: ["_last_loaded_step", "vllm_generation"],
    GRPOTrainer._log_completion_extra: ["_pending_extra_logs"],
    Trainer.evaluate: ["evaluation_loop", "get_eval_dataloader"],
    Trainer._save_checkpoint: ["_get_output_dir", "_push_from_checkpoint"],
    _unwrap_model_for_generation: ["if not gather_deepspeed3_params", "remove_hooks(model)", "add_hooks(model)"],
    VLLMGeneration.__init__: ["_init_vllm", "max_model_length", "max_num_seqs", "enable_sleep_mode"],
}
"""Functions of theirs whose source must hold names that ours rely on."""


def names(function):
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind not in (2, 4)]


@pytest.mark.parametrize(("ours", "theirs"), list(OVERRIDDEN))
def test_what_is_overridden_is_still_there_and_takes_the_same(ours, theirs):
    for name in OVERRIDDEN[ours, theirs].split():
        known, own = getattr(theirs, name), getattr(ours, name)
        assert own is not known, name
        takes_any = any(p.kind == 4 for p in inspect.signature(own).parameters.values())
        if name not in CALLED_OTHERWISE:
            assert takes_any or set(names(known)) <= set(names(own)), (name, names(known), names(own))
            in_order = [parameter for parameter in names(known) if parameter in names(own)]
            assert names(own)[: len(in_order)] == in_order, name


def test_every_method_of_theirs_that_ours_replaces_is_listed():
    for (ours, theirs), listed in OVERRIDDEN.items():
        classes = [c for c in ours.__mro__ if c.__module__.startswith("vqathinker")]
        found = {name for c in classes for name, value in vars(c).items() if inspect.isfunction(value)}
        replaced = {name for name in found if hasattr(theirs, name) and not hasattr(object, name)}
        assert replaced - {"__iter__"} <= {*listed.split(), *CALLED_OTHERWISE}, ours


@pytest.mark.parametrize("function", list(READ), ids=lambda function: function.__qualname__)
def test_names_that_ours_rely_on_are_still_used(function):
    source = inspect.getsource(function)
    missing = [name for name in READ[function] if name not in source]
    assert not missing, f"{function.__qualname__} does not use {missing} any more: see what took their place"


def test_patches_take_and_are_taken_back():
    source = inspect.getsource(GRPOTrainer.__init__)
    assert "VLLMGeneration(" in source and "`model_init_kwargs` will be ignored" in source
    before = grpo_trainer.VLLMGeneration
    with vllm_generation(VLLMEngine), without_false_alarm():
        assert grpo_trainer.VLLMGeneration is VLLMEngine
    assert grpo_trainer.VLLMGeneration is before is VLLMGeneration


def test_a_base_of_4_bits_is_hidden_from_trls_cast_only(policy):
    policy.is_loaded_in_4bit = True
    with float32_adapters(policy):
        assert not policy.is_loaded_in_4bit
    assert policy.is_loaded_in_4bit


def test_nothing_is_mocked_outside_tests(repo):
    files = [file for name in ("vqathinker", "rewards", "perturb", "recipes") for file in (repo / name).rglob("*.py")]
    assert len(files) > 80 and not [file for file in files if "mock" in file.read_text(encoding="utf-8")]
