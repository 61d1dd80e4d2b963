"""Follow-up questions: what the next prompt holds of what was said before."""

import re

import pytest

from vqathinker.policy.prompts import INSTRUCTION
from vqathinker.scoring import QualityScorer
from vqathinker.scoring.conversation import Turn, ask_again, turn_of
from vqathinker.synth import tiny_policy

ANSWERS = {
    "Is it sharp?": "<think>I see blur.</think><answer>no</answer>",
    "Why?": "<think>Edges are soft.</think><answer>the focus is off</answer>",
    "Which fault?": "<think>Soft.</think><answer>Blur</answer>",
}


@pytest.fixture
def scorer(policy, processor, reading_engine):
    """Answers the last question of a prompt."""
    scorer = QualityScorer(policy, processor)
    asked = re.compile("|".join(map(re.escape, ANSWERS)))
    scorer.engine = reading_engine(lambda text, blank: ANSWERS[asked.findall(text)[-1]])
    return scorer


def test_each_question_is_asked_behind_all_that_was_said(scorer, frames):
    clip, turns = scorer.load(frames), []
    for question, options in (("Is it sharp?", None), ("Why?", None), ("Which fault?", ["Blur", "Noise"])):
        answer = ask_again(scorer, clip, turns, question, options)
        turns.append(turn_of(answer))
    assert (answer.answer, answer.letter, answer.status) == ("Blur", "A", "ok")
    assert [turn.answer for turn in turns] == list(ANSWERS.values())
    said = scorer.engine.asked[-1][0]
    want = []
    for turn in turns:
        want += ["user", f"{turn.question} {INSTRUCTION}", "assistant", turn.answer]
    places = [said.index(text) for text in want[1:-1:2]]
    assert places == sorted(places) and said.rstrip().endswith("assistant")
    assert said.count(INSTRUCTION) == 3 and said.count("Now you will receive a video:") == 1
    assert "Which fault?\nA. Blur\nB. Noise\nAnswer with one option." in said
    assert ANSWERS["Which fault?"] not in said


def test_without_a_conversation_it_is_an_ordinary_question(policy, processor, frames):
    scorer = QualityScorer(policy, processor, max_new_tokens=12)
    assert (
        ask_again(scorer, scorer.load(frames), [], "Is it sharp?").answers == scorer.ask(frames, "Is it sharp?").answers
    )


def test_a_policy_with_a_motion_token_per_frame_is_asked(frames):
    scorer = QualityScorer(*tiny_policy(pathway="fast"), max_new_tokens=12)
    clip = scorer.load(frames)
    answer = ask_again(scorer, clip, [], "Is it sharp?")
    assert answer.answers == scorer.ask(frames, "Is it sharp?").answers
    assert ask_again(scorer, clip, [turn_of(answer)], "Why?").question == "Why?"


def test_a_conversation_that_the_policy_cannot_read_is_refused(scorer, frames):
    turns = [Turn("Is it sharp?", "<think>I see blur.</think><answer>no</answer>")] * 40
    with pytest.raises(ValueError, match=r"grown to \d{4} tokens, and the policy reads 2048: start a new one"):
        ask_again(scorer, scorer.load(frames), turns, "Why?")
    with pytest.raises(ValueError, match="must be a non-empty string: write the question"):
        ask_again(scorer, scorer.load(frames), [], " ")
