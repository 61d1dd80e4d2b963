import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import parse_answer, text_of


@pytest.mark.parametrize(
    ("text", "score", "status"),
    [
        ("<think>ok</think><answer>3.42</answer>", 3.42, "ok"),
        ("<answer> I would say 4 out of 5 </answer>", 4.0, "ok"),
        ("<answer>1</answer> no, <answer>2.5</answer>", 2.5, "ok"),
        ("<answer>1e0</answer>", 1.0, "ok"),
        ("<answer>7.5</answer>", 7.5, "out_of_range"),
        ("<answer>-1</answer>", -1.0, "out_of_range"),
        ("<answer>nan</answer>", None, "no_number"),
        ("<answer>inf</answer>", None, "no_number"),
        ("<answer>1e999</answer>", None, "no_number"),
        ("<answer>" + "9" * 400 + "</answer>", None, "no_number"),
        ("<answer></answer>", None, "no_number"),
        ("<answer>3.4", None, "no_answer"),
        ("the quality is 3.4", None, "no_answer"),
        ("", None, "no_answer"),
        ("<answer>\u0663</answer>", None, "no_number"),
    ],
)
def test_first_number_of_the_last_answer_block(text, score, status):
    parsed = parse_answer(text)
    assert (parsed.score, parsed.status) == (score, status)


def test_first_block_on_request():
    assert parse_answer("<answer>1</answer><answer>2</answer>", which="first").score == 1.0
    with pytest.raises(ValueError, match="'middle'"):
        parse_answer("", which="middle")


@pytest.mark.parametrize(("text", "decimals"), [("3.50", 1), ("3.55", 2), ("4.00", 0), ("4", 0), ("3.125", 3)])
def test_decimals_without_trailing_zeros(text, decimals):
    assert parse_answer(f"<answer>{text}</answer>").decimals == decimals


@given(st.floats(1, 5))
def test_any_score_in_range_comes_back(score):
    assert parse_answer(f"<think>x</think><answer>{score:.2f}</answer>").score == float(f"{score:.2f}")


@given(st.text(alphabet="<>/answerthinkd .0123456789e-+\n", max_size=300))
def test_never_raises_and_never_returns_a_non_finite_number(text):
    score = parse_answer(text).score
    assert score is None or abs(score) < 1e32


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "<answer>1", "9", "1e", "-", "<answer></answer>"])
def test_time_is_linear_in_the_text(piece):
    start = time.perf_counter()
    parse_answer(piece * 200_000)
    assert time.perf_counter() - start < 2  # quadratic behaviour would take minutes


def test_text_of_messages():
    assert text_of([{"role": "assistant", "content": "hi"}]) == "hi"
    assert (
        text_of([{"role": "assistant", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}])
        == "hi"
    )
    with pytest.raises(TypeError, match="int"):
        text_of(3)
