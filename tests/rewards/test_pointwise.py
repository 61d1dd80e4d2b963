import math
import re
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import Format, Length, Linear, Ranking, Regression, Threshold, format_reward, gaussian_regression, text_of
from rewards.parsing import clean

OFFICIAL = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
tags = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "x", "3.4"])


@given(st.lists(tags, max_size=12).map("".join))
def test_format_equals_the_published_pattern(text):
    assert format_reward(text) == float(OFFICIAL.fullmatch(text) is not None)


def test_format_is_linear_in_the_text():
    start = time.perf_counter()
    format_reward("<think>" + "</think><answer>" * 100_000)
    format_reward("<think>" + "</think> " * 200_000 + "</answer>")
    assert time.perf_counter() - start < 2


def test_strict_format_rejects_a_second_answer():
    good = "<think>a</think><answer>3</answer>"
    assert format_reward(good, strict=True) == format_reward(f"\n{good}\n", strict=True) == 1.0
    assert format_reward(good + "<answer>1</answer>") == 1.0
    assert format_reward(good + "<answer>1</answer>", strict=True) == 0.0


PAID = "<think>a</think><answer>3</answer>"
ENDS = [
    "<|im_end|>",
    "<|im_end|>\n",
    "<|eot_id|>",
    "</s>",
    "<|im_end|><|endoftext|><|endoftext|>",
    "<end_of_turn>\n<eos>",
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_end_of_turn_tokens_are_no_part_of_an_answer(end, strict):
    reward = Format(strict)
    message = [{"role": "assistant", "content": PAID + end}]
    assert reward([PAID + end, message]) == [1.0, 1.0]
    for text in (
        f"{PAID} bye{end}",
        f"{PAID}{end} bye",
        f"{PAID}{end}<answer>",
        f"{end}{PAID}",
        f"{PAID}{end.strip()[:-1]}",
    ):
        assert reward([text]) == [0.0]  # words after </answer> cost the reward, with a token or without
    assert reward([f"{PAID}\n{end}"]) == reward([f"{PAID}\n"])  # the paper's pattern wants no space there
    assert Length(1, 1)([PAID + end]) == [1.0]


@given(st.lists(tags, max_size=12).map("".join))
def test_an_answer_without_end_of_turn_tokens_stays_as_it_is(text):
    assert clean(text) == text_of(text) == text


def test_end_of_turn_tokens_are_found_in_linear_time():
    start = time.perf_counter()
    for text in ("</s>" * 100_000, "</s> " * 100_000 + "x", " " * 500_000, "<" * 500_000):
        clean(text)
    assert time.perf_counter() - start < 2


@given(st.floats(1, 5), st.floats(1, 5), st.floats(0.1, 1), st.floats(0.1, 2))
def test_regression_is_the_bell_of_equation_5(score, mos, alpha, sigma):
    value = gaussian_regression(score, mos, alpha, sigma)
    assert math.isclose(value, alpha * math.exp(-((score - mos) ** 2) / (2 * sigma**2)))
    assert 0 <= value <= alpha


def test_regression_leaves_out_what_cannot_be_scored():
    answers = ["<answer>3.25</answer>", "no", "<answer>0.5</answer>", "<answer>3.25</answer>"]
    assert Regression()(answers, mos=[3.25, 3, 3, None]) == [1.0, None, None, None]
    assert Regression(allow_out_of_range=True)(answers, mos=[3.25, 3, 0.5, None]) == [1.0, None, 1.0, None]


@pytest.mark.parametrize(("answer", "factor"), [("3.50", 0.8), ("3.55", 1.0), ("3", 0.8), ("3.125", 1.0)])
def test_decimal_penalty_of_the_published_code(answer, factor):
    value = Regression(decimal_penalty=0.8)([f"<answer>{answer}</answer>"], mos=[float(answer)])
    assert value == [factor]


def test_the_designs_that_the_papers_compare_with():
    answers = ["<answer>3.0</answer>", "<answer>5</answer>", "-"]
    assert Threshold(0.35)(answers, mos=[3.3, 3.3, 3.3]) == [1.0, 0.0, None]
    assert Linear()(answers, mos=[4.0, 1.0, 3.0]) == [0.75, 0.0, None]
    assert Length(2, 3)(["one", "one two", "a b c d"]) == [0.0, 1.0, 0.0]


def test_messages_and_strings_score_alike():
    text = "<think>a</think><answer>3.21</answer>"
    message = [{"role": "assistant", "content": text}]
    for reward in (Format(), Regression(), Threshold(), Linear(), Length()):
        assert reward([text], mos=[3.0]) == reward([message], mos=[3.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Regression(sigma=0), "sigma=0"),
        (lambda: Regression(alpha=2), "alpha=2"),
        (lambda: Regression(decimal_penalty=0), "decimal_penalty=0"),
        (lambda: Threshold(threshold=-1), "threshold=-1"),
        (lambda: Linear(span=0), "span=0"),
        (lambda: Length(5, 2), "low=5"),
        (lambda: Regression()(["x"], mos=[1, 2]), "2 entries for 1"),
        (lambda: Regression()(["x"], mos=[float("nan")]), "finite"),
        (lambda: Regression()(["x"], mos=None), "mos is missing"),
        *(
            (lambda reward=reward: reward(["x", "x"], mos=[3, 73]), r"mos\[1\]=73: labels must be on the scale")
            for reward in (Regression(), Linear(), Threshold(), partial(Ranking(), video_id=["a", "b"]))
        ),
        (lambda: Linear()(["x"], mos=[-0.1]), r"mos\[0\]=-0.1: labels must be on the scale"),
    ],
)
def test_bad_input_names_value_and_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_sample_without_a_list_is_refused():
    with pytest.raises(TypeError, match="is a single value"):
        Regression()(["x"], mos=3.0)
