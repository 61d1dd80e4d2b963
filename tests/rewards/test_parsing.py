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
def test_the_number_of_the_last_answer_block(text, score, status):
    parsed = parse_answer(text)
    assert (parsed.score, parsed.status) == (score, status)


@pytest.mark.parametrize(
    ("answer", "score", "decimals"),
    [
        # a decimal comma, and what may stand around a number
        ("3,75", 3.75, 2),
        ("3,750 points", 3.75, 2),
        ("3,75 / 5,0", 3.75, 2),
        ("3\u00b775", 3.75, 2),
        ("3.75.", 3.75, 2),
        ("Hmm...3.7...", 3.7, 1),
        ("**3.7**", 3.7, 1),
        ("~3.7", 3.7, 1),
        ("$3.7$", 3.7, 1),
        ("[3.7]", 3.7, 1),
        ("<3.7>", 3.7, 1),
        ("<b>3.7</b>", 3.7, 1),
        ("\n3.7\n", 3.7, 1),
        ("3.7 stars", 3.7, 1),
        ("score=3.7", 3.7, 1),
        ("Score => 3.7", 3.7, 1),
        ("Overall\u20133.7, good", 3.7, 1),
        ("3.7 - good", 3.7, 1),
        ("a score of 5", 5.0, 0),
        ('{"score": 3.7}', 3.7, 1),
        ("4.5 ± 0.3", 4.5, 1),
        ("3.5 +/- 1.2", 3.5, 1),
        # ranges
        ("Score (1-5): 3.7", 3.7, 1),
        ("Score(1\u20135)=3.7", 3.7, 1),
        ("3.7 (1 \u2014 5)", 3.7, 1),
        ("1..5: 3.7", 3.7, 1),
        ("1~5: 3.7", 3.7, 1),
        ("1-to-5 scale: 3.7", 3.7, 1),
        ("1 through 5: 3.7", 3.7, 1),
        ("on a scale of 1 to 5: 4.2", 4.2, 1),
        ("from 1 (bad) to 5 (excellent): 4.2", 4.2, 1),
        ("from 1 = bad to 5 = excellent: 4.2", 4.2, 1),
        ("between 1 and 5: 4.2", 4.2, 1),
        ("4.2 [3.9, 4.5]", 4.2, 1),
        # scales
        ("4/5", 4.0, 0),
        ("4.0/5.0 (80%)", 4.0, 0),
        ("**4** out of **5**", 4.0, 0),
        ("4 stars (good) out of a possible 5", 4.0, 0),
        ("4 of 5", 4.0, 0),
        ("8/10, or 4/5", 4.0, 0),
        ("scale of 5: 3.2", 3.2, 1),
        ("3.2 (max. 5)", 3.2, 1),
        ("5-point scale: 4", 4.0, 0),
        ("5 point scale: 4", 4.0, 0),
        # other numbers
        ("4K video, 2.1", 2.1, 1),
        ("1080p60, H264, MPEG-4, 2x, 3rd of them: 2.1", 2.1, 1),
        ("3-second clip at 60 fps: 2.1", 2.1, 1),
        ("16:9, 4:2:0, 0x1F, v3.4.5, IMG_3.mp4: 2.1", 2.1, 1),
        ("1 000 frames: 2.1", 2.1, 1),
        ("2 of 10 frames are blurred: 2.1", 2.1, 1),
        ("at least 3 artifacts: 2.1", 2.1, 1),
        # a bound beside a score, and what only looks like one
        ("3.7 (>3)", 3.7, 1),
        ("3.7, clearly above 3", 3.7, 1),
        ("worse than 3 others: 2.1", 2.1, 1),
        ("&lt;3.7&gt;", 3.7, 1),
        ("&lt;b&gt;3.7&lt;/b&gt;", 3.7, 1),
        ("3.7</answer", 3.7, 1),
        ("3.7 -> good", 3.7, 1),
        ("3.7 => good", 3.7, 1),
        ("3.7 and above average", 3.7, 1),
        ("3.7 at least for the first half", 3.7, 1),
        ("better than average: 3.7", 3.7, 1),
    ],
)
def test_the_number_that_stands_for_a_score_is_found(answer, score, decimals):
    parsed = parse_answer(f"<think>2 cars</think><answer>{answer}</answer>")
    assert (parsed.score, parsed.status, parsed.decimals) == (score, "ok", decimals)


