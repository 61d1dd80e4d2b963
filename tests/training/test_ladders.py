"""Rungs of ladders in training: how they meet in a batch, what pays them, and what is refused."""

import math
import random
from collections import Counter

import pytest
from datasets import Dataset
from transformers import AutoProcessor
from trl.trainer.utils import RepeatSampler

import rewards
from vqathinker.data import read_ladders, score_samples
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.rollout import Completion
from vqathinker.tasks import mixture, sample_dataset
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.checks import check_ladders
from vqathinker.training.copies import wants_copy
from vqathinker.training.order import EpochSampler
from vqathinker.training.rungs import Rungs
from vqathinker.training.scores import kind_of, score_global_batch

ANSWER = "<think>a</think><answer>{:.2f}</answer>"
TEN = [15, 19, 23, 27, 31, 35, 39, 43, 47, 51]


def rungs_in(ladders, plain=0, together=2, min_difference=0.0):
    """A data set of `plain` rows and, behind them, a row for each rank of each ladder."""
    rows = [(name, rank) for name, ranks in ladders.items() for rank in ranks]
    names = {plain + i: name for i, (name, _) in enumerate(rows)}
    ranks = {plain + i: float(rank) for i, (_, rank) in enumerate(rows)}
    return Rungs(names, ranks, together, min_difference), plain + len(rows)


@pytest.mark.parametrize(
    ("ladders", "plain", "together", "min_difference", "batch"),
    [
        ({"a": TEN, "b": TEN, "c": TEN}, 30, 2, 0, 6),
        ({"a": TEN, "b": TEN, "c": TEN}, 0, 2, 8, 4),
        ({"a": TEN, "b": TEN[:7], "c": TEN[:9]}, 31, 3, 6, 8),
        ({name: TEN[:3] for name in "abcdefgh"}, 8, 2, 0, 4),  # three rungs stay together
        ({name: TEN for name in "abcdef"}, 300, 5, 4, 16),
    ],
)
def test_every_rung_meets_another_of_its_ladder_and_no_row_is_lost(ladders, plain, together, min_difference, batch):
    rungs, count = rungs_in(ladders, plain, together, min_difference)
    for seed in range(5):
        order = random.Random(seed).sample(range(count), count)
        arranged = rungs.arrange(order, batch)
        assert sorted(arranged) == list(range(count))
        assert rungs.alone(arranged, batch) == []
        whole = [arranged[i : i + batch] for i in range(0, count - batch + 1, batch)]
        pairs = sum(
            abs(rungs.ranks[i] - rungs.ranks[j]) >= max(min_difference, 1e-9)
            for rows in whole for i in rows for j in rows
            if i in rungs.ladders and rungs.ladders.get(i) == rungs.ladders.get(j)
        )  # fmt: skip
        assert pairs >= len([row for rows in whole for row in rows if row in rungs.ladders])  # each at least one
    assert rungs.arrange(order, batch) == arranged


def test_groups_come_evenly_over_the_epoch():
    rungs, count = rungs_in({f"{i}": TEN[:4] for i in range(100)}, plain=400)
    shares = []
    for seed in range(10):
        arranged = rungs.arrange(random.Random(seed).sample(range(count), count), 10)
        shares.append([sum(row in rungs.ladders for row in part) / 200 for part in (arranged[:200], arranged[-200:])])
    first, last = (sum(column) / len(column) for column in zip(*shares, strict=True))
    assert 0.42 < first < 0.58 and 0.42 < last < 0.58


def test_what_cannot_meet_is_told():
    rungs, count = rungs_in({"a": [20, 21, 22], "b": [30], "c": [20, 40]}, plain=2, min_difference=2)
    arranged = rungs.arrange(range(count), 4)
    assert sorted(arranged) == list(range(count)) and arranged[2:4] == [2, 4]  # the rungs 20 and 22
    assert rungs.alone(range(count), count) == [3, 5]  # 21 is too near to both, 30 has no other
    rungs, count = rungs_in({name: TEN[:2] for name in "abcde"})
    assert len(rungs.alone(rungs.arrange(range(count), 5), 5)) == 2  # the pair that an odd batch cuts


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_sampler_arranges_each_epoch_by_itself(shuffle):
    rungs, count = rungs_in({"a": TEN, "b": TEN}, plain=11)
    trls = RepeatSampler(range(count), 2, 6, 2, shuffle=shuffle, seed=5)
    plain, ours = EpochSampler.like(trls), EpochSampler.like(trls)
    ours.arrange = rungs.arrange
    epochs = {}
    for epoch in (1, 0, 1):
        for sampler in (plain, ours):
            sampler.set_epoch(epoch)
        base, seen = list(plain), list(ours)
        assert len(seen) == len(ours) == len(base) == 31 // 6 * 6 * 2 * 2
        assert epochs.setdefault(epoch, seen) == seen  # whatever was drawn before
        assert set(Counter(seen).values()) == {4}
        batches = [seen[i : i + 12] for i in range(0, len(seen), 12)]
        assert batches[::2] == batches[1::2]  # repeated, as TRL does
        drawn = [batch[::2] for batch in batches[::2]]
        assert rungs.alone([row for rows in drawn for row in rows], 6) == []
    assert (epochs[0] != epochs[1]) == shuffle


