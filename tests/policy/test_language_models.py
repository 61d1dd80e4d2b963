"""Which language models a policy may have: those that training and rollouts compute alike."""

import json

import pytest
from transformers import CONFIG_MAPPING, AutoConfig, InternVLConfig

from vqathinker.cli import main
from vqathinker.policy import VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.policy.configuration import LANGUAGE_MODELS, check_language_model

pytestmark = pytest.mark.contract

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 8}
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e6, "original_max_position_embeddings": 256}


def text(model_type, **changes):
    return CONFIG_MAPPING[model_type](**(SIZES | changes))


@pytest.mark.parametrize("model_type", LANGUAGE_MODELS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 2},  # as Qwen2.5's own files say
        WINDOW | {"max_window_layers": 4},  # no layer has it
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}},  # InternVL3
        {"rope_parameters": YARN},
    ],
)
def test_dense_models_with_full_attention_are_taken(model_type, changes):
    check_language_model(text(model_type, **changes))


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        # mixtures of experts: InternVL3.5-30B-A3B and -20B-A4B, and others
        ("qwen3_moe", {}, r"model_type='qwen3_moe': must be .*'qwen3'; .*auxiliary loss"),
        ("gpt_oss", {}, "model_type='gpt_oss'"),
        ("qwen2_moe", {}, "model_type='qwen2_moe'"),
        ("mixtral", {}, "model_type='mixtral'"),
        ("deepseek_v3", {}, "model_type='deepseek_v3'"),
        # windows, chunks and linear attention
        ("mistral", {}, "model_type='mistral'"),
        ("llama4_text", {}, "model_type='llama4_text'"),
        ("qwen3_next", {}, "model_type='qwen3_next'"),
        ("qwen2", WINDOW | {"max_window_layers": 2}, "layer_types='sliding_attention': must be 'full_attention'"),
        ("qwen3", WINDOW | {"max_window_layers": 0}, "layer_types='sliding_attention'"),
        ("qwen3", {"layer_types": ["full_attention", "chunked_attention"] * 2}, "layer_types='chunked_attention'"),
        ("qwen2", {"layer_types": ["linear_attention", "full_attention"] * 2}, "layer_types='linear_attention'"),
        # embeddings or logits that are scaled or capped
        ("gemma2", {}, "model_type='gemma2'"),
        ("granite", {}, "model_type='granite'"),
        # positions and dropout
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "factor": 2.0,
                    "short_factor": [1.0] * 4,
                    "long_factor": [2.0] * 4,
                    "original_max_position_embeddings": 256,
                }
            },
            "rope_type='longrope': must be 'default' or 'dynamic'",
        ),
        ("qwen2", {"attention_dropout": 0.1}, "attention_dropout=0.1: must be 0; rollouts have none"),
    ],
)
def test_others_are_refused_in_one_sentence(model_type, changes, message):
    language = text(model_type, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        check_language_model(language)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        VQAThinkerConfig(text_config=language)


def test_a_mixture_of_experts_is_refused_before_its_weights_are_read(tmp_path, capsys):
    InternVLConfig(text_config=text("qwen3_moe")).save_pretrained(tmp_path)  # and no weights at all
    with pytest.raises(ValueError, match="model_type='qwen3_moe'"):
        VQAThinkerForConditionalGeneration.from_internvl(tmp_path, "random")
    assert main(["init", "--internvl", str(tmp_path), "--slowfast", "random", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "model_type='qwen3_moe'" in error and error.count("\n") == 1


def test_a_policy_whose_file_says_so_is_refused_when_it_is_loaded(base, tmp_path):
    config = json.loads((base / "config.json").read_text())
    config["text_config"] |= WINDOW | {"max_window_layers": 1, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="layer_types='sliding_attention'"):
        AutoConfig.from_pretrained(tmp_path)
