"""A policy on each language model, from an InternVL checkpoint to trained weights."""

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


def test_answers_longer_than_dynamic_positions_reach_are_refused(policy, processor, config, train_rows):
    text = policy.config.text_config
    text.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}
    text.max_position_embeddings = len(processor.prompt_ids()) + 11
    dataset = clip_dataset(train_rows, processor)
    with pytest.raises(ValueError, match=r"max_completion_length=12 take .* beyond max_position_embeddings="):
        VQAGRPOTrainer(policy, [distinct], config(beta=0.0), dataset, processor)
    VQAGRPOTrainer(policy, [distinct], config(beta=0.0, max_completion_length=11), dataset, processor)