@pytest.fixture(scope="module")
def table(clip_set):
    """A ladder table beside the clips: two ladders of four rungs, out of clips that were made for something else."""
    videos = [f"videos/train/{file.name}" for file in sorted((clip_set / "videos/train").glob("*.mp4"))[:8]]
    rows = [f"{video},{'ab'[i // 4]}/h264,{20 + 4 * (i % 4)},{'ab'[i // 4]}" for i, video in enumerate(videos)]
    (clip_set / "ladders.csv").write_text("\n".join(["video,ladder,rank,source", *rows]))
    return clip_set / "ladders.csv"


@pytest.fixture
def make_trainer(base, train_rows, table, config):
    def make(rubric, labelled=4, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        processor = AutoProcessor.from_pretrained(base)
        parts = [(read_ladders(table), 1)] + ([(score_samples(train_rows[-labelled:]), 1)] if labelled else [])
        rows = sample_dataset(mixture(parts, seed=0), processor)
        return VQAGRPOTrainer(policy, rubric, config(**changes), rows, processor)

    return make


def test_rungs_without_labels_are_trained_on_beside_labelled_clips(make_trainer, noted):
    rubric = rewards.preset("recommended").plus(noted).plus(rewards.named_rewards("order").rewards[0])
    trainer = make_trainer(rubric, scale_rewards="batch", perturbation_variant="official", beta=0)
    sampled = []
    answer = trainer._roll_out

    def roll_out(policy, rows, shown):
        answers = answer(policy, rows, shown)
        maps = trainer._perturbations[:: trainer.num_generations]
        sampled.extend((row, frame_map is not None) for row, frame_map in zip(rows, maps, strict=True))
        for i, row in enumerate(rows):  # scores to order: higher ones for lower ranks
            scores = (4.5, 4.1) if row["mos"] is not None else (5 - row["rank"] / 10, 4.9 - row["rank"] / 10)
            for k, score in enumerate(scores):
                ids = trainer.processing_class.tokenizer(ANSWER.format(score))["input_ids"]
                answers[2 * i + k] = Completion([*ids, trainer.processing_class.tokenizer.eos_token_id])
        return answers

    trainer._roll_out = roll_out
    trainer.train()
    assert len(noted.calls) == 2 and len(sampled) == 8
    for call in noted.calls:
        rungs = [row for row in zip(call["ladder"], call["rank"], call["mos"], strict=True) if row[0] is not None]
        assert {mos for _, _, mos in rungs} <= {None}
        assert min(Counter(ladder for ladder, _, _ in set(rungs)).values()) >= 2  # none is alone
    assert all(perturbed == (row["mos"] is not None) for row, perturbed in sampled)  # no copies that nothing reads
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(math.isfinite(entry["loss"]) for entry in logged)
    assert [entry["quality/ladder_order"] for entry in logged] == [1.0, 1.0]
    assert all(entry["rewards/order/mean"] > 0.8 for entry in logged)
    assert all(entry["quality/parse_rate"] == 1 for entry in logged)


def test_a_run_may_have_ladders_alone(make_trainer):
    trainer = make_trainer(rewards.named_rewards("format,order"), labelled=0, max_steps=1, beta=0)
    order = list(trainer._get_train_sampler())
    drawn = [row for start in range(0, len(order), 16) for row in order[start : start + 8 : 2]]  # 2 answers each, twice
    assert trainer.needs_perturbed is False and sorted(drawn) == list(range(8))
    assert trainer._rungs.alone(drawn, 4) == []
    sampler = trainer._get_train_sampler()
    EpochSampler.set_epoch(sampler, 1)
    assert list(sampler) != order
    trainer.train()
    [entry] = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert math.isfinite(entry["loss"])


def test_the_run_takes_as_many_rungs_together_as_the_option_says(make_trainer):
    trainer = make_trainer([rewards.Contrast(ladders=True)], labelled=8, ladder_rungs=4, beta=0)
    order = list(trainer._get_train_sampler())
    batches = [order[start : start + 8 : 2] for start in range(0, len(order), 16)]
    assert sorted(map(sorted, batches))[:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]  # both ladders whole


def test_without_a_reward_that_compares_rungs_the_order_stays(make_trainer, base):
    trainer = make_trainer(rewards.named_rewards("format,contrast"))
    assert trainer._rungs is None
    trls = RepeatSampler(range(12), 2, 4, 2, seed=42)
    assert list(trainer._get_train_sampler()) == list(trls)


def row(video, score, ladder=None, rank=None, mos=None, **more):
    return {"completion": ANSWER.format(score), "perturbed": None, "mos": mos, "video_id": video, "prompt": "?",
            "readable": True, "ladder": ladder, "rank": rank, **more}  # fmt: skip


def test_the_share_of_pairs_in_order_is_logged_and_labels_alone_make_correlations():
    rungs = [("a20", 4.0, "a", 20.0), ("a30", 3.0, "a", 30.0), ("a40", 3.5, "a", 40.0), ("a41", 3.5, "a", 41.0)]
    rungs += [("b20", 2.0, "b", 20.0), ("b20 again", 1.0, "b", 20.0)]  # one rank: no order
    rows = [row(*rung) for rung in rungs for _ in range(2)]
    plain = [row(name, score, mos=mos) for name, score, mos in (("x", 4, 4.2), ("y", 3, 3.1), ("z", 2, 1.0))] * 2
    rubric = rewards.named_rewards("format,regression,order")
    found = score_global_batch(rubric, rows + plain)
    # in order: 20-30, 20-40, 20-41; wrong: 30-40, 30-41; a tie: 40-41
    assert found.metrics["ladder_order"] == pytest.approx((3 + 0.5) / 6)
    assert found.metrics["srcc"] == pytest.approx(score_global_batch(rubric, plain).metrics["srcc"]) == 1
    assert "ladder_order" not in score_global_batch(rubric, plain).metrics
    assert math.isnan(score_global_batch(rubric, rows[:2] + plain).metrics["ladder_order"])
    own = [row(name, score, rank=text, mos=mos) for name, score, mos, text in (("x", 4, 4.2, "1"), ("y", 3, 3.1, "B"))]
    for one in own:
        del one["ladder"]  # a column rank of somebody's own
    assert "ladder_order" not in score_global_batch(rewards.named_rewards("format,regression"), own).metrics
    rewarded = dict(zip(rubric.names, found.rewards.isnan().logical_not().sum(0).tolist(), strict=True))
    assert rewarded == {"format": 18, "regression": 6, "order": 8}


def test_rows_paid_by_other_rewards_are_kinds_of_their_own(noted):
    rung = {"task": "score", "ladder": "a", "rank": 1.0, "mos": None}
    assert kind_of(rung, True) == ("score", False, True, True) != kind_of(rung | {"mos": 3.0}, True)
    assert kind_of(rung, False) == ("score", False, False, False) == kind_of({"mos": 3.0}, True)
    temporal, own = rewards.preset("recommended").rewards[3], noted
    own.needs_perturbed = True
    assert [wants_copy(rung, [reward]) for reward in (temporal, own, rewards.Contrast(), rewards.Format())] == [
        False, True, True, False
    ]  # fmt: skip
    assert wants_copy(rung | {"mos": 3.0}, [temporal]) and wants_copy({"mos": None}, [temporal])


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({}, {}, r"the rewards \['order'\] pay for rungs of ladders, but the data set has none"),
        ({"ladder": [None] * 8, "rank": [None] * 8}, {}, "the data set has none"),
        ({"ladder": ["a"] * 8}, {}, "row 0 has ladder='a' and rank=None"),
        ({"ladder": ["a"] * 8, "rank": [1.0] * 7 + [None]}, {}, "row 7 has ladder='a' and rank=None"),
        ({"ladder": ["a"] * 8, "rank": list("12345678")}, {}, r"rank\[0\]='1': the rank of a rung must be a finite"),
        ({"ladder": ["a"] * 8, "rank": [1.0] * 8}, {}, "none of 8 rungs has another one in its ladder whose rank diff"),
        (
            {"ladder": ["a"] * 8, "rank": [*range(8)]},
            {"ladder_rungs": 5},
            r"4 clips per batch, but ladder_rungs=5 are to meet in one: lower ladder_rungs, or raise",
        ),
    ],
)
def test_what_has_no_order_to_pay_for_is_refused_at_the_start(columns, changes, message, config):
    rows = Dataset.from_dict({"video_id": [f"{i}" for i in range(8)]} | columns)
    order = rewards.Rubric([rewards.Contrast(perturbed=False, name="order")])
    with pytest.raises(ValueError, match=message):
        check_ladders(order, config(**changes), rows)
    if not changes and "none" in message and "rungs of" in message:
        assert check_ladders(rewards.Rubric([rewards.Contrast()]), config(), rows) is None  # it pays copies


def test_rungs_that_meet_no_other_are_counted(config, caplog):
    rows = Dataset.from_dict({"ladder": list("aaaaabbb"), "rank": [1.0, 2, 3, 4, 9, 1, 2, 2.5]})
    rungs = check_ladders(rewards.Rubric([rewards.Contrast(min_difference=4)]), config(), rows)
    assert rungs.min_difference == 4  # in a batch 9, 1 and two more; the fifth, and all of b, have none
    assert "4 of 8 rungs meet no other one of their ladder in a batch of 4 clips" in caplog.text


def test_fewer_than_two_rungs_are_no_order(config):
    with pytest.raises(ValueError, match="ladder_rungs=1: must be at least 2"):
        config(ladder_rungs=1)
