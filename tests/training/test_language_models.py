"""A policy on each language model, from an InternVL checkpoint to trained weights."""

from functools import partial

import pytest
import torch
from transformers import AutoProcessor
from trl.trainer.grpo_trainer import add_fused_lm_head

from rewards import text_of
from vqathinker import QualityScorer
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.groups import pack_groups


@pytest.fixture
def policy(from_internvl):
    return VQAThinkerForConditionalGeneration.from_pretrained(from_internvl).eval()


@pytest.fixture
def processor(from_internvl):
    return AutoProcessor.from_pretrained(from_internvl)


def distinct(completions, **columns):
    """A reward with a gradient at random weights."""
    return [len(set(text)) / 20 for text in map(text_of, completions)]


def test_it_scores_a_clip_as_plain_generation_does(policy, processor, frames):
    scorer = QualityScorer(policy, processor, max_new_tokens=8)
    [answer] = scorer.score(frames).answers
    options = {"max_new_tokens": 8, "do_sample": False, "suppress_tokens": [policy.config.image_token_id]}
    [plain] = policy.generate(**processor([frames]), **options)
    assert answer == processor.tokenizer.decode(plain, skip_special_tokens=True) and answer


def test_two_steps_train_all_of_the_language_model(policy, processor, config, train_rows):
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    trainer = VQAGRPOTrainer(policy, [distinct], config(), clip_dataset(train_rows, processor), processor)
    trainer.train()
    assert len([entry for entry in trainer.state.log_history if entry.get("loss")]) == 2
    trained = [name for name in before if name.startswith(("model.language_model", "lm_head"))]
    assert not [name for name in trained if torch.equal(policy.state_dict()[name], before[name])]
    assert (policy.lm_head.weight is policy.get_input_embeddings().weight) == policy.config.tie_word_embeddings


@torch.no_grad()
def test_packed_rows_have_the_log_probabilities_of_single_ones(policy, processor):
    add_fused_lm_head(policy, temperature=0.9)
    lengths = [9, 4, 7, 9]
    prompt = torch.tensor(processor.prompt_ids())
    ids = torch.cat([prompt.expand(4, -1), torch.randint(6, 500, (4, 9))], dim=1)
    mask = (torch.arange(ids.shape[1]) < len(prompt) + torch.tensor(lengths)[:, None]).long()
    side = policy.config.vision_config.image_size[0]
    frames = torch.randint(0, 256, (2, 6, 3, side, side), dtype=torch.uint8)
    motion = torch.randn(2, policy.config.motion_tokens, policy.config.motion_config.feature_size)
    packed = pack_groups(ids, mask, 2, 9)
    found = packed.unpack(
        policy(
            **packed.inputs,
            frames=frames,
            motion_features=motion,
            visual_index=processor.index_of([processor.render()] * 2),
            shift_labels=packed.targets,
            fused_lm_head=True,
        ).log_probs,
    )
    for row, length in enumerate(lengths):
        clip = slice(row // 2, row // 2 + 1)
        own = ids[row : row + 1, : len(prompt) + length]
        shown = {"frames": frames[clip], "motion_features": motion[clip]}
        shown["visual_index"] = processor.index_of([processor.render()])
        logits = policy(input_ids=own, **shown).logits[0, -length - 1 : -1]
        expected = (logits / 0.9).log_softmax(-1).gather(-1, own[0, -length:, None])[:, 0]
        torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-5)


def exact_norm(weight, epsilon, hidden):
    return weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + epsilon)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_have_the_gradients_of_single_ones(policy, processor, checkpointing, monkeypatch):
    """In float64, with prompts and answers of several lengths, one of them empty: nothing but rounding is between."""
    policy.double().train()
    for norm in (module for module in policy.modules() if type(module).__name__.endswith("RMSNorm")):
        epsilon = norm.variance_epsilon  # transformers' own norms compute in float32
        monkeypatch.setattr(norm, "forward", partial(exact_norm, norm.weight, epsilon))
    if checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    prompts, lengths = [5, 8], [9, 0, 4, 1, 9, 3]
    ids, mask = torch.randint(6, 500, (6, 17)), torch.zeros(6, 17, dtype=torch.long)
    for row, length in enumerate(lengths):
        start = 8 - prompts[row // 3]
        ids[row, :8] = ids[row // 3 * 3, :8]
        mask[row, start : 8 + length] = 1
    weights = torch.randn(6, 9, dtype=torch.float64)

    def logps(logits, labels):
        return logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:, None])[..., 0]

    def gradients(loss):
        policy.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}

    packed = pack_groups(ids, mask, 2, 9)
    logits = policy(**packed.inputs, use_cache=False).logits
    found = packed.unpack(logits.log_softmax(-1).gather(-1, packed.targets[..., None])[..., 0])
    ours = gradients((weights * found).sum())
    total, rows = 0.0, []
    for row, length in enumerate(lengths):
        own = ids[row : row + 1, 8 - prompts[row // 3] : 8 + length]
        rows.append(logps(policy(input_ids=own, use_cache=False).logits, own)[0, len(own[0]) - length - 1 :])
        total = total + (weights[row, :length] * rows[-1]).sum()
        torch.testing.assert_close(found[row, :length], rows[-1], atol=1e-12, rtol=1e-10)
        assert not found[row, length:].any()
    theirs = gradients(total)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-12, rtol=1e-9, msg=name)


def test_packed_rows_take_no_other_attention(policy):
    policy.model.language_model.set_attn_implementation("eager")
    packed = pack_groups(torch.randint(6, 500, (2, 9)), torch.ones(2, 9, dtype=torch.long), 1, 4)
    with pytest.raises(ValueError, match="attn_implementation='eager' with packed rows: load the policy with 'sdpa'"):
        policy(**packed.inputs)


def test_answers_longer_than_dynamic_positions_reach_are_refused(policy, processor, config, train_rows):
    text = policy.config.text_config
    text.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}
    text.max_position_embeddings = len(processor.prompt_ids()) + 11
    dataset = clip_dataset(train_rows, processor)
    with pytest.raises(ValueError, match=r"max_completion_length=12 take .* beyond max_position_embeddings="):
        VQAGRPOTrainer(policy, [distinct], config(beta=0.0), dataset, processor)
    VQAGRPOTrainer(policy, [distinct], config(beta=0.0, max_completion_length=11), dataset, processor)
