import math

import pytest
import torch

from vqathinker import QualityScorer
from vqathinker.clips import ClipError
from vqathinker.data import Sample
from vqathinker.rollout import Completion, Sampling
from vqathinker.rollout.factory import QUESTION_TOKENS, _model_length
from vqathinker.scoring.asking import QUESTIONS, _chunks, answer_of, question_sample
from vqathinker.scoring.predict import encode_clips

FAULTS = ["Blur", "Noise", "Freezing"]


def said(answer, reason="soft"):
    return f"<think> {reason} </think><answer>{answer}</answer>"


@pytest.fixture
def videos(train_rows):
    return [row.video for row in train_rows[:4]]


def flat(batches):
    return [answer for batch in batches for answer in batch]


def asked_about(videos):
    samples = [question_sample(video, "Which fault?", FAULTS) for video in videos]
    return samples + [question_sample(video, "What do you see?") for video in videos]


def test_an_option_is_chosen_and_the_prompt_is_the_tasks(policy, processor, reading_engine, videos, frames):
    scorer = QualityScorer(policy, processor, max_new_tokens=8)
    scorer.engine = reading_engine(lambda text, blank: said("(b)"))
    result = scorer.ask(videos[0], " Which fault? ", FAULTS)
    assert (result.answer, result.letter, result.index, result.status) == ("Noise", "B", 1, "ok")
    assert (result.video, result.question, result.options) == (videos[0], "Which fault?", tuple(FAULTS))
    assert result.parsed and result.reasoning == "soft" and math.isnan(result.agreement) and len(result.answers) == 1
    [(text, blank)] = scorer.engine.asked
    assert "Which fault?\nA. Blur\nB. Noise\nC. Freezing\nAnswer with one option." in text and not blank
    assert scorer.ask(torch.from_numpy(frames), "Which fault?", FAULTS).video == ""


def test_without_options_the_policy_answers_in_its_own_words(policy, processor, reading_engine, videos):
    scorer = QualityScorer(policy, processor, max_new_tokens=8)
    scorer.engine = reading_engine(lambda text, blank: "<answer>x</answer>" + said(" Blurry faces "))
    result = scorer.ask(videos[0], "What is wrong?")
    assert (result.answer, result.letter, result.index, result.options) == ("Blurry faces", "", None, ())
    assert "What is wrong? First output the thinking process" in scorer.engine.asked[0][0]
    scorer.engine = reading_engine(lambda text, blank: said(" "))
    assert (scorer.ask(videos[0], "What is wrong?").status, scorer.ask(videos[0], "What?").answer) == ("no_answer", "")


@pytest.mark.parametrize(
    ("texts", "answer", "agreement", "status", "reasoning"),
    [
        ([said("A", "one"), said("B", "two"), said("noise", "three")], "Noise", 2 / 3, "ok", "two"),
        ([said("A", "one"), said("B", "two")], "Blur", 0.5, "ok", "one"),  # of equally many the first
        (["?", said("what"), said("C", "late"), "?"], "Freezing", 0.25, "ok", "late"),
        ([said("Z"), "?"], "", math.nan, "out_of_range", "soft"),
    ],
)
def test_most_of_the_samples_decide(texts, answer, agreement, status, reasoning):
    result = answer_of(question_sample("a.mp4", "Which?", FAULTS), texts)
    assert (result.answer, result.status, result.reasoning) == (answer, status, reasoning)
    assert result.agreement == pytest.approx(agreement, nan_ok=True)


def test_free_answers_that_differ_in_case_and_spaces_only_are_one():
    result = answer_of(question_sample("a.mp4", "What?"), [said("fog"), said("Blurry  faces"), said("blurry faces")])
    assert (result.answer, result.agreement) == ("Blurry  faces", pytest.approx(2 / 3))


@pytest.mark.parametrize("samples", [0, 2])
def test_an_answer_does_not_depend_on_what_else_is_asked(policy, processor, videos, samples):
    hot = Sampling(8, temperature=1.5, top_k=0)
    scorer = QualityScorer(policy, processor, samples=samples, max_new_tokens=8, sampling=hot, batch_size=2)
    asked = asked_about(videos)
    together = flat(scorer.ask_many(asked))
    torch.manual_seed(7)  # the global generator has no say
    assert flat(scorer.ask_many(asked[::-1]))[::-1] == together
    assert scorer.ask(videos[1], "Which fault?", FAULTS) == together[1]
    if samples:
        assert together[0].answers != together[4].answers  # another question draws anew
        assert all(len(set(result.answers)) == 2 for result in together)


def test_each_clip_of_a_batch_is_decoded_and_encoded_once(policy, processor, videos, monkeypatch, tmp_path):
    scorer = QualityScorer(policy, processor, max_new_tokens=1, batch_size=2)
    decoded, encoded = [], []
    load, encode = processor.load_clip, policy.encode
    monkeypatch.setattr(processor, "load_clip", lambda video: decoded.append(str(video)) or load(video))
    monkeypatch.setattr(policy, "encode", lambda **visual: encoded.append(1) or encode(**visual))
    gone = str(tmp_path / "gone.mp4")
    asked = sorted(asked_about([*videos, gone]), key=lambda sample: sample.clips)
    batches = list(scorer.ask_many(asked))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(decoded) == sorted([*videos, gone]) and len(encoded) == 4
    lost = [answer for answer in flat(batches) if answer.status == "unreadable"]
    assert [(one.video, one.answer, one.answers) for one in lost] == [(gone, "", ())] * 2 and "no such file" in lost[
        0
    ].error


