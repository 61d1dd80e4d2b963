import pytest
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from vqathinker.rollout.shared_prompt import attention_to_shared_prompts, share_prompts

LENGTHS = (7, 4)
ANSWERS, STEPS = 3, 70  # more steps than the buffer's first growth holds


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Qwen2ForCausalLM(config).eval()


@torch.no_grad()
def test_answers_that_share_their_prompts_are_as_on_their_own(model):
    longest = max(LENGTHS)
    prompts = torch.randint(50, (len(LENGTHS), longest))
    tokens = torch.randint(50, (len(LENGTHS) * ANSWERS, STEPS))
    mask = (torch.arange(longest) >= longest - torch.tensor(LENGTHS)[:, None]).long()

    cache = DynamicCache(config=model.config)
    model(prompts, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), past_key_values=cache)
    share_prompts(cache, ANSWERS, STEPS)
    logits = []
    with attention_to_shared_prompts(model):
        rows = mask.repeat_interleave(ANSWERS, dim=0)
        for token in tokens.split(1, dim=1):
            rows = torch.cat([rows, torch.ones_like(token)], dim=1)
            at = rows.sum(1, keepdim=True) - 1
            logits.append(model(token, attention_mask=rows, position_ids=at, past_key_values=cache).logits)
    found = torch.cat(logits, dim=1)

    for row, answer in enumerate(tokens):
        prompt = prompts[row // ANSWERS, -LENGTHS[row // ANSWERS] :]
        alone = model(torch.cat([prompt, answer])[None]).logits[0, -STEPS:]
        assert torch.allclose(found[row], alone, atol=1e-5)
    assert cache.get_seq_length() == longest + STEPS
    assert cache.layers[0].keys.shape[::2] == (len(LENGTHS), longest + ANSWERS * STEPS)  # the prompts stand there once
    assert cache.layers[0]._buffers[0].shape == cache.layers[0].keys.shape  # which have no room that is not needed


def test_the_models_own_attention_comes_back(model):
    with pytest.raises(KeyboardInterrupt), attention_to_shared_prompts(model):
        assert model.config._attn_implementation == "shared_prompt"
        raise KeyboardInterrupt
    assert model.config._attn_implementation == "sdpa"
