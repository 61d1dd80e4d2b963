"""vLLM against transformers on each language model that a policy may have, on the CPU build."""

import os
import subprocess
import sys

import pytest
import torch
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

pytest.importorskip("vllm", reason="vllm is not installed")

from vqathinker.policy.configuration import ROPE_TYPES
from vqathinker.rollout.vllm_engine import language_config

pytestmark = pytest.mark.engine

COMPARE = """
import sys
import torch
from accelerate import Accelerator
from transformers import AutoProcessor
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.rollout.vllm_engine import VLLMEngine

torch.manual_seed(0)
policy = VQAThinkerForConditionalGeneration.from_pretrained(sys.argv[1]).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1])
with torch.no_grad():  # new weights are so small that positions and norms hardly count
    for parameter in policy.model.language_model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
options = {"gpu_memory_utilization": 0.1, "max_model_length": 200, "max_num_seqs": 8}
engine = VLLMEngine(policy, Accelerator(cpu=True), processor, **options)
engine.sync_weights()
prompts = [0.3 * torch.randn(length, policy.config.text_config.hidden_size) for length in (150, 130)]
tokenizer, placeholder = processor.tokenizer, policy.config.image_token_id
plain = TransformersEngine(policy, [tokenizer.eos_token_id], [placeholder])
greedy, drawn = Sampling(16, temperature=0), Sampling(16, temperature=0.9, top_k=0)
expected = [group[0].token_ids for group in plain.generate(prompts, 1, greedy)]
assert [group[0].token_ids for group in engine.generate(prompts, 1, greedy)] == expected
assert len(set(sum(expected, []))) > 4, expected
for prompt, [answer] in zip(prompts, engine.generate(prompts, 1, drawn)):
    ids = torch.tensor(answer.token_ids)
    with torch.no_grad():
        embeds = torch.cat([prompt, policy.get_input_embeddings()(ids)])
        logits = policy(inputs_embeds=embeds[None]).logits[0, len(prompt) - 1 : -1]
    logits[:, placeholder] -= 100
    logprobs = (logits / 0.9).log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(answer.logprobs), logprobs, atol=1e-3, rtol=0)
print("agreed")
"""


ROPE = {
    "default": {},
    "dynamic": {"factor": 2.0},
    "linear": {"factor": 2.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("rope_type", ROPE_TYPES)
def test_positions_are_rotated_as_in_transformers(policy, rope_type):
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.rotary_embedding import get_rope

    text = policy.config.text_config
    text.max_position_embeddings = 256
    text.rope_parameters = {"rope_type": rope_type, "rope_theta": 1e4} | ROPE[rope_type]
    positions = torch.arange(256)
    theirs = Qwen2RotaryEmbedding(text)(torch.zeros(1), positions[None])
    with set_current_vllm_config(VllmConfig()):
        ours = get_rope(32, 256, rope_parameters=language_config(policy).rope_parameters, dtype=torch.float32)
    expected = torch.cat([part[0, :, :16] for part in theirs], dim=1)  # transformers repeats the halves
    torch.testing.assert_close(ours.cos_sin_cache[positions], expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("internvl", ["qwen3", "qwen3, tied", "llama"], indirect=True)
def test_answers_and_their_log_probabilities_are_those_of_transformers(from_internvl):
    """In a process of its own each, as engines of one process share its groups. (Qwen2 has its own, longer tests.)"""
    command = [sys.executable, "-c", COMPARE, str(from_internvl)]
    env = os.environ | {"TORCHDYNAMO_DISABLE": "1", "VLLM_USE_AOT_COMPILE": "0"}  # compiling takes most of the time
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("agreed"), done.stderr[-3000:]
