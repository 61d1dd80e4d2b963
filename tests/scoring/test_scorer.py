import math

import numpy as np
import pytest
import torch

from vqathinker import QualityScorer
from vqathinker.clips import ClipError
from vqathinker.rollout import Completion, Sampling
from vqathinker.scoring import create_metric, list_models, score_files


class Canned:
    """Answers with given texts, the same to every clip; a callable makes them from the clip's seed."""

    def __init__(self, tokenizer, *texts):
        self.tokenizer, self.texts = tokenizer, texts

    def generate(self, prompts, n, sampling, seeds=None):
        texts = [[text(seed) if callable(text) else text for text in self.texts] for seed in seeds]
        return [[Completion(self.tokenizer(text)["input_ids"]) for text in group] for group in texts]


def text(score):
    return f"<think> soft picture </think><answer>{score}</answer>"


@pytest.fixture
def scorer(policy, processor):
    return QualityScorer(policy, processor, max_new_tokens=12)


@pytest.fixture
def videos(train_rows):
    return [row.video for row in train_rows[:7]]


def flat(batches):
    return [result for batch in batches for result in batch]


@pytest.mark.parametrize("samples", [0, 3])
def test_a_clip_gets_the_same_answers_alone_in_any_batch_and_in_any_order(policy, processor, videos, samples):
    hot = Sampling(12, temperature=1.5, top_k=0)
    scorer = QualityScorer(policy, processor, samples=samples, max_new_tokens=12, sampling=hot, batch_size=3)
    together = flat(scorer.score_many(videos))
    assert [result.video for result in together] == videos
    torch.manual_seed(7)  # the global generator has no say
    assert flat(scorer.score_many(videos[::-1]))[::-1] == together
    assert [scorer.score(video) for video in videos] == together
    assert len({result.answers for result in together}) > (5 if samples else 0)
    if samples:
        assert all(len(set(result.answers)) == samples for result in together)
        scorer.seed = 1
        assert scorer.score(videos[0]).answers != together[0].answers


def test_read_outs_repeat_to_the_last_bit(policy, processor, videos):
    levels = QualityScorer(policy, processor, readout="levels", batch_size=3)
    alone = [levels.score(video) for video in videos]
    assert flat(levels.score_many(videos)) == alone
    assert len({result.score for result in alone}) > 1 and all(1 < result.score < 5 for result in alone)
    expected = QualityScorer(policy, processor, readout="expected", batch_size=3)
    expected.engine = Canned(processor.tokenizer, text("3.42"))
    alone = [expected.score(video) for video in videos]
    assert flat(expected.score_many(videos[::-1]))[::-1] == alone
    assert len({result.score for result in alone}) > 1 and all(1 < result.score < 5 for result in alone)


def test_a_result_says_score_spread_status_reasoning_and_frames(scorer, processor, videos):
    scorer.engine = Canned(processor.tokenizer, text("3.42"))
    result = scorer.score(videos[0])
    assert (result.score, result.status, result.parsed, result.num_parsed) == (3.42, "ok", True, 1)
    assert result.reasoning == "soft picture" and math.isnan(result.std) and result.video == videos[0]
    assert len(result.frames) == processor.num_frames and list(result.frames) == sorted(set(result.frames))


def test_samples_give_mean_and_standard_deviation_of_those_that_parse(scorer, processor, videos):
    scorer.samples, scorer.engine = 4, Canned(processor.tokenizer, "?", text("2.00"), text("4.00"), text("34.2"))
    result = scorer.score(videos[0])
    assert (result.score, result.std, result.status) == (3.0, pytest.approx(math.sqrt(2)), "ok")
    assert (result.num_parsed, len(result.answers), result.reasoning) == (2, 4, "")


