"""Clips to be scored and questions about them in one run."""

import math

import pytest
import torch
from transformers import AutoProcessor

import rewards
from rewards import text_of
from vqathinker.data import ClipLoader, Sample, score_samples
from vqathinker.messages import text_in
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.tasks import mixture, rotated, sample_dataset
from vqathinker.training import SFTCollator, VQAGRPOTrainer, sft_dataset
from vqathinker.training.samples import with_tasks

OPTIONS = ("Blur", "Noise", "Stutter", "None of these")


class Noted:
    """Pays by the text, so that there is a gradient at random weights, and notes what it was given."""

    __name__ = "noted"
    needs_perturbed = True

    def __init__(self):
        self.calls = []

    def __call__(self, completions, **columns):
        self.calls.append(columns | {"completions": completions})
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def samples(train_rows):
    questions = [
        Sample(f"{row.video_id}: Which?", "choice", (row.video,), "Which fault?", {"options": OPTIONS, "answer": "B"})
        for row in train_rows
    ]
    return mixture([(score_samples(train_rows), 1), (questions, 1)], seed=0)


@pytest.fixture
def make_trainer(base, samples, config):
    def make(rubric, rows=samples, eval_rows=None, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        processor = AutoProcessor.from_pretrained(base)
        train, held_out = (chosen and sample_dataset(chosen, processor) for chosen in (rows, eval_rows))
        return VQAGRPOTrainer(policy, rubric, config(**changes), train, processor, eval_dataset=held_out)

    return make


def test_rewards_are_told_what_was_asked_and_metrics_are_per_task(make_trainer):
    noted = Noted()
    trainer = make_trainer([noted, rewards.Regression(), rewards.Choice()], max_steps=4)
    trainer.train()
    orders = set()
    for call in noted.calls:
        for place, prompt in enumerate(call["prompts"]):
            options, mos = call["options"][place], call["mos"][place]
            assert (options is None) != (mos is None)
            perturbed = (call["perturbed_completions"] or [None] * 99)[place]
            assert (perturbed is None) == (mos is None)  # only scores are asked of perturbed copies
            if options is None:
                assert text_in(prompt).startswith(trainer.processing_class.question)
                continue
            orders.add(tuple(options))
            assert options["ABCD".index(call["answer"][place])] == "Noise"
            assert "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)) in text_in(
                prompt
            )
        groups = {}
        for name, prompt in zip(call["video_id"], call["prompts"], strict=True):
            groups.setdefault(name, []).append(text_in(prompt))
        assert call["video_id"] == call["sample_id"]
        assert all(len(texts) == 2 and len(set(texts)) == 1 for texts in groups.values())  # K answers to one question
    assert len(orders) > 3
    seen = {key for entry in trainer.state.log_history for key, value in entry.items() if value is not None}
    assert {"quality/parse_rate", "quality/choice_accuracy", "quality/choice_unparsable"} <= seen
    assert {"rewards/choice/mean"} <= seen and all(
        math.isfinite(e["loss"]) for e in trainer.state.log_history if "loss" in e
    )


def test_degrees_and_answers_in_numbers_are_paid_measured_and_validated(make_trainer, train_rows):
    clips = [(row.video,) for row in train_rows]
    scale = {"options": ("None", "Mild", "Strong"), "answer": "B", "steps": (0, 1, 2)}
    samples = [
        Sample("when", "when", clips[0], "When is it noisy?", {"answer_interval": [0.5, 1.0]}),
        Sample("where", "where", clips[1], "Where is it noisy?", {"answer_box": [10.0, 20.0, 60.0, 80.0]}),
        Sample("count", "count", clips[2], "How many freezes?", {"answer_count": 2}),
        Sample("degree", "choice", clips[3], "How strong is the noise?", scale),
    ]
    noted = Noted()
    noted.needs_perturbed = False
    rubric = with_tasks(None, samples).plus(noted)
    trainer = make_trainer(rubric, rows=samples, eval_rows=rotated(samples), max_steps=1)
    trainer.train()
    seen = {key for entry in trainer.state.log_history for key, value in entry.items() if value is not None}
    assert {f"rewards/{name}/mean" for name in ("when", "where", "count", "choice", "severity")} <= seen
    assert {"quality/when_iou", "quality/where_hit", "quality/count_accuracy", "quality/choice_letter_C"} <= seen
    [call] = noted.calls
    assert sorted(value for value in call["answer_count"] if value is not None) == [2, 2]
    for options, steps in zip(call["options"], call["steps"], strict=True):
        assert options is None or [scale["options"][step] for step in steps] == options
    metrics = trainer.evaluate()
    assert metrics["eval_when_iou"] == metrics["eval_choice_consistency"] == 0  # random weights say nothing
    assert metrics["eval_count_unparsable"] == metrics["eval_choice_unparsable"] == 1


def test_advantages_are_scaled_task_by_task(make_trainer):
    class Uneven(Noted):
        needs_perturbed = False

        def __call__(self, completions, mos, **columns):
            values = super().__call__(completions, mos=mos, **columns)
            return [value if label is None else 100 * value for value, label in zip(values, mos, strict=True)]

    trainer = make_trainer([Uneven()], max_steps=1, scale_rewards="batch", per_device_train_batch_size=16)
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer._prepare_inputs(batch)
    found = torch.cat([chunk["advantages"] for chunk in trainer._buffered_inputs])
    is_score = torch.tensor([row["mos"] is not None for row in batch])
    assert 0 < int(is_score.sum()) < len(is_score)
    for kind in (is_score, ~is_score):
        rewards_of_kind = trainer._scored[0][:, 0][kind]
        groups = rewards_of_kind.view(-1, 2)
        expected = (groups - groups.mean(1, keepdim=True)) / (rewards_of_kind.std() + 1e-4)
        torch.testing.assert_close(found[kind].view(-1, 2), expected, atol=1e-3, rtol=1e-3)


def test_validation_measures_each_task_over_the_whole_set(make_trainer, samples):
    trainer = make_trainer([Noted()], eval_rows=[*samples[:4], *samples[-3:]])
    metrics = trainer.evaluate()
    assert metrics["eval_choice_unparsable"] == 1 and metrics["eval_choice_accuracy"] == 0  # random weights say nothing
    assert metrics["eval_parse_rate"] == 0 and metrics["eval_skipped_clips"] == 0
    assert "eval_srcc" not in make_trainer([Noted()], eval_rows=samples[-3:]).evaluate()


def test_the_warm_start_learns_both(base, samples):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
    processor = AutoProcessor.from_pretrained(base)
    chosen = [samples[0], samples[-1]]
    rows = sft_dataset(chosen, processor, seed=0)
    batch = SFTCollator(processor, ClipLoader(processor.load_clip), policy)(rows.to_list())
    for labels, row in zip(batch["labels"], rows, strict=True):
        scored = processor.tokenizer.decode(labels[labels != -100])
        assert scored == row["completion"] + processor.tokenizer.eos_token
    assert rows[1]["completion"].endswith("<answer>Noise</answer>")
    assert torch.isfinite(policy(**batch).loss)
