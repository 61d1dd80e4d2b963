"""Held-out clips during training: one greedy answer each, scored once over the whole set."""

import json
import math
from pathlib import Path

import pytest
from datasets import Dataset
from safetensors.torch import load_file
from scipy.stats import pearsonr, spearmanr
from transformers import AutoProcessor, EarlyStoppingCallback

from rewards import text_of
from vqathinker.clips import ClipError
from vqathinker.data import LabelRow, clip_dataset
from vqathinker.messages import user_prompt
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.scoring import Prediction
from vqathinker.training import VQAGRPOTrainer, trainer

ANSWER = "<think>a</think><answer>{:.2f}</answer>"


class Distinct:
    """A reward with a gradient at random weights."""

    __name__ = "distinct"

    def __call__(self, completions, **columns):
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def make_trainer(base, train_rows, config):
    def make(eval_rows=None, callbacks=None, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        processor = AutoProcessor.from_pretrained(base)
        train, held_out = (rows and clip_dataset(rows, processor) for rows in (train_rows, eval_rows))
        settings = config(**changes)
        return VQAGRPOTrainer(
            policy, [Distinct()], settings, train, processor, eval_dataset=held_out, callbacks=callbacks
        )

    return make


@pytest.fixture
def answering(monkeypatch):
    """Makes the policy give certain scores, clip by clip, one list a validation; and notes what it was asked."""

    def answer(*rounds):
        asked = []

        def predict(policy, processor, videos, **settings):
            asked.append((list(videos), settings))
            scores = rounds[min(len(asked), len(rounds)) - 1]
            texts = ["nothing" if score is None else ANSWER.format(score) for score in scores]
            return [Prediction(video, (text,), True) for video, text in zip(videos, texts, strict=True)]

        monkeypatch.setattr(trainer, "predict", predict)
        return asked

    return answer


def logged(trainer, name):
    return [(entry["step"], entry[name]) for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_correlations_are_those_of_the_whole_set_whatever_the_batch(make_trainer, answering, train_rows, batch):
    rows, scores = train_rows[:5], [3.1, 1.2, None, 4.0, 2.2]
    asked = answering(scores)
    trainer = make_trainer(rows, per_device_eval_batch_size=batch)
    metrics = trainer.evaluate()
    known = [(score, row.mos) for score, row in zip(scores, rows, strict=True) if score is not None]
    assert metrics["eval_srcc"] == pytest.approx(spearmanr(*zip(*known, strict=True)).statistic)
    assert metrics["eval_plcc"] == pytest.approx(pearsonr(*zip(*known, strict=True)).statistic)
    assert metrics["eval_parse_rate"] == 0.8 and metrics["eval_skipped_clips"] == 0
    [(videos, settings)] = asked
    assert videos == [row.video for row in rows] and settings["batch_size"] == batch
    [entry] = trainer.state.log_history
    assert entry["eval_srcc"] == metrics["eval_srcc"]
    output = trainer.predict(trainer.eval_dataset)
    assert output.metrics["test_srcc"] == metrics["eval_srcc"] and output.label_ids.tolist() == [r.mos for r in rows]
    assert output.predictions[[0, 1, 3, 4]].tolist() == [3.1, 1.2, 4.0, 2.2] and math.isnan(output.predictions[2])


def test_the_policys_own_answers_are_scored_before_and_during_training(make_trainer, train_rows, tmp_path, capsys):
    trainer = make_trainer(
        train_rows[:3], eval_strategy="steps", eval_steps=1, eval_on_start=True, log_completions=True
    )
    modes = []
    validate = trainer.evaluation_loop
    trainer.evaluation_loop = lambda *a, **k: modes.append(trainer.model.training) or validate(*a, **k)
    trainer.train()
    assert logged(trainer, "eval_parse_rate") == [(0, 0), (1, 0), (2, 0)] and not any(modes)
    training = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in training] == [1, 2]
    assert all("quality/parse_rate" in entry and "kl" in entry for entry in training)
    assert not any(key.startswith("eval_quality") for entry in trainer.state.log_history for key in entry)
    assert len(list((tmp_path / "run" / "completions").glob("*.parquet"))) == 2
    json.dumps(trainer.state.log_history, allow_nan=False)
    assert trainer.model.training


def test_training_is_the_same_with_a_validation(make_trainer, train_rows):
    plain = make_trainer(max_steps=3)
    plain.train()
    validated = make_trainer(train_rows[:3], max_steps=3, eval_strategy="steps", eval_steps=1, eval_on_start=True)
    validated.train()
    assert logged(plain, "loss") == logged(validated, "loss") and len(logged(plain, "loss")) == 3


@pytest.mark.parametrize("named", [None, "srcc"])
def test_the_best_checkpoint_is_kept_and_loaded_at_the_end(make_trainer, answering, train_rows, tmp_path, named):
    rows = train_rows[:4]
    right = [row.mos for row in rows]
    wrong, flat = [6 - mos for mos in right], [3.0] * 4
    answering(flat, right, wrong)  # the first has no SRCC
    trainer = make_trainer(
        rows, max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=1, eval_strategy="steps",
        eval_steps=1, load_best_model_at_end=True, metric_for_best_model=named,
    )  # fmt: skip
    trainer.train()
    best = tmp_path / "run" / "checkpoint-2"
    assert trainer.state.best_model_checkpoint == str(best) and trainer.state.best_metric == pytest.approx(1)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == [best.name]
    for name, weight in load_file(best / "model.safetensors").items():
        assert trainer.model.state_dict()[name].equal(weight), name
    assert best.name in (best / "trainer_state.json").read_text()
    assert [step for step, _ in logged(trainer, "eval_srcc")] == [2, 3]  # an undefined one is not logged
    assert [step for step, _ in logged(trainer, "eval_parse_rate")] == [1, 2, 3]


def test_training_stops_early_when_srcc_does_not_grow(make_trainer, answering, train_rows):
    rows = train_rows[:4]
    right = [row.mos for row in rows]
    answering([right[1], right[0], *right[2:]], right, right, right)
    trainer = make_trainer(
        rows, [EarlyStoppingCallback(1)], max_steps=6, eval_strategy="steps", eval_steps=1, save_strategy="steps",
        save_steps=1, load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3


def test_the_learning_rate_falls_when_srcc_does_not_grow(make_trainer, answering, train_rows):
    rows = train_rows[:4]
    right = [row.mos for row in rows]
    answering([right[1], right[0], *right[2:]], right, right)
    trainer = make_trainer(
        rows, max_steps=3, eval_strategy="steps", eval_steps=1, lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.5},
    )  # fmt: skip
    trainer.train()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)  # grew once, stayed once


