"""Pairs for the task compare: what is known of them, in both orders, balanced and repeatable."""

import logging
import math
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from vqathinker.data import Sample, pairs_of
from vqathinker.tasks import TASKS, sample_dataset

PHI = NormalDist().cdf


def clip(name, mos=None, **target):
    return Sample(name, "score", (f"/clips/{name}",), target={"mos": mos, **target})


def rung(source, crf, mos=None):
    return clip(f"{source}{crf}", mos, ladder=source, rank=str(crf))


def test_what_a_pair_says_follows_from_mos():
    one, other = pairs_of([clip("a", 3.5), clip("b", 3.0)], 1, seed=0)
    assert {one.id, other.id} == {"a | b", "b | a"} and {one.task, other.task} == {"compare"}
    ab, ba = sorted((one, other), key=lambda sample: sample.id)
    assert ab.clips == ("/clips/a", "/clips/b") and ba.clips == ("/clips/b", "/clips/a")
    p = PHI(0.5 / (0.25 / NormalDist().inv_cdf(0.75)))  # without standard deviations 0.75 at a difference of tau
    assert ab.target == {
        "better": "first", "preference": pytest.approx(p), "spread": pytest.approx(0.25 / 0.6744897501960817),
        "mos_first": 3.5, "mos_second": 3.0, "difference": 0.5, "rank_difference": None,
    }  # fmt: skip
    assert ba.target["better"] == "second" and ba.target["preference"] == pytest.approx(1 - p)
    assert pairs_of([clip("a", 3.5, rank="gold"), clip("b", 3.0)], 1, seed=0, tau=0.6)[0].target["better"] == "similar"


def test_standard_deviations_tell_how_sure_a_label_is():
    """On the scale 0-100, 15 and 20 are 0.6 and 0.8 score units: the difference has the spread 1."""
    clips = [clip("a", 3.9, sd="15", kind="blur", severity="0.2"), clip("b", 3.0, sd="20", kind="", severity="")]
    target = next(s.target for s in pairs_of(clips, 1, seed=0, sd_factor=0.04) if s.clips[0] == "/clips/a")
    assert target["spread"] == pytest.approx(1) and target["preference"] == pytest.approx(PHI(0.9))
    assert target["better"] == "first" and (target["kind_first"], target["severity_second"]) == ("blur", "")
    assert pairs_of(clips, 1, seed=0, sd_factor=0.1)[0].target["better"] == "similar"  # Phi(0.9 / 2.5) = 0.64


def test_a_ladders_order_is_sure_and_other_clips_are_told_apart_by_mos():
    clips = [rung("a", crf) for crf in (15, 21, 27)] + [rung("b", crf, 4.5 - crf / 20) for crf in (15, 27)]
    pairs = pairs_of(clips, 50, seed=0, min_rank_difference=6)
    assert len({sample.id for sample in pairs}) == len(pairs)
    by_id = {sample.id: sample.target for sample in pairs}
    assert {"a15 | a21", "a21 | a15", "a21 | a27", "a15 | a27", "b15 | b27"} <= by_id.keys()
    assert not any(sample.id[0] != sample.id.split(" | ")[1][0] for sample in pairs)  # a has no MOS
    down, same = by_id["a15 | a21"], next(target for name, target in by_id.items() if len(set(name.split(" | "))) == 1)
    assert (down["better"], down["preference"], down["rank_difference"], down["spread"]) == ("first", 1.0, 6.0, None)
    assert by_id["a21 | a15"]["preference"] == 0.0 and by_id["a21 | a15"]["rank_difference"] == -6.0
    assert (same["better"], same["preference"], same["rank_difference"]) == ("similar", 0.5, 0.0)
    assert by_id["b15 | b27"]["difference"] == pytest.approx(0.6)
    far = pairs_of(clips, 50, seed=0, min_rank_difference=12)
    assert {"a15 | a27", "b15 | b27"} <= {sample.id for sample in far} and "a15 | a21" not in {s.id for s in far}


