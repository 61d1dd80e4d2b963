"""Adapters that pay one answer at a time, without their frameworks, whose own loaders tests/frameworks has."""

import asyncio
import importlib.util
import logging
import math
import pickle
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest

from rewards.adapters import areal, openrlhf, verifiers
from rewards.adapters.errors import RewardError

GOOD = "<think>a</think><answer>{}</answer>"
BELL = math.exp(-0.5)  # of an answer that is off by sigma, half a score
PROMPT = "<|im_start|>user\nRate it.<|im_end|>\n<|im_start|>assistant\n"
pytestmark = pytest.mark.filterwarnings("ignore:the trainer sees")


def test_openrlhf_loads_the_file_and_pays_what_follows_the_prompt():
    spec = importlib.util.spec_from_file_location("reward_func", openrlhf.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.reward_func([PROMPT + GOOD.format("3.50") + "<|im_end|>"], [PROMPT], ['{"mos": 4}'])
    assert found["extra_logs"] == {"format": 1.0, "regression": pytest.approx(BELL)}
    assert found["rewards"] == found["scores"] == pytest.approx(1 + BELL)


def test_openrlhf_finds_the_answer_behind_a_prompt_whose_images_are_many_tokens():
    image = "<|image_pad|>"
    prompt = f"<|im_start|>user\n{image}Say <answer>1.00</answer>.<|im_end|>\n<|im_start|>assistant\n"
    query = prompt.replace(image, image * 300) + GOOD.format("3.50")
    assert openrlhf.answer_of(query, prompt) == GOOD.format("3.50")
    assert openrlhf.answer_of(query[-100:], prompt) == GOOD.format("3.50")  # cut at its beginning
    assert openrlhf.answer_of("ab" * 20 + "cab" * 20, "ab" * 20) == "cab" * 20
    with pytest.raises(ValueError, match="is not in the text 'something else'"):
        openrlhf.answer_of("something else", prompt)


def test_what_a_trainer_would_swallow_ends_the_run(caplog):
    with caplog.at_level(logging.ERROR, "vqathinker"), pytest.raises(RewardError, match="no reward can be paid"):
        try:
            openrlhf.reward_func([PROMPT + GOOD.format(3)], [PROMPT], [None])
        except Exception as error:  # what OpenRLHF does, verifiers 0.1 and AReaL
            pytest.fail(f"swallowed: {error}")
    assert "the run ends: ValueError: label None: must be a finite MOS" in caplog.text


def test_it_ends_the_run_from_a_task_that_nobody_waits_for_too():
    async def pay():
        openrlhf.reward_func([PROMPT + GOOD.format(3)], [PROMPT], [None])

    async def serve():
        asyncio.create_task(pay())  # noqa: RUF006  # as verifiers' server does with a request
        await asyncio.sleep(60)

    with pytest.raises(RewardError, match="the run ends"):
        asyncio.run(serve())


@pytest.mark.parametrize("module", [areal, openrlhf, verifiers])
def test_rewards_that_need_more_than_one_answer_are_refused_when_they_are_named(module):
    for name in ("rank", "temporal", "contrast", "order", "product_hinge", "bradley_terry"):
        with pytest.raises(ValueError, match=f"one answer at a time, so {name} cannot be paid"):
            module.reward_function(f"format,{name}")


def test_areal_pays_in_another_process_and_an_error_comes_back():
    row = {"prompt": PROMPT, "completions": GOOD.format("3.50") + "<|im_end|>", "prompt_ids": [], "completion_ids": []}
    own = pickle.loads(pickle.dumps(areal.reward_function("format=0.5,linear")))
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(areal.reward_fn, **row, mos=4.0, video_id="a").result() == pytest.approx(1 + BELL)
        assert pool.submit(own, **row, mos="4").result() == pytest.approx(0.5 + 0.875)
        with pytest.raises(RewardError, match=r"none of \['regression'\] can be paid for"):
            pool.submit(areal.reward_fn, **row, video_id="a").result()


def test_verifiers_gets_each_reward_times_its_weight():
    trace = SimpleNamespace(last_reply=GOOD.format("3.50"))
    task = {"mos": 4.0, "video_id": "a", "prompt": "Rate it."}
    assert asyncio.run(verifiers.score(task, trace)) == {"format": 1.0, "regression": pytest.approx(BELL)}
    own = verifiers.reward_function("format=0.5,linear=2")
    assert asyncio.run(own(task, trace)) == {"format": 0.5, "linear": pytest.approx(1.75)}
    with pytest.raises(ValueError, match="can be paid for"):
        asyncio.run(own({"prompt": "Rate it."}, trace))
