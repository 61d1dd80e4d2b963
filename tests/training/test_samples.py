"""Rewards of several tasks in one rubric, and pairs made of labels."""

import csv
from dataclasses import dataclass

import pytest

from rewards import Format, Rubric
from vqathinker.data import Sample
from vqathinker.tasks import TASKS, Task
from vqathinker.training.samples import DataArguments, LookArguments, with_tasks


class Dark(Task):
    """Only its rewards are asked for."""

    name = "dark"
    gold = parse = truth = measure = None

    def right(self, completions, **columns):
        return [1.0] * len(completions)

    def rubric(self):
        return Rubric([Format(), self.right])


class Loud(Dark):
    name = "loud"


class Slow(Dark):
    name = "slow"

    def right(self, completions, **columns):
        return [0.0] * len(completions)


@pytest.fixture(autouse=True)
def tasks(monkeypatch):
    for task in (Dark(), Loud(), Slow()):
        monkeypatch.setitem(TASKS, task.name, task)


def samples(*tasks):
    return [Sample(task, task, ("a.mp4",)) for task in tasks]


@dataclass(kw_only=True)
class Arguments(DataArguments, LookArguments):
    """As the recipes'."""


def test_a_question_that_nothing_asks_is_refused(clip_set):
    labels = {"train_labels": str(clip_set / "train.csv"), "video_root": str(clip_set), "mos_scale": "identity"}
    with pytest.raises(ValueError, match=r"question='How good\?' with ask='level': .* Leave it out, or give labels"):
        Arguments(**labels, ask="level", question="How good?").training(0)
    for ask in ("score", "both"):
        assert Arguments(**labels, ask=ask, question="How good?").training(0)
    assert Arguments(**labels, ask="level").training(0)


def test_pairs_of_labels_come_beside_their_scores(clip_set, tmp_path, monkeypatch, repo):
    labels = {"train_labels": str(clip_set / "train.csv"), "video_root": str(clip_set), "mos_scale": "identity"}
    samples = DataArguments(**labels, pairs=0.5).training(seed=3)
    scores, pairs = ([s for s in samples if s.task == task] for task in ("score", "compare"))
    assert len(scores) == len(pairs) == 16 and samples == DataArguments(**labels, pairs=0.5).training(seed=3)
    assert {clip for pair in pairs for clip in pair.clips} <= {score.clips[0] for score in scores}
    assert (
        pairs[0].target["kind_first"]
        and DataArguments(**labels, pairs=0.5, pairs_tau=9.0).training(0)[-1].target["better"] == "similar"
    )

    monkeypatch.syspath_prepend(str(repo / "recipes"))
    import grpo_lsvq

    def rubric(**options):
        made = grpo_lsvq.make_rubric(grpo_lsvq.GRPOArguments(model="", **labels, **options), samples)
        return dict(zip(made.names, made.weights, strict=True))

    assert rubric(pairs=0.5, compare_weight=0.3, leave_out=["rank", "temporal"]) == {
        "format": 1, "regression": 1, "distortion": 1, "pair_word": 0.3, "pair_order": 0.3, "pair_agreement": 0.3
    }  # fmt: skip
    assert rubric(pairs=0.5)["pair_order"] == 1
    scores_only, questions = scores, {"questions": ["q.jsonl"], "video_root": "."}
    with pytest.raises(ValueError, match=r"compare_weight=2\.0: there are no pairs"):
        grpo_lsvq.make_rubric(grpo_lsvq.GRPOArguments(model="", **labels, compare_weight=2.0), scores_only)
    with pytest.raises(ValueError, match=r"pairs=0\.5 without train_labels: .* Alone they reached SRCC 0\.667"):
        DataArguments(**questions, pairs=0.5)
    with pytest.raises(ValueError, match=r"pairs=0\.5 without train_labels or ladders"):
        grpo_lsvq.GRPOArguments(model="", **questions, pairs=0.5)
    for options, message in (
        ({"pairs": -1.0}, r"pairs=-1\.0: must be a finite number at least 0"),
        ({"pairs": float("inf")}, "pairs=inf: must be a finite number at least 0"),
        ({"pairs": 1.0, "pairs_tau": 0.0}, r"pairs_tau=0\.0: must be a finite number above 0"),
        ({"pairs": 1.0, "pairs_min_rank": -1.0}, r"pairs_min_rank=-1\.0: must be a finite number at least 0"),
        ({"pairs_tau": 0.5, "pairs_min_rank": 2.0}, "'pairs_tau': 0.5, 'pairs_min_rank': 2.0} without pairs"),
        ({"video_root": None}, "train_labels without video_root"),
    ):
        with pytest.raises(ValueError, match=message):
            DataArguments(**labels | options)
    grpo_lsvq.GRPOArguments(model="", **labels, val_labels="v.csv", val_pairs=1.0, pairs_tau=0.5)
    with pytest.raises(ValueError, match=r"compare_weight=0 with pairs=0\.5: steps would be spent on pairs"):
        rubric(pairs=0.5, compare_weight=0.0)
    with pytest.raises(ValueError, match=r"pairs=0\.5 with rewards=.* none of them pays for pairs.* Add pair_word"):
        rubric(pairs=0.5, rewards=["format", "regression"])
    assert rubric(pairs=0.5, rewards=["format,pair_order=2"]) == {"format": 1, "pair_order": 2}
    with pytest.raises(ValueError, match=r"val_pairs=1\.0 with val_labels=None"):
        grpo_lsvq.GRPOArguments(model="", **labels, val_pairs=1.0)
    with pytest.raises(ValueError, match="val_rotations without val_questions"):
        grpo_lsvq.GRPOArguments(model="", **labels, val_rotations=True)


def test_the_standard_deviations_of_labels_are_brought_to_score_units(tmp_path):
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("video", "mos", "std"), ("a.mp4", 70, 15), ("b.mp4", 60, 20)])
    data = DataArguments(
        train_labels=str(tmp_path / "labels.csv"), video_root=str(tmp_path), mos_scale="linear:0,100", pairs=1.0
    )
    targets = [sample.target for sample in data.training(0) if sample.task == "compare"]
    assert [target["spread"] for target in targets] == [pytest.approx(1.0)] * 2  # 25 of 100


def test_a_reward_that_tasks_share_is_there_once():
    rubric = with_tasks(None, samples("dark", "loud"), weight=0.5)
    assert (rubric.names, rubric.weights) == (["format", "right"], [1.0, 0.5])
    assert with_tasks(None, samples("dark", "loud"), {"dark": 0.25}).weights == [1.0, 0.25]
    assert with_tasks(Rubric([Slow().right]), samples("dark")).names == ["right", "format"]  # as it was given


def test_different_rewards_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tasks, 'slow' one of them, have different rewards named 'right'"):
        with_tasks(None, samples("dark", "slow"))


def test_a_task_without_all_that_it_needs_cannot_be_made():
    class Half(Task):
        name = "half"

    with pytest.raises(TypeError, match=r"gold.*measure.*parse.*rubric.*truth"):
        Half()
