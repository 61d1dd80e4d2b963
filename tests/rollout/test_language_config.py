"""What vLLM is told of the policy's language model; it needs no vLLM."""

import pytest

from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout.vllm_engine import VLLMEngine, language_config

pytestmark = pytest.mark.contract


def test_vllm_reads_the_language_model_that_transformers_computes(from_internvl, tmp_path):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(from_internvl)
    text = policy.config.text_config
    text.sliding_window = 8  # which vLLM would put on every layer
    config = language_config(policy)
    assert config.architectures == [text.model_type.capitalize() + "ForCausalLM"]
    assert config.tie_word_embeddings == policy.config.tie_word_embeddings and config.sliding_window is None
    assert config.rope_parameters["rope_type"] == "default"
    assert config.rope_parameters["rope_theta"] == text.rope_parameters["rope_theta"]
    assert text.sliding_window == 8 and policy.config.text_config is text
    config.save_pretrained(tmp_path)
    assert type(text).from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_adapters_that_cannot_be_added_do_not_reach_the_engine(policy):
    engine = object.__new__(VLLMEngine)
    engine.mode, engine.model = "colocate", policy
    policy.peft_config = {"default": object()}
    with pytest.raises(ValueError, match="adapter 'default' is object: for vLLM only a plain"):
        engine._init_vllm()