def test_differences_are_balanced_and_clips_come_equally_often():
    rng = np.random.default_rng(1)
    clips = [clip(f"{i:03}", float(mos)) for i, mos in enumerate(rng.normal(3, 0.7, 300).clip(1, 5))]
    pairs = pairs_of(clips, 200, seed=4)
    differences = np.abs([sample.target["difference"] for sample in pairs])
    assert len(pairs) == 400 and len({frozenset(sample.clips) for sample in pairs}) == 200
    assert np.histogram(differences, [0, 0.25, 0.5, 1, 4])[0].tolist() == [100] * 4
    assert Counter(sample.target["better"] for sample in pairs) == {"first": 150, "second": 150, "similar": 100}
    often = Counter(path for sample in pairs for path in sample.clips)
    assert len(often) > 240 and max(often.values()) <= 16
    assert pairs == pairs_of(clips, 200, seed=4) != pairs_of(clips, 200, seed=5)


def test_pairs_of_ladders_and_of_mos_come_half_and_half(caplog):
    clips = [rung(source, crf, 5 - crf / 12 - (source == "b") / 2) for source in "abcd" for crf in range(15, 40, 3)]
    pairs = pairs_of(clips, 60, seed=0)
    known = [sample.target["rank_difference"] for sample in pairs]
    assert sum(difference is None for difference in known) == 60  # both orders of 30
    ladder = Counter(abs(difference) for difference in known if difference)
    assert set(ladder) == {3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0} and set(ladder.values()) <= {6, 8}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        few = pairs_of([rung("a", 15, 4.0), rung("a", 21, 4.001), rung("a", 27, 3.0)], 9, seed=0)
    assert {frozenset(sample.clips) for sample in few} >= {frozenset(("/clips/a15", "/clips/a27"))}
    assert "1 pair of one ladder left out" in caplog.text and "9 pairs of clips asked for, but there are" in caplog.text


def test_gold_answers_of_drawn_pairs_earn_the_full_reward(processor):
    """Ladders whose rungs are far enough apart for the noise, and labels with and without standard deviations."""
    rng = np.random.default_rng(0)
    clips = [
        clip(str(i), float(mos), sd=f"{sd:.3f}")
        for i, (mos, sd) in enumerate(rng.uniform(1, 1.9, (30, 2)) * [2.5, 0.5])
    ]
    clips += [clip(f"plain{i}", float(mos)) for i, mos in enumerate(rng.uniform(1, 5, 20))]
    clips += [rung("r", crf, 5 - crf / 15) for crf in (15, 30, 45)]
    samples = pairs_of(clips, 80, seed=0)
    task = TASKS["compare"]
    dataset = sample_dataset(samples, processor)
    table = task.rubric().score(
        [task.gold(sample, np.random.default_rng(0)) for sample in samples],
        video_id=dataset["sample_id"],
        **{name: dataset[name] for name in dataset.column_names if name not in ("prompt", "sample_id")},
        mos=[None] * len(samples),
    )
    assert all(value == 1 for name in ("format", "pair_word", "pair_agreement") for value in table.rewards[name])
    assert min(table.rewards["pair_order"]) > 0.999


@pytest.mark.parametrize(
    ("clips", "settings", "message"),
    [
        ([clip("a", 3.0)], {}, "1 clip, but no two to compare"),
        ([clip("a"), clip("b")], {}, "no two to compare"),
        ([rung("a", 15), rung("a", 18)], {"min_rank_difference": 6}, "min_rank_difference=6"),
        ([clip("a", 3.0), clip("b", 4.0)], {"count": 0}, "count=0: must be above 0"),
        ([clip("a", 3.0), clip("b", 4.0)], {"tau": math.nan}, "tau=nan: must be above 0"),
        ([clip("a", 3.0, difference="1")], {}, r"label columns \['difference'\]"),
        ([clip("a", 3.0, std="x")], {}, "sample 'a': a standard deviation 'x' is not a number"),
        ([clip("a", 3.0, std="1", sd="2")], {}, r"standard deviations \[2.0, 1.0\]: give one"),
        ([clip("a", 3.0, ladder="", rank="15")], {}, "ladder=None and rank=15.0: an order needs both"),
        ([Sample("q", "choice", ("a",))], {}, "pairs are made of single clips to be scored"),
    ],
)
def test_what_cannot_be_paired_is_refused(clips, settings, message):
    with pytest.raises(ValueError, match=message):
        pairs_of(clips, **({"count": 4, "seed": 0} | settings))