@pytest.mark.parametrize(
    "answer, score",
    [
        ("0.75", 0.75),
        ("about 3.42", 3.42),
        ("5", 5.0),
        ("Frame 3 of 4: 2.10", 2.1),
        (".5", None),
        ("-1", None),
        ("<3", None),
    ],
)
def test_read_outs_agree_on_what_is_a_number(policy, processor, videos, answer, score):
    results = {}
    for readout in ("answer", "expected"):
        scorer = QualityScorer(policy, processor, readout=readout)
        scorer.engine = Canned(processor.tokenizer, text(answer))
        results[readout] = scorer.score(videos[0])
        assert results[readout].parsed == (results[readout].status == "ok")
    if score is None:  # no number from 0.00 to 5.00 as it could stand there
        assert not results["expected"].parsed
    else:
        assert results["answer"].score == score and results["expected"].parsed and 0 < results["expected"].score < 5


@pytest.mark.parametrize(
    "answer, status", [("", "no_answer"), (text("x"), "no_number"), (text("34.2"), "out_of_range")]
)
@pytest.mark.parametrize("readout", ["answer", "expected"])
def test_an_answer_without_a_number_is_nan_and_says_why(policy, processor, videos, readout, answer, status):
    scorer = QualityScorer(policy, processor, readout=readout)
    scorer.engine = Canned(processor.tokenizer, answer)
    result = scorer.score(videos[0])
    assert math.isnan(result.score) and math.isnan(result.std) and not result.parsed and result.status == status


def test_arrays_tensors_and_files_are_one(scorer, frames, videos, tmp_path):
    result = scorer.score(frames)
    assert result.video == "" and scorer.score(torch.from_numpy(frames)) == result
    with pytest.raises(ValueError, match=r"\(N, H, W, 3\)"):
        scorer.score(frames.astype(np.float32))
    with pytest.raises(ClipError, match="no such file"):
        scorer.score(tmp_path / "gone.mp4")


def test_a_bad_file_stops_nothing(scorer, videos, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    results = flat(scorer.score_many([videos[0], bad, videos[1]]))
    assert [result.status == "unreadable" for result in results] == [False, True, False]
    assert results[1].error and math.isnan(results[1].score) and results[1].video == str(bad)
    assert len(score_files(scorer, [bad], "x", progress=False)) == 1
    with pytest.raises(TypeError, match="is one path"):
        next(scorer.score_many(videos[0]))


def test_wrong_settings_are_named(policy, processor):
    for settings, said in [
        ({"readout": "median"}, "readout='median'"),
        ({"engine": "hf"}, "engine='hf'"),
        ({"samples": -1}, "samples=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"readout": "levels", "samples": 2}, "levels"),
    ]:
        with pytest.raises(ValueError, match=said):
            QualityScorer(policy, processor, **settings)


def test_the_checkpoint_says_how_long_answers_are(policy, processor):
    assert QualityScorer(policy, processor).sampling.max_new_tokens == 2048
    policy.generation_config.max_new_tokens = 24
    assert QualityScorer(policy, processor).sampling.max_new_tokens == 24
    assert QualityScorer(policy, processor, max_new_tokens=9).sampling.max_new_tokens == 9


def test_frames_and_size_can_be_those_of_the_papers_inference(base, videos):
    scorer = QualityScorer.from_pretrained(base, "cpu", num_frames=12, image_size=96, max_new_tokens=4)
    assert len(scorer.score(videos[0]).frames) == 12 and scorer.processor.image_size == 96


def test_metrics_have_pyiqas_habits(base, videos, frames):
    assert list_models() == ["vqathinker", "vqathinker-expected", "vqathinker-levels", "vqathinker-head"]
    metric = create_metric("vqathinker-levels", model=base, device="cpu")
    assert (metric.metric_name, metric.metric_mode, metric.lower_better) == ("vqathinker-levels", "NR", False)
    assert metric.score_range == "1, 5"
    scores = metric([videos[0], frames])
    assert scores.shape == (2,) and scores.dtype == torch.float32
    assert torch.equal(metric(videos[0]), scores[:1]) and ((scores > 1) & (scores < 5)).all()
    with pytest.raises(ValueError, match="'brisque' is unknown"):
        create_metric("brisque", model=base)