def test_a_validation_leaves_checkpointing_as_it_was(make_trainer, train_rows):
    trainer = make_trainer(
        train_rows[:2], gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}
    )
    trainer.train()
    trainer.evaluate()
    functions = [
        module._gradient_checkpointing_func
        for module in trainer.model.modules()
        if hasattr(module, "_gradient_checkpointing_func")
    ]
    assert functions and all(function.keywords == {"use_reentrant": True} for function in functions)


def test_several_named_sets_are_scored_one_by_one(make_trainer, answering, train_rows):
    answering([row.mos for row in train_rows[:3]], [6 - row.mos for row in train_rows[3:6]])
    trainer = make_trainer()
    processor = trainer.processing_class
    sets = {"a": clip_dataset(train_rows[:3], processor), "b": clip_dataset(train_rows[3:6], processor)}
    metrics = trainer.evaluate(sets)
    assert metrics["eval_a_srcc"] == pytest.approx(1) and metrics["eval_b_srcc"] == pytest.approx(-1)
    make_trainer(eval_strategy="steps", eval_steps=1, eval_rows=train_rows[:2], metric_for_best_model="a_srcc")


def test_clips_that_cannot_be_judged_are_counted_or_refused(make_trainer, train_rows, tmp_path):
    lost = [LabelRow(str(tmp_path / f"{i}.mp4"), f"{i}.mp4", 1.0 + i) for i in range(2)]
    assert make_trainer([*train_rows[:2], lost[0]]).evaluate()["eval_skipped_clips"] == 1
    with pytest.raises(ClipError, match="nor can the other 1 validation clips"):
        make_trainer(lost).evaluate()
    trainer = make_trainer()
    columns = {"prompt": [trainer.processing_class.messages(train_rows[0].video)], "video_id": ["a"]}
    with pytest.raises(ValueError, match=r"1 of 1 validation clips have no MOS \(first: 'a'\)"):
        trainer.evaluate(Dataset.from_dict(columns))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_generations_eval": 4}, "num_generations_eval=4: validation uses one greedy answer"),
        (
            {"metric_for_best_model": "reward"},
            "metric_for_best_model='reward': validation reports srcc, plcc, parse_rate",
        ),
        ({"metric_for_best_model": "eval_loss"}, "metric_for_best_model='eval_loss'"),
    ],
)
def test_what_a_validation_does_not_have_is_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_prompt_that_the_policy_is_not_asked_is_refused(make_trainer, train_rows, base, config):
    trainer = make_trainer()
    processor = trainer.processing_class
    rows = clip_dataset(train_rows, processor)
    text = rows.remove_columns("prompt").add_column("prompt", ["How loud?"] * len(rows))
    with pytest.raises(ValueError, match=r"the prompt 'How loud\?' is not a conversation"):
        VQAGRPOTrainer(trainer.model, [Distinct()], config(), text, processor)
    with pytest.raises(ValueError, match="How loud"):
        trainer.evaluate(text)
    two = user_prompt([train_rows[0].video] * 2, "Which one?")
    with pytest.raises(ValueError, match="shows 2 clips: it must have exactly one"):
        trainer.evaluate(Dataset.from_dict({"prompt": [two], "video_id": ["a"], "mos": [3.0]}))
    other = rows.remove_columns("video").add_column("video", ["x.mp4"] * len(rows))
    with pytest.raises(ValueError, match=r"the row's video is 'x\.mp4', but its prompt shows"):
        trainer.evaluate(other)
    forged = processor.messages(train_rows[0].video, "How <IMG_CONTEXT>?")
    with pytest.raises(ValueError, match="holds <IMG_CONTEXT>"):
        trainer.evaluate(Dataset.from_dict({"prompt": [forged], "video_id": ["a"], "mos": [3.0]}))
    with pytest.raises(ValueError, match=r"must be a datasets\.Dataset with prompt and video_id"):
        nameless = other.remove_columns("video_id")
        VQAGRPOTrainer(trainer.model, [Distinct()], config(), nameless, trainer.processing_class)
    with pytest.raises(ValueError, match="a IterableDataset with columns"):
        VQAGRPOTrainer(trainer.model, [Distinct()], config(), other.to_iterable_dataset(), trainer.processing_class)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val_labels", "val.csv", "--eval_strategy", "no"], "would never be scored. Set eval_strategy: steps"),
        (["--eval_strategy", "steps", "--eval_steps", "2"], r"\{'eval_strategy': 'steps'\} without val_labels"),
        (["--early_stopping_patience", "2"], r"\{'early_stopping_patience': 2\} without val_labels"),
        (["--early_stopping_patience", "-1"], "early_stopping_patience=-1: must be at least 0"),
    ],
)
def test_the_recipe_takes_held_out_clips_and_their_times_together(
    repo, base, clip_set, tmp_path, monkeypatch, options, message
):
    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_lsvq

    file = tmp_path / "small.yaml"
    file.write_text(
        f"model: {base}\ntrain_labels: {clip_set}/train.csv\nvideo_root: {clip_set}\nmos_scale: identity\n"
        f"output_dir: {tmp_path}/run\nreport_to: none\nbf16: false\n"
    )
    with pytest.raises(ValueError, match=message):
        grpo_lsvq.main(["--config", str(file), *options])
    assert not Path(tmp_path, "run", "model.safetensors").exists()
