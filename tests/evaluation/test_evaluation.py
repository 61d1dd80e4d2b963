import math
import zlib

import numpy as np
import pytest

from perturb import MODES
from vqathinker.clips import write_video
from vqathinker.data import LabelRow
from vqathinker.evaluation import (
    naming_accuracy,
    sensitivity_table,
    srcc,
    summarize,
    temporal_preference,
    temporal_sensitivity,
)
from vqathinker.evaluation.plots import plot_rewards, plot_scatter
from vqathinker.evaluation.temporal import COPIES
from vqathinker.rollout import Sampling
from vqathinker.scoring import Prediction, predict


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
    assert summary.srcc_sample == pytest.approx(0)  # -1 for the first sample, 1 for the second
    assert summary.srcc_mean4 == srcc([4, 2, 3], [1, 2, 3])
    assert summary.parse_rate == pytest.approx(5 / 6)


def test_a_slip_beyond_the_scale_is_a_failure_not_a_score():
    rows = [LabelRow("", str(i), float(i)) for i in (1, 2)]
    predictions = [Prediction("", (answer(1), answer(33.1), answer(1.2)), True), Prediction("", (answer(2),) * 3, True)]
    summary = summarize(predictions, rows)
    assert summary.parse_rate == 3 / 4 and summary.srcc_mean4 == pytest.approx(1)
    assert math.isnan(predictions[0].scores[1])


def test_summary_tells_of_collapse_and_of_what_is_named():
    truths = [("blur", "0.4"), ("noise", "0.9"), ("blur+noise", "0.2+0.3"), ("frame_drop", "0.5"), ("", "")]
    texts = ["slight blur", "slight noise and blur", "noise", "strong frame drop late", "?"]
    rows = [LabelRow("", str(i), float(i), {"kind": k, "severity": s}) for i, (k, s) in enumerate(truths)]
    scores = [2, 2, 2, 4, 4]
    predictions = [
        Prediction("", (f"<think>{text}</think><answer>{score}</answer>",), True)
        for text, score in zip(texts, scores, strict=True)
    ]
    summary = summarize(predictions, rows)
    assert summary.naming == pytest.approx(2 / 3)  # of three clips with one distortion
    assert summary.common_score == 3 / 5 and summary.spread == pytest.approx(np.std(scores) / np.std(range(5)))
    unlabelled = [LabelRow("", str(i), float(i)) for i in range(5)]
    assert math.isnan(naming_accuracy(predictions, unlabelled))
    nothing = summarize([Prediction("", ("?",), True)], unlabelled[:1])
    assert math.isnan(nothing.spread) and math.isnan(nothing.common_score)


def test_temporal_preference_compares_each_clip_with_its_own_copies(
    policy, processor, train_rows, tmp_path, monkeypatch, caplog
):
    shown = {}

    def answers(policy, processor, clips, samples, greedy, sampling):
        shown.update(clips)
        scores = {"shuffle": 2.0, "stutter": 3.0, "drop": 4.0}
        texts = {key: answer(scores.get(key[1], 3.0)) for key in clips}
        return {key: Prediction(str(key), (text,) * samples, greedy) for key, text in texts.items()}

    monkeypatch.setattr("vqathinker.evaluation.temporal.answer_clips", answers)
    videos = [train_rows[0].video, str(tmp_path / "gone.mp4"), train_rows[1].video]
    found = temporal_preference(policy, processor, videos, samples=2, batch_size=2)
    assert [(p.wins, p.ties, p.margin, p.num_clips) for p in found.values()] == [
        (1.0, 0.0, 1.0, 2), (0.0, 1.0, 0.0, 2), (0.0, 0.0, -1.0, 2)
    ]  # fmt: skip
    assert sorted(name for video, name in shown if video == videos[0]) == ["drop", "original", "shuffle", "stutter"]
    assert not shown[videos[0], "shuffle"].frames.equal(shown[videos[0], "original"].frames)
    assert math.isnan(temporal_preference(policy, processor, videos[1:2])["drop"].wins)
    write_video(tmp_path / "short.mp4", np.zeros((2, 96, 96, 3), np.uint8))
    with caplog.at_level("WARNING"):
        assert temporal_preference(policy, processor, [str(tmp_path / "short.mp4")])["drop"].num_clips == 0
    assert "a clip of 2 frames is too short" in caplog.text


def test_temporal_copies_are_as_long_as_their_originals():
    for name, order in COPIES.items():
        copy = order(36, np.random.default_rng(0))
        repeats, skips = (np.diff(copy) == 0).sum(), (np.diff(copy) > 1).sum()
        told = {
            "shuffle": sorted(copy) == list(range(24)),
            "stutter": repeats == 8,
            "drop": skips == 2 and copy[-1] == 35,
        }
        assert len(copy) == 24 and told[name], name


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 6, 24])
def test_temporal_copies_differ_from_the_original_or_the_clip_is_left_out(num_frames):
    for name, order in COPIES.items():
        if num_frames < 3:
            with pytest.raises(ValueError, match=f"{num_frames} frames is too short"):
                order(num_frames, np.random.default_rng(0))
            continue
        copy = order(num_frames, np.random.default_rng(0)).tolist()
        assert copy != list(range(num_frames - num_frames // 3)) and max(copy) < num_frames, name


def test_the_first_answer_block_counts_in_evaluation():
    assert Prediction("x", (answer(2) + answer(4),), True).parsed[0].score == 2


def test_predictions_keep_order_and_name_bad_files(policy, processor, train_rows, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    videos = [train_rows[0].video, str(bad), train_rows[1].video, train_rows[2].video]
    predictions = predict(policy, processor, videos, samples=2, sampling=Sampling(6), batch_size=2)
    assert [p.video for p in predictions] == videos
    assert "empty" in predictions[1].error and predictions[1].answers == ()
    assert [len(p.answers) for p in predictions] == [3, 0, 3, 3]
    again = predict(policy, processor, videos[::-1], sampling=Sampling(6), batch_size=3)
    assert [p.answers[:1] for p in again[::-1]] == [p.answers[:1] for p in predictions]


def test_plots_are_written(tmp_path):
    history = [{"step": s, "reward": s, "rewards/rank/mean": s / 2, "eval_srcc": s / 10} for s in range(3)]
    plot_rewards([*history, {"step": 3, "train_runtime": 1}], tmp_path / "a.png")
    plot_scatter({"base": ([1, 2], [math.nan, 2]), "grpo": ([1, 2], [1, 2])}, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        assert data[:4].tobytes() == b"\x89PNG" and len(data) > 5000


def test_temporal_sensitivity_tries_the_six_perturbations_of_training(scorer, score_of, train_rows, tmp_path):
    videos = [train_rows[0].video, str(tmp_path / "gone.mp4"), train_rows[1].video]
    found = temporal_sensitivity(scorer, videos)
    assert list(found) == list(MODES) and all(result.num_clips == 2 for result in found.values())
    shuffled, original = MODES["reverse"], [score_of(video) for video in videos[::2]]
    margins = []
    for video, score in zip(videos[::2], original, strict=True):
        clip = scorer.processor.load_clip(video)
        frame_map = shuffled(len(clip.frames), np.random.default_rng(0))
        copy = 1 + zlib.crc32(frame_map.apply(clip.frames).numpy()) % 400 / 100
        margins.append(round(score, 2) - round(copy, 2))
    assert found["reverse"].margin == pytest.approx(np.mean(margins))
    assert found["reverse"].wins == np.mean(np.array(margins) > 0)
    assert [row[0] for row in sensitivity_table(found).rows][:2] == ["global shuffle", "local shuffle"]
