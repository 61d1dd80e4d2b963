import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vqathinker.data import LabelRow
from vqathinker.evaluation import Prediction, plcc, predict, srcc, summarize
from vqathinker.evaluation.plots import plot_rewards, plot_scatter

lists = st.lists(st.floats(1, 5), min_size=3, max_size=20, unique=True)


@given(lists, st.randoms())
def test_correlations_are_scipys(values, chance):
    other = [v + chance.random() for v in values]
    assert srcc(values, other) == pytest.approx(stats.spearmanr(values, other).statistic)
    assert plcc(values, other) == pytest.approx(stats.pearsonr(values, other).statistic)


def test_undefined_correlations_are_nan():
    assert math.isnan(srcc([1, 1, 1], [1, 2, 3])) and math.isnan(plcc([1], [2])) and math.isnan(srcc([], []))
    with pytest.raises(ValueError, match="one score per label"):
        srcc([1, 2], [1])


def answer(score):
    return f"<think>a</think><answer>{score}</answer>"


def test_summary_counts_failures_and_guesses_nothing():
    rows = [LabelRow(f"{i}.mp4", f"{i}.mp4", float(i)) for i in range(1, 5)]
    predictions = [
        Prediction("1.mp4", (answer(1.5), answer(4), "?"), True),
        Prediction("2.mp4", ("?", answer(3), answer(1)), True),
        Prediction("3.mp4", (answer(2.5), answer(2), answer(4)), True),
        Prediction("4.mp4", (), True, error="torn"),
    ]
    summary = summarize(predictions, rows)
    assert summary.srcc == pytest.approx(1) and summary.num_clips == 4 and summary.num_unreadable == 1
    assert summary.srcc_sample == pytest.approx(-1)
    assert summary.srcc_mean4 == srcc([4, 2, 3], [1, 2, 3])
    assert summary.parse_rate == pytest.approx(5 / 6)


def test_the_first_answer_block_counts_in_evaluation():
    assert Prediction("x", (answer(2) + answer(4),), True).parsed[0].score == 2


def test_predictions_keep_order_and_name_bad_files(policy, processor, train_rows, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    videos = [train_rows[0].video, str(bad), train_rows[1].video, train_rows[2].video]
    predictions = predict(policy, processor, videos, samples=2, max_new_tokens=6, batch_size=2)
    assert [p.video for p in predictions] == videos
    assert "empty" in predictions[1].error and predictions[1].answers == ()
    assert [len(p.answers) for p in predictions] == [3, 0, 3, 3]
    again = predict(policy, processor, videos[::-1], max_new_tokens=6, batch_size=3)
    assert [p.answers[:1] for p in again[::-1]] == [p.answers[:1] for p in predictions]


def test_plots_are_written(tmp_path):
    history = [{"step": s, "reward": s, "rewards/rank/mean": s / 2, "val/srcc": s / 10} for s in range(3)]
    plot_rewards([*history, {"step": 3, "train_runtime": 1}], tmp_path / "a.png")
    plot_scatter({"base": ([1, 2], [math.nan, 2]), "grpo": ([1, 2], [1, 2])}, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        assert data[:4].tobytes() == b"\x89PNG" and len(data) > 5000
