"""Which option an answer names, and what that earns."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from rewards import Choice, Rubric, choice_index, letter, parse_choice

KINDS = ["noise", "blur", "motion blur", "compression"]
YES_NO = ["Yes", "No"]


def parsed(answer, options, **arguments):
    found = parse_choice(f"<think>A. noise?</think><answer>{answer}</answer>", options, **arguments)
    return found.status if found.index is None else found.index


DRESSES = (
    *(
        "{0}",
        "{0}.",
        "({0})",
        "[{0}]",
        "**{0}**",
        "**{0}.**",
        "`{0}`",
        '"{0}"',
        "{0})",
        " {0}\n",
        "${0}$",
        "\\boxed{{{0}}}",
    ),
    *("Option {0}", "option {0}.", "Option ({0})", "Answer: {0}", "The answer is {0}", "The answer is **{0}**."),
    *(
        "The correct answer is: {0}",
        "My choice: {0}",
        "<b>{0}</b>",
        "The correct option is {0}",
        "{0}, because I see it",
    ),
    *("{0} is correct", "Final answer: {0}", "\\text{{{0}}}", "$\\boxed{{\\text{{{0}}}}}$", "{0} because it is so"),
)


@given(st.integers(0, 5), st.sampled_from(DRESSES), st.booleans())
def test_a_letter_counts_in_every_dress(index, dress, small):
    options = ["first", "second", "third", "fourth", "fifth", "sixth"]
    written = letter(index).lower() if small else letter(index)
    assert parsed(dress.format(written), options) == index
    assert parsed(dress.format(written), options[:2]) == (index if index < 2 else "out_of_range")


@given(
    st.integers(0, 3), st.sampled_from(("{0}. {1}", "{0}) {1}", "({0}) {1}", "{0}: {1}", "{0} - {1}", "**{0}.** {1}"))
)
def test_letter_and_text_agree_or_contradict(index, dress):
    for text, option in enumerate(KINDS):
        expected = index if text == index else "contradiction"
        assert parsed(dress.format(letter(index), option), KINDS) == expected


@given(
    st.integers(0, 3), st.sampled_from(("{}", "{}.", "'{}'", "The clip shows {}", "It suffers from **{}**!", "\n{}\n"))
)
def test_the_text_of_an_option_counts(index, dress):
    assert parsed(dress.format(KINDS[index]), KINDS) == parsed(dress.format(KINDS[index].upper()), KINDS) == index


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        # articles, pronouns, units and parts of words are no letters
        ("A blurry clip", ["sharp", "blurry"], 1),
        ("a blurry clip", ["sharp", "blurry"], 1),
        ("A (slightly) blurry clip", ["sharp", "blurry"], 1),
        ("The answer is a blurry clip", ["sharp", "blurry"], 1),
        ("It is a clip", ["sharp", "blurry"], "no_choice"),
        ("I see noise", ["x1", *KINDS, "x2", "x3", "x4", "x5", "x6"], 1),
        ("B-frames", ["sharp", "blurry"], "no_choice"),
        ("e.g. noise", [*KINDS, "ringing"], 0),
        ("it's noise", KINDS, 0),
        # ... and these are
        ("A is right", ["sharp", "blurry"], 0),
        ("Definitely B", ["sharp", "blurry"], 1),
        ("B blurry", ["sharp", "blurry"], 1),
        ("A\nblurry", ["sharp", "blurry"], "contradiction"),
        ("B.blurry", ["sharp", "blurry"], 1),
        ("I", [str(i) for i in range(9)], 8),
        # two letters, two texts
        ("A or B", KINDS, "several"),
        ("A, B", KINDS, "several"),
        ("A/B", KINDS, "several"),
        ("A. noise B. blur", KINDS, "several"),
        ("Both A and C", KINDS, "several"),
        ("noise and blur", KINDS, "several"),
        ("B or F", ["sharp", "blurry"], 1),  # F is no option, and may mean something else here
        ("(B) or (F)", ["sharp", "blurry"], "several"),
        ("B, not C", KINDS, 1),
        ("B. blur rather than noise", KINDS, 1),
        # a text within a longer one
        ("it is motion blur", KINDS, 2),
        ("blur", KINDS, 1),
        ("motion blur, and blur", KINDS, "several"),
        ("blurry", KINDS, "no_choice"),
        ("Plan B", ["Plan A", "Plan B", "Plan C"], 1),
        ("A. Plan B", ["Plan B", "Plan A"], 0),
        # negated
        ("not blur", KINDS, "no_choice"),
        ("It isn't blur", KINDS, "no_choice"),
        ("not a blur but noise", KINDS, 0),
        ("No, it is blur", KINDS, 1),
        ("no blur", ["blur", "no blur"], 1),
        # yes/no
        ("Yes", YES_NO, 0),
        ("no.", YES_NO, 1),
        ("No, there is not", YES_NO, 1),
        ("B. No", YES_NO, 1),
        ("A. No", YES_NO, "contradiction"),
        ("Yes and no", YES_NO, "several"),
        ("N", YES_NO, "out_of_range"),
        ("Maybe", YES_NO, "no_choice"),
        # numbers and signs
        ("0.5 s", ["5 s", "0.5 s"], 1),
        ("1.5s", ["1 s", "1.5s"], 1),
        ("-1", ["1", "-1"], 1),
        ("> 3", ["< 3", "> 3"], 1),
        ("There are 2 freezes", ["1", "2", "3"], 1),
        # equal texts, options called like letters, options without words
        ("blur", ["blur", "Blur", "noise"], "no_choice"),
        ("B. blur", ["blur", "Blur", "noise"], 1),
        ("B", ["A", "B"], 1),
        ("B", ["B", "A"], "contradiction"),
        ("B", ["??", "!!"], 1),
        ("frame_drop", ["noise", "Frame drop"], 1),
        ("", KINDS, "no_choice"),
        ("...", KINDS, "no_choice"),
    ],
)
def test_what_an_answer_names(answer, options, expected):
    assert parsed(answer, options) == expected


def test_only_one_closed_block_counts():
    text = "<answer>A</answer> no, <answer>B</answer> <answer>C"
    assert parse_choice(text, KINDS).index == 1 and parse_choice(text, KINDS, which="first").index == 0
    assert parse_choice("B", KINDS).status == parse_choice("<answer>B", KINDS).status == "no_answer"
    message = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    assert parse_choice(message, tuple(KINDS)) == parse_choice(text, KINDS)


pieces = st.sampled_from(
    [*"AaBbIiFf.,:()[]{}*'\"-/ \n<>5", "motion", "blur", "not", "answer", "is", "no", "</b>", "1.5"]
)


@given(st.one_of(st.text(), st.lists(pieces, max_size=30).map("".join)), st.lists(st.text(min_size=1), min_size=2))
def test_no_text_crashes(text, others):
    options = [option if option.strip() else "x" for option in others][:26]
    for own in (KINDS, YES_NO, options):
        found = parse_choice(f"<answer>{text}</answer>", own)
        assert (found.index is None) == (found.status != "ok")
        assert found.index is None or 0 <= found.index < len(own)
        assert Choice()([text], answer=["A"], options=[KINDS]) == [0.0] or "answer" in text


@pytest.mark.parametrize(
    "piece", ["A ", "blur ", "motion blur ", "1", "1.", "-", "not ", "(", "<", "answer is ", "e.g.", "\u0301"]
)
def test_reading_is_linear_in_the_text(piece):
    start = time.process_time()
    parse_choice("<answer>" + piece * 50_000 + "</answer>", [*KINDS, "blur motion"])
    assert time.process_time() - start < 3


@given(st.integers(0, 25))
def test_letters_name_their_options(index):
    options = [f"option number {i}" for i in range(26)]
    assert choice_index(letter(index), options) == choice_index(letter(index).lower(), options) == index
    assert choice_index(options[index].upper(), options) == index
    assert choice_index(f"{letter(index)}. {options[index]}", options) == index


def test_the_right_answer_is_a_letter_or_a_text():
    assert choice_index("Motion blur.", KINDS) == choice_index("C", KINDS) == 2
    assert choice_index("No", YES_NO) == 1 and choice_index("A", ["A", "B"]) == 0
    assert choice_index("A", ["blur", "blur"]) == 0 and choice_index("A blurry clip", ["x", "a blurry clip"]) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: choice_index("E", KINDS), ValueError, "answer='E' .* neither an option's letter nor .* A to D"),
        (lambda: choice_index("ringing", KINDS), ValueError, "answer='ringing' with options=.*'noise'"),
        (lambda: choice_index("", KINDS), ValueError, "neither"),
        (lambda: choice_index("A", ["B", "A"]), ValueError, "the letter means 'B', the text 'A'"),
        (lambda: choice_index("A. blur", KINDS), ValueError, "the letter means 'noise', the text 'blur'"),
        (lambda: choice_index("blur", ["blur", "Blur"]), ValueError, "several options have this text. Give the letter"),
        (lambda: choice_index(1, KINDS), TypeError, r"answer=1 .* must be a string"),
        (lambda: choice_index("A", "Yes"), TypeError, "options='Yes': must be a list of strings"),
        (lambda: choice_index("A", ["Yes", 3]), TypeError, "must be a list of strings"),
        (lambda: choice_index("A", ["Yes"]), ValueError, r"options=\['Yes'\]: a question needs 2 to 26"),
        (lambda: choice_index("A", ["Yes", " "]), ValueError, "an option is empty"),
        (lambda: parse_choice("x", KINDS, which="second"), ValueError, "which='second'"),
        (lambda: letter(26), ValueError, "index=26"),
        (lambda: Choice()(["x"], answer="A", options=[KINDS]), TypeError, "answer='A' is a single value"),
        (lambda: Choice()(["x"], answer=["A"], options="AB"), TypeError, "options='AB' is a single value"),
        (lambda: Choice()(["x"], answer=["A"], options=[KINDS] * 2), ValueError, "2 entries for 1"),
        (lambda: Choice()(["x"], answer=["E"], options=[KINDS]), ValueError, "answer='E'"),
    ],
)
def test_bad_input_names_value_rule_and_fix(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_right_option_earns_1():
    answers = ["<answer>B</answer>", "<answer>noise</answer>", "<answer>?</answer>", "<answer>3.2</answer>", "-"]
    columns = {"answer": ["blur", "B", "A", None, None], "options": [KINDS, KINDS, YES_NO, None, []]}
    logged = {}
    assert Choice()(answers, **columns, log_metric=logged.__setitem__) == [1.0, 0.0, 0.0, None, None]
    letters = {f"choice_letter_{name}": share for name, share in zip("ABCD", (1 / 3, 1 / 3, 0, 0), strict=True)}
    assert logged == {"choice_unparsable": 1 / 3, **letters}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [Choice().applies(row) for row in rows] == [True, True, True, False, False]


def test_batches_without_questions_are_as_before():
    answers = ["<think>a</think><answer>4.2</answer>", "-"]
    batch = {"mos": [4.3, 4.3], "video_id": ["a", "b"]}
    logged = {}
    assert Choice()(answers, **batch, log_metric=logged.__setitem__) == [None, None] and logged == {}
    assert Choice()(answers, answer=["x", "y"]) == [None, None]  # the answer column of open questions
    assert not Choice().applies({"mos": 3.0})
    alone, both = (Rubric(own).score(answers, **batch) for own in ([rewards.Format()], [rewards.Format(), Choice()]))
    assert both.total == alone.total and both.scores == alone.scores and both.metrics == {}


def test_questions_and_scores_share_a_batch():
    rubric = rewards.named_rewards("format,regression,choice=0.5")
    answers = ["<think>x</think><answer>3.0</answer>", "<think>x</think><answer>A. Yes</answer>"]
    table = rubric.score(answers, [3.0, None], ["a", "b"], answer=[None, "Yes"], options=[None, YES_NO])
    assert table.rewards["choice"] == [None, 1.0] and table.rewards["regression"] == [1.0, None]
    assert (
        table.total == [2.0, 1.5] and table.metrics["choice_unparsable"] == 0 and table.metrics["choice_letter_A"] == 1
    )
