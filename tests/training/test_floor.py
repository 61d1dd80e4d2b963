"""Answers that a reward cannot score, where rewards are normalized one by one."""

import pytest
import torch
from transformers import AutoProcessor

import rewards
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Completion
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.groups import alternate, copy_row
from vqathinker.training.scores import score_global_batch

ANSWER = "<think>a</think><answer>{}</answer>"
RIGHT, NEAR, WRONG, NONE = range(4)


@pytest.fixture
def advantages(base, train_rows, config, monkeypatch):
    """The advantages and rewards, (clips, 4), of a right, a near, a wrong answer and one without a number."""

    def answers(self, policy, rows, shown):
        mos = {row.video: row.mos for row in train_rows}
        said = [
            text
            for name in shown.names
            for text in (f"{mos[name]:.2f}", f"{mos[name] + (0.4 if mos[name] < 3 else -0.4):.2f}",
                         "5.00" if mos[name] < 3 else "1.00", "good")
        ]  # fmt: skip
        self._perturbed = [ANSWER.format("2.00")] * len(said)
        ids = [[*self._tokenizer(ANSWER.format(text))["input_ids"], self._tokenizer.eos_token_id] for text in said]
        return [Completion(tokens, [0.0] * len(tokens)) for tokens in ids]

    monkeypatch.setattr(VQAGRPOTrainer, "_roll_out", answers)

    def make(rubric, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        args = config(num_generations=4, beta=0, **changes)
        processor = AutoProcessor.from_pretrained(base)
        trainer = VQAGRPOTrainer(policy, rubric, args, clip_dataset(train_rows, processor), processor)
        calculate, seen = trainer._calculate_rewards, []
        trainer._calculate_rewards = lambda *given: seen.append(calculate(*given)) or seen[-1]
        trainer.model.train()
        trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        found = torch.cat([chunk["advantages"] for chunk in trainer._buffered_inputs]).view(-1, 4)
        return found, seen[0].view(-1, 4, len(trainer.rubric.names)), trainer._metrics["train"]

    return make


@pytest.mark.parametrize("rubric", [[rewards.Regression()], "recommended", "paper"])
def test_no_number_is_not_worth_more_than_a_wrong_one(advantages, rubric):
    found, values, metrics = advantages(rubric, multi_objective_aggregation="normalize_then_sum")
    assert (found[:, NONE] < found[:, RIGHT]).all() and (found[:, NONE] < found[:, NEAR]).all()
    assert (found[:, NONE] <= found[:, WRONG] + 1e-3).all()
    assert not values.isnan().any() and (values[:, NONE, -1] == 0).all()
    assert metrics["quality/floored_rewards"] == [len(found) * (1 if len(rubric) == 1 else 3)]


def test_the_default_aggregation_leaves_it_missing(advantages):
    _, values, metrics = advantages("recommended")
    assert values[:, NONE, 1:].isnan().all() and not values[:, :NONE].isnan().any()
    assert "quality/floored_rewards" not in metrics


def rows_of(*videos):
    return [
        {"completion": text, "perturbed": perturbed, "mos": mos, "video_id": name, "prompt": "?", "readable": True,
         "copy_of": None, "kind": kind, "severity": kind and "0.3"}
        for name, mos, kind, perturbed, texts in videos
        for text in map(ANSWER.format, texts)
    ]  # fmt: skip


def test_only_what_applies_has_a_floor():
    copied = ANSWER.format(1.5)
    rows = rows_of(
        ("a", 4.0, "blur", copied, ["4.10", "3.60", "none"]),
        ("b", 2.0, "", copied, ["2.40", "1.90", "2.10"]),
        ("uncopied", 3.0, "", None, ["3.10", "3.20", "none"]),
        ("unlabelled", None, "", copied, ["3.00", "3.10", "none"]),
    )
    copies = [copy_row(row) | {"completion": ANSWER.format(score), "readable": True, "perturbed": None}
              for row, score in zip(rows[:3], ("1.40", "1.20", "none"), strict=True)]  # fmt: skip
    rubric = rewards.preset("recommended").plus(rewards.Distortion()).plus(rewards.Contrast())
    rubric = rubric.plus(rewards.Threshold()).plus(rewards.Linear())
    batch = [*alternate(rows[:3], copies, 3), *rows[3:]]
    plain, floored = (score_global_batch(rubric, batch, floor) for floor in (False, True))
    known = ~plain.rewards.isnan()
    assert torch.equal(plain.rewards[known], floored.rewards[known])
    filled = {
        (batch[i]["video_id"], rubric.names[j]) for i, j in (plain.rewards.isnan() & ~floored.rewards.isnan()).nonzero()
    }
    labelled = {"regression", "rank", "threshold", "linear"}
    expected = {(name, reward) for name in ("a", "uncopied") for reward in labelled}
    assert filled == expected | {("a", "temporal"), ("a (copy)", "contrast")}
    assert floored.metrics["floored_rewards"] == len(filled) and "floored_rewards" not in plain.metrics
    assert (floored.rewards[~known & ~floored.rewards.isnan()] == 0).all()


def test_nothing_to_rank_is_no_failure():
    rows = rows_of(("a", 4.0, "", None, ["4.10", "none"]), ("unlabelled", None, "", None, ["3.00", "3.10"]))
    rubric = rewards.preset("recommended")
    scored = score_global_batch(rubric, rows, floor=True)
    missing = scored.rewards.isnan().all(0).tolist()
    assert dict(zip(rubric.names, missing, strict=True)) == {
        "format": False, "regression": False, "rank": True, "temporal": True
    }  # fmt: skip
    assert scored.metrics["floored_rewards"] == 1


def test_a_reward_may_have_another_floor_or_no_rule():
    class Strict(rewards.Regression):
        floor = -1.0

    def plain(completions, **columns):
        return [None, 1.0]

    rubric = rewards.Rubric([Strict(), plain], [2.0, 1.0])
    texts = [ANSWER.format("none"), ANSWER.format("3.00")]
    table = rubric.score(texts, mos=[3.0, 3.0], video_id=["a", "a"])
    floored = rubric.floored(table, [{"mos": 3.0}] * 2)
    assert floored.rewards == {"regression": [-1.0, 1.0], "plain": [None, 1.0]} and floored.total == [-2.0, 3.0]
    assert table.rewards["regression"][0] is None and floored.counters["floored"] == 1
