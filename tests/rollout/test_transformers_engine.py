import pytest
import torch

from vqathinker.rollout import Sampling, TransformersEngine


@pytest.fixture
def engine(policy, processor):
    tokenizer = processor.tokenizer
    return TransformersEngine(policy, [tokenizer.eos_token_id], tokenizer.pad_token_id, [policy.config.image_token_id])


@pytest.fixture
def prompts(policy, processor, frames):
    """Two prompts of different length: 6 and 4 frames."""
    clips = [processor.from_array(frames), processor.from_array(frames[::-1].copy())]
    with torch.no_grad():
        features = policy.encode(
            frames=[clips[0].frames, clips[1].frames[:4]],
            motion_frames=[clips[0].motion_frames, clips[1].motion_frames[:4]],
        )
        return [policy.prompt_embeds(processor.render(frames=[f.num_frames]), [f]) for f in features]


def test_shared_prefill_and_padding_give_plain_greedy_answers(engine, policy, prompts):
    together = engine.generate(prompts, 3, Sampling(12, temperature=0))
    for prompt, group in zip(prompts, together, strict=True):
        plain = policy.generate(
            inputs_embeds=prompt[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
        )[0].tolist()
        assert all(completion.token_ids == engine._cut(plain) for completion in group)


def test_chunks_do_not_change_greedy_answers(engine, prompts):
    whole = engine.generate(prompts, 2, Sampling(6, temperature=0))
    engine.batch_size = 2
    assert engine.generate(prompts, 2, Sampling(6, temperature=0)) == whole


def test_samples_differ_and_repeat_with_the_seed(engine, prompts):
    def draw():
        torch.manual_seed(3)
        return engine.generate(prompts, 4, Sampling(8, temperature=1.0, top_k=0))

    first = draw()
    assert first == draw()
    assert len({tuple(c.token_ids) for c in first[0]}) > 1
    assert [len(group) for group in first] == [4, 4]


def test_the_placeholder_is_never_sampled(engine, policy, prompts):
    drawn = engine.generate(prompts, 32, Sampling(16, temperature=5.0, top_k=0))
    tokens = {token for group in drawn for completion in group for token in completion.token_ids}
    assert policy.config.image_token_id not in tokens and len(tokens) > 200


def test_an_answer_ends_with_its_first_end_token(engine):
    end = engine.eos_token_ids[0]
    assert engine._cut([5, 6, end, 7, end]) == [5, 6, end]
    assert engine._cut([5, 6]) == [5, 6]


def test_mode_of_the_policy_is_restored(engine, policy, prompts):
    policy.train()
    engine.generate(prompts, 1, Sampling(2))
    assert policy.training and engine.generate([], 2, Sampling(2)) == []


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"max_new_tokens": 0}])
def test_bad_sampling_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**({"max_new_tokens": 4} | bad))
