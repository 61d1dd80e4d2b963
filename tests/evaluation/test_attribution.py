import json
import math
import shutil

import numpy as np
import pytest

from vqathinker.data import BenchmarkSet, LabelRow
from vqathinker.evaluation.attribution import attribution_of
from vqathinker.evaluation.benchmark import run_benchmarks
from vqathinker.metrics.attribution import attribute

TRUTHS = [{"blur": 0.5}, {"blur": 0.9, "frame_drop": 0.1}, {}, {"noise": 0.3}]
NAMED = [{"blur": "moderate"}, {"blur": "slight", "noise": None}, {"blur": "severe"}, {"noise": "strong"}]


def test_the_numbers_are_those_by_hand():
    found = attribute(NAMED, TRUTHS)
    blur, noise, drop = (found.faults[name] for name in ("blur", "noise", "frame drop"))
    assert (blur.clips, blur.named, blur.precision, blur.recall) == (2, 3, pytest.approx(2 / 3), 1.0)
    assert blur.f1 == pytest.approx(0.8) and blur.balanced_accuracy == 0.75
    assert blur.degree == 0.5  # "slight" for 0.9 is three levels off
    assert (noise.clips, noise.named, noise.precision, noise.recall) == (1, 2, 0.5, 1.0)
    assert noise.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2) and noise.degree == 0.0  # two levels off
    assert (drop.clips, drop.named, drop.recall, drop.f1, drop.balanced_accuracy) == (1, 0, 0.0, 0.0, 0.5)
    assert math.isnan(drop.precision) and math.isnan(drop.degree)
    assert found.mean.precision == pytest.approx((2 / 3 + 0.5) / 2) and found.mean.recall == pytest.approx(2 / 3)
    assert (found.mean.clips, found.mean.named, found.exact, found.num_clips) == (4, 5, 0.5, 4)


def test_a_constant_answer_has_a_balanced_accuracy_of_one_half():
    rng = np.random.default_rng(0)
    truths = [{"blur": 0.5} if rng.random() < 0.2 else {} for _ in range(50)]
    for said in ({"blur": None}, {}):
        assert attribute([said] * 50, truths).faults["blur"].balanced_accuracy == 0.5


def test_bad_lengths_are_refused():
    with pytest.raises(ValueError, match="named has 1 entries, truths 2"):
        attribute([{}], [{}, {}])


def test_only_labelled_clips_with_answers_count():
    rows = [
        LabelRow(f"{i}.mp4", f"{i}.mp4", 3.0, {"kind": kind, "severity": s})
        for i, (kind, s) in enumerate([("blur", "0.5"), ("", "0"), ("noise", "0.5"), ("banding", "0.4")])
    ]
    said = ["moderate blur", "no blur, some noise", "", "no banding"]
    scored = [{"reasoning": text, "num_answers": int(place != 2)} for place, text in enumerate(said)]
    found = attribution_of(rows, scored)
    assert found.num_clips == 3 and found.faults.keys() == {"blur", "noise", "banding"}
    assert found.faults["blur"].f1 == 1 and found.faults["noise"].clips == 0 and found.faults["banding"].recall == 0
    assert attribution_of(rows, [{"reasoning": "", "num_answers": 0}] * 4) is None
    assert attribution_of([LabelRow("a", "a", 3.0)], scored[:1]) is None


def test_a_labelled_set_gets_the_table_in_all_files(scorer, clip_set, tmp_path):
    shutil.copytree(clip_set / "videos", tmp_path / "videos")
    kinds = ["blur", "blur+noise", "", "noise"]
    lines = [
        f"train/{i:05d}.mp4,{i + 1},{k},{'+'.join('0.5' for _ in k.split('+')) if k else 0}"
        for i, k in enumerate(kinds)
    ]
    (tmp_path / "a.csv").write_text("video,mos,kind,severity\n" + "\n".join(lines) + "\n")
    scorer.engine.say = lambda seed: "<think>There is moderate blur and no noise.</think><answer>3.00</answer>"
    one = BenchmarkSet("mine", "Mine", "", tmp_path / "a.csv", tmp_path / "videos")
    [result] = run_benchmarks(scorer, [one], [], tmp_path / "out", "vqathinker eval")
    blur, noise = result.attribution.faults["blur"], result.attribution.faults["noise"]
    assert (blur.precision, blur.recall, blur.balanced_accuracy, blur.degree) == (0.5, 1.0, 0.5, 1.0)
    assert (noise.recall, noise.balanced_accuracy, result.attribution.exact) == (0.0, 0.5, 0.25)
    [entry] = json.loads((tmp_path / "out/results.json").read_text())["sets"]
    assert entry["attribution"]["faults"]["blur"]["f1"] == pytest.approx(2 / 3)
    assert entry["attribution"]["faults"]["noise"]["precision"] is None
    for name in ("results.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "Faults named: Mine" in text and "Exactly the right faults: 0.250 of 4 clips." in text
