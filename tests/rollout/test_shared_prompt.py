import pytest
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from vqathinker.rollout.shared_prompt import SharedPrompts, attention_to_shared_prompts

pytestmark = pytest.mark.contract

LENGTHS = (7, 4, 7, 2)
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


LEAVES = {3: [0, 4, 9], 20: [1, 2, 5, 10], 40: [3, 6, 8], 50: [7]}
"""Step -> answers that have then ended."""


@torch.no_grad()
@pytest.mark.parametrize("leaves", [{}, LEAVES])
def test_answers_that_share_their_prompts_are_as_on_their_own(model, leaves):
    model.double()
    prompts = [torch.randint(50, (length,)) for length in LENGTHS]
    tokens = torch.randint(50, (len(LENGTHS) * ANSWERS, STEPS))
    parts = [(places, prefilled(model, prompts, places)) for places in ([0, 2], [1], [3])]
    shared = SharedPrompts(parts, ANSWERS, STEPS)
    rows, found, held = list(range(len(tokens))), {row: [] for row in range(len(tokens))}, []
    with attention_to_shared_prompts(model):
        for step in range(STEPS):
            at = torch.tensor([[LENGTHS[row // ANSWERS] + step] for row in rows])
            logits = model(tokens[rows, step : step + 1], position_ids=at, shared=shared, use_cache=False).logits
            for row, own in zip(rows, logits[:, 0], strict=True):
                found[row].append(own)
            if step in leaves:
                going = [row not in leaves[step] for row in rows]
                rows = [row for row, goes in zip(rows, going, strict=True) if goes]
                shared.leave(torch.tensor(going))
                held.append((len(shared._padding), shared.n, shared.prompt))

    lengths = {row: step + 1 for step, ended in leaves.items() for row in ended}
    for row, own in found.items():
        assert len(own) == lengths.get(row, STEPS)
        alone = model(torch.cat([prompts[row // ANSWERS], tokens[row, : len(own)]])[None]).logits[0, -len(own) :]
        torch.testing.assert_close(torch.stack(own), alone, atol=1e-6, rtol=0)  # norms are float32
    assert shared.steps == STEPS
    # prompts, places for answers, tokens: at first nothing is copied, as a place is left for each answer but three
    assert held == ([(4, 3, 7), (3, 3, 7), (2, 1, 7), (1, 1, 2)] if leaves else [])
    held_now, longest = shared._buffers[0][0], 1 if leaves else ANSWERS
    assert held_now.shape[0] == (1 if leaves else 4) and shared.keys == shared.prompt + longest * STEPS
    assert held_now.shape[2] == shared.keys  # no space that is not needed


def prefilled(model, prompts, places):
    """The cache of prompts of one length."""
    cache = DynamicCache(config=model.config)
    model(torch.stack([prompts[place] for place in places]), past_key_values=cache)
    return cache


def test_the_models_own_attention_comes_back(model):
    with pytest.raises(KeyboardInterrupt), attention_to_shared_prompts(model):
        assert model.config._attn_implementation == "shared_prompt"
        raise KeyboardInterrupt
    assert model.config._attn_implementation == "sdpa"