@pytest.mark.parametrize(
    "answer",
    [
        "with 1 for very poor and 5 for excellent: 4.2", "3, 4", "3.7 or 3.8", "1 2 3", "7.5, 8.2",  # several
        "4K", "1080p", "60fps", "0x1F", "H264", "3rd", "2x", "3_", "MPEG-4", "3.4.5", "3,4,5", "1.234,5", "3½", "0:04",
        "1-5", "1\u20135", "1\u20145", "1 - 5", "1 to 5", "1..5", "1~5", "1 through 5", "3-4", "between 3 and 6",
        "5-point scale", "scale of 5", "out of 5", "/5", "/ 5.0",
        "8 out of 10", "4 out of 10", "4/10", "**4**/**10**", "4 of 10", "4 out of ten", "4%", "4 percent", "85/100",
        "3 1/2", "4.2 on a scale of 1 to 10", "on a 10-point scale: 4.2", "Score (0-100): 4.2", "1/2/3/4/5",
        "<3", ">3", "<= 3", ">= 3", "\u22643", "\u2265 3", "at least 3", "less than 3", "3+", "3 or more", "± 3",
        "&lt;3", "&lt;=3", "&gt; 3", "&le;3", "&#60;3", "\uff1c3", "\u2a7d3", "\u22663", "\\leq 3", "$\\lt$ 3", "< = 3",
        "3<x", "3 < score", "3 > score", "3 \u2264 score", "3 < 4", "3 < score < 4", "2.5 \u2264 score \u2264 3",
        "less than or equal to 3", "greater than 3", "higher than 3", "worse than 3", "fewer than 3", "minimum 3",
        "min. 3", "exceeds 3", "beyond 3", "upwards of 3", "at least a 3", "at least: 3", "no lower than 3",
        "3 or higher", "3 or lower", "3 or greater", "3 and above", "3 at most", "3 at least.", "3 max", "3 plus",
        "inf", "nan", "1e999", "9" * 400, "\u0663", "3\u0663", "3 " * 200,
    ],
)  # fmt: skip
def test_what_is_no_score(answer):
    parsed = parse_answer(f"<answer>{answer}</answer>")
    assert (parsed.score, parsed.status, parsed.start) == (None, "no_number", None)


@pytest.mark.parametrize(
    ("answer", "score"), [("7.5", 7.5), ("4K video, 7.5", 7.5), ("\u22121", -1.0), ("0,5", 0.5), ("6/5", 6.0)]
)
def test_a_single_number_outside_the_range_is_told(answer, score):
    parsed = parse_answer(f"<answer>{answer}</answer>")
    assert (parsed.score, parsed.status) == (score, "out_of_range")


@pytest.mark.parametrize(
    ("answer", "score", "decimals"),
    [
        ("3,75", 3.0, 0),
        ("Score (1-5): 3.7", 1.0, 0),
        ("on a scale of 1 to 5: 4.2", 1.0, 0),
        ("0x1F", 0.0, 0),
        ("<3", 3.0, 0),
        ("&lt;3", 3.0, 0),
        ("3 or higher", 3.0, 0),
        ("4K video, 2.1", 4.0, 0),
        ("8 out of 10", 8.0, 0),
        ("MPEG-4", -4.0, 0),
        ("3.40 or 2", 3.4, 1),
        ("1e999, 3", None, 0),
        ("9" * 33, None, 0),
        ("\u0663", None, 0),
    ],
)
def test_the_published_rule_is_the_first_number(answer, score, decimals):
    parsed = parse_answer(f"<answer>{answer}</answer>", rule="official")
    assert (parsed.score, parsed.decimals) == (score, decimals)
    with pytest.raises(ValueError, match=r"rule='first': must be one of \('recommended', 'official'\)"):
        parse_answer("", rule="first")


@pytest.mark.parametrize(("rule", "number"), [("recommended", "3,75"), ("official", "1")])
def test_where_the_number_starts(rule, number):
    text = "<think>2</think><answer>Score (1-5): **3,75**</answer>"
    assert text[parse_answer(text, rule=rule).start :].startswith(number)


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
    for rule in ("recommended", "official"):
        score = parse_answer(text, rule=rule).score
        assert score is None or abs(score) < 1e32


@pytest.mark.parametrize(
    "piece",
    [
        "<answer>", "</answer>", "<answer>1", "9", "1e", "-", "<answer></answer>",
        "1-", "1 to ", "(", "1,", "1.", "1 ", " ", "a", "a-", ".", "<", "<a",
        "1 of ", "from 1 (", "between 1 and ", "over ", "&lt;", "1 < ",
    ],
)  # fmt: skip
def test_time_is_linear_in_the_text(piece):
    for text in (piece * 200_000, f"<answer>{piece * 200_000}</answer>", f"<answer>3 {piece * 200_000} 4</answer>"):
        start = time.process_time()
        parse_answer(text)
        assert time.process_time() - start < 2  # quadratic behaviour would take minutes


def test_text_of_messages():
    assert text_of([{"role": "assistant", "content": "hi"}]) == "hi"
    assert (
        text_of([{"role": "assistant", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}])
        == "hi"
    )
    with pytest.raises(TypeError, match="int"):
        text_of(3)
