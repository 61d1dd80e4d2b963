import json
import math

import pytest

from vqathinker.cli import main
from vqathinker.data import Sample, pairs_of, read_labels, score_samples
from vqathinker.evaluation.pairs import ComparedPair, _swapped, evaluate_pairs
from vqathinker.scoring import QualityComparison, QualityScorer


def compared(better, preference):
    nothing = (math.nan, math.nan)
    found = QualityComparison("a", "b", "", preference, nothing, (), nothing, False, "ok")
    return ComparedPair(Sample("", "compare", ("a", "b"), target={"better": better}), found).right


def test_a_preference_is_right_on_the_side_of_the_better_clip():
    assert [compared("first", p) for p in (0.6, 0.5, 0.4, math.nan)] == [1, 0.5, 0, 0]
    assert [compared("second", p) for p in (0.6, 0.5, 0.4)] == [0, 0.5, 1]
    assert math.isnan(compared("similar", 0.6))
    swapped = _swapped(Sample("", "compare", ("a", "b"), target={"better": "first", "difference": 0.5}))
    assert swapped.clips == ("b", "a") and (swapped.target["better"], swapped.target["difference"]) == ("second", -0.5)


@pytest.fixture
def engine(reading_engine):
    return reading_engine(lambda text, blank: "<answer>first; 3.42; 2.87</answer>")


def test_pairs_are_measured_in_both_orders(policy, processor, engine, clip_set):
    clips = score_samples(read_labels(clip_set / "val.csv", clip_set, "identity"))
    pairs = pairs_of(clips, 6, seed=0)
    scorer = QualityScorer(policy, processor, max_new_tokens=8)
    scorer.engine = engine
    gone = Sample("gone", "compare", (clips[0].clips[0], "gone.mp4"), target={"better": "first"})
    report = evaluate_pairs(scorer, [*pairs, gone])
    different = {frozenset(pair.clips): pair for pair in pairs if len({*pair.clips}) == 2}
    assert len(report.pairs) == len(different) and report.unreadable == ("gone.mp4: no such file",)
    sure = [pair for pair in different.values() if pair.target["better"] != "similar"]
    # always `first` is right in one of two orders, and never where clips are similar
    assert report.words["compare_accuracy"] == pytest.approx(len(sure) / 2 / len(different))
    assert (report.words["compare_consistency"], report.words["compare_unparsable"]) == (0, 0)
    right = [scorer.compare(*pair.clips).preference > 0.5 for pair in sure]
    wanted = [pair.target["better"] == "first" for pair in sure]
    assert report.preference_accuracy == sum(a == b for a, b in zip(right, wanted, strict=True)) / len(sure)
    assert sum(row[-1] for row in report.by_difference) == len(different)


def test_eval_compares_pairs_of_a_label_file(monkeypatch, engine, base, clip_set, tmp_path, capsys):
    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: engine)
    where = ["--labels", clip_set / "val.csv", "--videos", clip_set, "--model", base, "--device", "cpu"]
    command = ["eval", *map(str, where), "--out", str(tmp_path / "out")]
    assert main([*command, "--pairs", "3"]) == 0
    assert "order consistency" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert found["words"]["compare_consistency"] == 0 and found["by_difference"][-1][1] is None
    for more, said in (
        (["--pairs", "0"], "--pairs 0: needs at least 1"),
        (["--pairs", "2", "--samples", "2", "--question", "?"], "--pairs with --samples, --question"),
    ):
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err
