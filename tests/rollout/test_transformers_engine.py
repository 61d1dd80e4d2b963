import pytest
import torch

from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.rollout.transformers_engine import beginnings

pytestmark = pytest.mark.contract


@pytest.fixture
def engine(policy, processor):
    tokenizer = processor.tokenizer
    return TransformersEngine(policy, [tokenizer.eos_token_id], [policy.config.image_token_id])


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


@pytest.mark.parametrize(
    ("sampling", "ends"),
    [(Sampling(30, temperature=0), 4), (Sampling(30, temperature=0.8, top_k=30, top_p=0.9), 14)],
)
@torch.no_grad()
def test_answers_leave_when_they_end_and_are_those_to_each_prompt_alone(engine, policy, sampling, ends):
    """In float64; noise is drawn for all answers at each step, as if none had left."""
    policy.double()
    generator = torch.Generator().manual_seed(0)
    width, tokens = policy.get_input_embeddings().weight.shape[1], policy.config.text_config.vocab_size
    prompts = [torch.randn(i, width, dtype=torch.double, generator=generator) for i in (9, 30, 9, 17)]
    engine.eos_token_ids = list(range(7, tokens, ends))
    passes = []
    hook = policy.model.language_model.register_forward_pre_hook(
        lambda module, inputs, named: passes.append(named["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    torch.manual_seed(1)
    found = engine.generate(prompts, 4, sampling)
    hook.remove()

    answers = [completion.token_ids for group in found for completion in group]
    lengths = [len(answer) for answer in answers]
    assert len(set(lengths)) > 2 and min(lengths) < 4 and max(lengths) > 20
    prefill, steps = passes[:3], passes[3:]
    assert sum(rows * length for rows, length in prefill) == sum(len(prompt) - 1 for prompt in prompts)  # no padding
    assert steps == [(sum(length > step for length in lengths), 1) for step in range(max(lengths))]
    torch.manual_seed(1)
    noise = torch.stack([torch.empty(len(answers), tokens).exponential_() for _ in range(max(lengths))]).log()
    for row, answer in enumerate(answers):
        words = policy.get_input_embeddings()(torch.tensor(answer))
        alone = torch.cat([prompts[row // 4], words])[None]
        scores = policy(inputs_embeds=alone).logits[0, -len(answer) - 1 : -1].float()
        scores[:, policy.config.image_token_id] = -torch.inf
        if sampling.temperature:
            scores = warped(scores, sampling) - noise[: len(answer), row]
        assert answer == scores.argmax(-1).tolist()
        assert engine._cut(answer) == answer and (answer[-1] in engine.eos_token_ids or len(answer) == 30)


def warped(scores, sampling):
    """What top-k and nucleus leave of the log-probabilities at a temperature, written down plainly."""
    scores = scores / sampling.temperature
    if sampling.top_k:
        scores[scores < scores.topk(sampling.top_k).values[:, -1:]] = -torch.inf
    order = scores.argsort(-1, descending=True)
    mass = scores.softmax(-1).gather(-1, order)
    outside = (mass.cumsum(-1) - mass >= sampling.top_p).scatter(-1, order, mass.cumsum(-1) - mass >= sampling.top_p)
    return scores.masked_fill(outside, -torch.inf)


@torch.no_grad()
def test_questions_about_one_clip_share_what_they_begin_with(engine, policy):
    policy.double()
    clip, other, *ends = (torch.randn(i, 128, dtype=torch.double) for i in (40, 40, 9, 1, 4))
    assert policy.get_input_embeddings().weight.shape[1] == 128
    prompts = [torch.cat([clip, ends[0]]), torch.cat([other, ends[1]]), torch.cat([clip, ends[2]]), clip[:12]]
    assert beginnings(prompts) == [([0, 2], 40), ([1], 40), ([3], 11)]
    passes, sampling = [], Sampling(8, temperature=0)
    hook = policy.model.language_model.register_forward_pre_hook(
        lambda module, inputs, named: passes.append(tuple(named["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    found = engine.generate(prompts, 2, sampling)
    hook.remove()
    assert passes[:5] == [(1, 40), (1, 8), (1, 3), (1, 40), (1, 11)]
    assert found == [engine.generate([prompt], 2, sampling)[0] for prompt in prompts]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def test_with_seeds_prompts_of_other_lengths_share_batches_and_answers_stay_those_to_each_alone(
    engine, policy, threads
):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(length, 128, generator=generator) for length in (9, 30, 63, 64, 65, 9)]
    engine.batch_size, engine.eos_token_ids, decoded = 4, [-1], []  # no answer ends before five tokens
    hook = policy.register_forward_hook(lambda module, inputs, output: decoded.append(output.logits[:, -1].clone()))
    together = engine.generate(prompts, 1, Sampling(5), list(range(6)))
    logits = [torch.stack(decoded[start : start + 5]) for start in range(0, len(decoded), 5)]
    assert len(logits) == 3  # those of up to 64 tokens, of which there are five, and the longer one
    for place, (batch, row) in enumerate([(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (1, 0)]):
        decoded.clear()
        assert engine.generate([prompts[place]], 1, Sampling(5), [place]) == [together[place]]
        assert torch.equal(torch.stack(decoded)[:, 0], logits[batch][:, row])  # to the last bit
    hook.remove()


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
