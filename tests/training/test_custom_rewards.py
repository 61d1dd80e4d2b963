"""Reward functions as TRL's documentation writes them."""

import asyncio

import pandas as pd
import pytest
from transformers import AutoProcessor

import rewards
from rewards import text_of
from vqathinker.data import LabelRow, clip_dataset
from vqathinker.messages import text_in
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer


def in_order(prompts, completions, completion_ids, **kwargs):
    return [float(len(ids)) for _, _, ids in zip(prompts, completions, completion_ids, strict=True)]


def labelled(completions, mos, log_extra, log_metric, trainer_state, **kwargs):
    log_extra("label", [f"{value:.2f}" for value in mos])
    log_metric("steps", trainer_state.global_step)
    return [len(set(text)) / 20 for text in map(text_of, completions)]


async def judged(completions, **kwargs):
    await asyncio.sleep(0.01)
    return [None if i % 2 else 1.0 for i, _ in enumerate(completions)]


class Judge:
    __name__ = "judge"

    async def __call__(self, completions, prompts, **kwargs):
        return [float("quality" in text_in(prompt)) for prompt in prompts]


@pytest.fixture
def make_trainer(base, train_rows, config):
    def make(rubric, rows=train_rows, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        processor = AutoProcessor.from_pretrained(base)
        return VQAGRPOTrainer(policy, rubric, config(**changes), clip_dataset(rows, processor), processor)

    return make


def test_functions_in_every_form_that_trl_calls(make_trainer, train_rows, tmp_path):
    unreadable = LabelRow(str(tmp_path / "bad.mp4"), "bad.mp4", 3.0, train_rows[0].extra)
    trainer = make_trainer(
        [in_order, labelled, judged, Judge()], [*train_rows[:3], unreadable], log_completions=True, max_steps=1
    )
    trainer.train()
    [entry] = [entry for entry in trainer.state.log_history if "loss" in entry]
    table = pd.read_parquet(tmp_path / "run" / "completions" / "completions_00001.parquet")
    known = table["video_id"] != "bad.mp4"
    assert known.tolist().count(False) == 2 and table["in_order"][known].between(1, 12).all()
    assert entry["rewards/in_order/mean"] == pytest.approx(table["in_order"].mean())
    assert entry["rewards/judged/mean"] == 1 and table["judged"].notna().sum() == 3
    assert entry["rewards/judge/mean"] == 1
    assert table["label"][known].tolist() == [f"{mos:.2f}" for mos in table["mos"][known]]
    assert table["label"][~known].isna().all() and table["in_order"][~known].isna().all()
    assert entry["quality/steps"] == 0


def test_coroutines_run_at_the_same_time_and_inside_a_running_loop():
    def waiting(name, event, other):
        async def reward(completions, **kwargs):
            event.set()
            await asyncio.wait_for(other.wait(), 5)  # each waits for the other
            return [0.5] * len(completions)

        reward.__name__ = name
        return reward

    async def notebook():
        one, two = asyncio.Event(), asyncio.Event()
        rubric = rewards.Rubric([rewards.Format(), waiting("a", one, two), waiting("b", two, one)], [1, 2, 3])
        return rubric.score(["<think>a</think><answer>3</answer>"], mos=[3.0], video_id=["x"])

    table = asyncio.run(notebook())
    assert table.rewards == {"format": [1.0], "a": [0.5], "b": [0.5]} and table.total == [3.5]


def test_a_reward_without_its_column_is_refused_at_the_start(make_trainer):
    def sharp(completions, sharpness, **kwargs):
        return [1.0] * len(completions)

    with pytest.raises(ValueError, match=r"reward 'sharp' needs \['sharpness'\], but the data set has the columns"):
        make_trainer([sharp])


def test_a_column_that_the_table_has_already_is_refused(make_trainer):
    def clash(completions, log_extra, **kwargs):
        log_extra("mos", [1.0] * len(completions))
        return [1.0] * len(completions)

    with pytest.raises(ValueError, match=r"log_extra\('mos', ...\): the table of completions already has this column"):
        make_trainer([clash], max_steps=1).train()


def test_a_coroutine_with_too_few_values_is_refused():
    async def short(completions, **kwargs):
        return [1.0]

    with pytest.raises(ValueError, match="'short' returned 1 values for 2 completions"):
        rewards.Rubric([short]).score(["a", "b"], mos=[1.0, 2.0], video_id=["x", "y"])