def test_a_question_about_two_clips_shows_both_and_encodes_each_once(policy, processor, videos, monkeypatch, tmp_path):
    scorer = QualityScorer(policy, processor, max_new_tokens=6, batch_size=2)
    encoded, encode = [], policy.encode
    monkeypatch.setattr(policy, "encode", lambda **visual: encoded.append(1) or encode(**visual))
    pairs = [(videos[0], videos[1]), (videos[1], videos[0])]
    samples = [question_sample(pair, "Which is sharper?", FAULTS) for pair in pairs]
    there, _ = flat(scorer.ask_many(samples))
    assert there.video == f"{videos[0]} + {videos[1]}" and len(encoded) == 2
    assert scorer.ask(pairs[0], "Which is sharper?", FAULTS) == there
    pair = scorer_prompts(scorer, monkeypatch, pairs[0])
    both = torch.cat([features["spatial"].flatten(0, -2) for features in map_features(scorer, pairs[0])])
    places = [(pair == token).all(-1).nonzero().flatten().tolist() for token in both]
    assert all(places) and [found[0] for found in places] == sorted(found[0] for found in places)
    gone = str(tmp_path / "gone.mp4")
    [lost] = flat(scorer.ask_many([question_sample((videos[0], gone), "Which?", FAULTS)]))
    assert (lost.status, lost.answers) == ("unreadable", ()) and lost.error.startswith(f"{gone}: no such file")


def map_features(scorer, paths):
    return [encode_clips(scorer.policy, [scorer.load(path)])[0] for path in paths]


def scorer_prompts(scorer, monkeypatch, paths):
    """The prompt that the engine is given about these clips."""
    given, engine = [], scorer.answering_engine()
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda prompts, *rest: given.extend(prompts) or generate(prompts, *rest))
    scorer.ask(paths, "Which is sharper?", FAULTS)
    return given[0]


def test_a_batch_holds_few_clips_and_not_too_many_questions():
    samples = [question_sample("a.mp4", "What?")] * (QUESTIONS + 1) + [question_sample(f"{i}", "What?") for i in "bcd"]
    assert [len(chunk) for chunk in _chunks(samples, 3)] == [QUESTIONS, 3, 1]
    assert [len(chunk) for chunk in _chunks(samples, 2 * QUESTIONS)] == [len(samples)]


def test_the_read_out_that_generates_nothing_makes_an_engine_for_the_first_question(policy, processor, videos):
    levels = QualityScorer(policy, processor, readout="levels", max_new_tokens=6)
    plain = QualityScorer(policy, processor, max_new_tokens=6)
    assert levels.ask(videos[0], "Which fault?", FAULTS) == plain.ask(videos[0], "Which fault?", FAULTS)
    assert levels.engine is None and levels.answering_engine() is levels.answering_engine()


def test_what_cannot_be_asked_is_named(policy, processor, videos, tmp_path):
    scorer = QualityScorer(policy, processor, max_new_tokens=2)
    for question, options, said in [
        (" ", None, "question ' ' must be a non-empty string"),
        ("Which?", ["Blur"], "a question needs 2 to 26 options"),
        ("Which?", ["Blur", "blur"], "must differ in more than case"),
        ("Which?", "Blur", "must be a list"),
    ]:
        with pytest.raises(ValueError, match=said):
            scorer.ask(videos[0], question, options)
    with pytest.raises(ClipError, match="no such file"):
        scorer.ask(tmp_path / "gone.mp4", "What?")
    with pytest.raises(ValueError, match="sample 'x' has the task 'choice' and no options"):
        next(scorer.ask_many([Sample("x", "choice", ("a.mp4",), "Which?")]))


def test_a_prompt_that_does_not_fit_into_what_vllm_reserved_is_named(policy, processor, videos):
    class Reserved:
        max_model_length = 300

        def generate(self, prompts, n, sampling, seeds=None):
            return [[Completion([])] for _ in prompts]

    scorer = QualityScorer(policy, processor, max_new_tokens=20)
    scorer.engine = Reserved()
    assert scorer.ask(videos[0], "What?").status == "no_answer"
    with pytest.raises(ValueError, match=r"question 'far far.*prompt of \d+ tokens and an answer of up to 20 must fit"):
        scorer.ask(videos[0], "far " * 300)


def test_vllm_reserves_room_for_questions_as_far_as_the_policy_has_positions(policy):
    limit = policy.config.get_text_config().max_position_embeddings
    assert _model_length(policy, 100) == 100 + QUESTION_TOKENS
    assert _model_length(policy, limit - 10) == limit and _model_length(policy, limit + 10) == limit + 10
