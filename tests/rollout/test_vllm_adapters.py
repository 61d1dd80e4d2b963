"""vLLM hosts the language model with the adapter's products added."""

import os
from unittest.mock import patch

import pytest
import torch

pytest.importorskip("vllm", reason="vllm is not installed")
pytest.importorskip("peft", reason="peft is not installed")

import peft

from vqathinker.rollout import Sampling
from vqathinker.rollout.vllm_engine import VLLMEngine
from vqathinker.training.adapters import completed

from .test_vllm_engine import LENGTH, reference, tokens

pytestmark = [pytest.mark.engine, pytest.mark.contract]

TRLS_PORTS = (29500, 23456, 12355, 12345)
"""Where TRL looks first: of two runs that start together, both may find one free."""


def test_greedy_answers_are_those_of_the_adapter_and_the_base_stays(policy, processor):
    from accelerate import Accelerator

    model = peft.get_peft_model(policy, completed(peft.LoraConfig(r=4), policy))
    before = {name: p.clone() for name, p in model.named_parameters() if "base_layer" in name}
    with patch.dict(os.environ):
        engine = VLLMEngine(
            model, Accelerator(cpu=True), processor, gpu_memory_utilization=0.2, max_model_length=LENGTH, max_num_seqs=8
        )
        assert int(os.environ["MASTER_PORT"]) not in TRLS_PORTS
    torch.manual_seed(0)
    prompts = [0.3 * torch.randn(length, policy.config.text_config.hidden_size) for length in (300, 280)]
    greedy, found = Sampling(16, temperature=0), []
    for _ in range(2):  # two steps of training
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        engine.sync_weights()
        found.append(tokens(engine.generate(prompts, 1, greedy)))
        assert found[-1] == tokens(reference(policy, processor).generate(prompts, 1, greedy))
    assert found[0] != found[1]
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())  # to the last bit
