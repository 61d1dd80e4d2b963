"""Two clips in one prompt: what is asked, what is learnt, and how both orders are measured."""

import math

import numpy as np
import pytest

from vqathinker.data import Sample
from vqathinker.messages import videos_in
from vqathinker.tasks import TASKS, accuracy_by_difference, sample_dataset

COMPARE = TASKS["compare"]


def both_orders(one, other, better, **target):
    swapped = {"first": "second", "second": "first"}.get(better, better)
    return [
        Sample(f"{one} {other}", "compare", (one, other), target={"better": better, **target}),
        Sample(f"{other} {one}", "compare", (other, one), target={"better": swapped, **target}),
    ]


def test_each_clip_is_introduced_by_its_place(processor):
    [row] = sample_dataset(both_orders("a.mp4", "b.mp4", "first")[:1], processor)
    prompt = processor.render(row["prompt"])
    text = processor.tokenizer.decode(prompt.ids).replace("<IMG_CONTEXT>", "")
    first, second = (
        text.index(f"Now you will receive the {place} video:\nFrame1:<img></img>") for place in ("first", "second")
    )
    question = text.index("You are comparing the quality of two videos.")
    assert first < second < question < text.index("Answer in three parts") < text.index("First output the thinking")
    clips = [slot.clip for slot in prompt.slots]
    assert clips == sorted(clips) and set(clips) == {0, 1} and videos_in(row["prompt"]) == ["a.mp4", "b.mp4"]
    assert row["mos_first"] is None and "mos" not in row


def test_the_gold_answer_names_what_differs():
    def gold(**target):
        return COMPARE.gold(Sample("s", "compare", ("a", "b"), target=target), np.random.default_rng(0))

    scores = {"mos_first": 4.1, "mos_second": 2}
    kinds = {"kind_first": "", "severity_first": "", "kind_second": "blur+frame_drop", "severity_second": "0.3+0.9"}
    text = gold(better="first", **scores, **kinds)
    assert "The first video shows no fault, the second severe frame drop and slight blur." in text
    assert text.endswith("</think><answer>first; 4.10; 2.00</answer>")
    assert "The second video is compressed harder." in gold(better="first", **scores, rank_difference=6)
    assert "The first video is good, the second poor." in gold(better="first", **scores)
    with pytest.raises(ValueError, match="sample 's': there is no answer to learn, as a score is missing"):
        gold(better="first", mos_first=4.1)


def test_a_pair_has_two_clips(processor):
    with pytest.raises(ValueError, match=r"sample 's' has 1 clip, .*: task 'compare' is about 2"):
        sample_dataset([Sample("s", "compare", ("a.mp4",), target={"better": "first"})], processor)


def test_both_orders_of_a_pair_are_measured(processor):
    """Right in both orders; "first" in both; unparsable in one; similar in both, though one is better."""
    pairs = [("a", "b", "first"), ("a", "c", "second"), ("b", "c", "first"), ("c", "d", "similar"), ("d", "e", "first")]
    samples = [sample for pair in pairs for sample in both_orders(*pair)]
    rows = list(
        sample_dataset([*samples, Sample("same", "compare", ("a", "a"), target={"better": "similar"})], processor)
    )
    words = ["first", "second", "first", "first", "second", "blurry", "similar", "similar", "similar", None, "similar"]
    answers = [word and f"<answer>{word}; 3.1; 3.2</answer>" for word in words]
    # 10 answers, 9 words; right: both of the first pair, one of the second, both of the fourth, the last
    assert COMPARE.measure(answers, rows) == {
        "compare_accuracy": pytest.approx(6 / 10),
        "compare_unparsable": pytest.approx(1 / 10),
        "compare_first_bias": pytest.approx((3 - 4) / 9),  # said, and right for these
        "compare_consistency": pytest.approx(2 / 3),  # of the pairs with two words: a b, a c, c d
    }
    biased = COMPARE.measure(["<answer>first; 3; 2</answer>"] * 4, rows[:4])
    assert (biased["compare_first_bias"], biased["compare_consistency"]) == (0.5, 0)
    assert all(map(math.isnan, COMPARE.measure([None], rows[:1]).values()))


def test_several_answers_to_a_row_are_compared_in_all_combinations(processor):
    rows = list(sample_dataset(both_orders("a", "b", "first"), processor))
    answers = [f"<answer>{word}; 3; 2</answer>" for word in ("first", "second", "second", "second")]
    assert COMPARE.measure(answers, [rows[0], rows[0], rows[1], rows[1]])["compare_consistency"] == 0.5


def test_accuracy_by_difference():
    rows = [{"better": "first", "difference": d, "rank_difference": None} for d in (0.1, -0.5, 0.5, 2.0, 0.7)]
    answers = ["<answer>first; 3; 2</answer>", "<answer>second; 3; 2</answer>", "<answer>first</answer>", "-", None]
    found = accuracy_by_difference(answers, rows, [0, 0.5, 1, 2])
    assert [tuple(entry) for entry in found[:2]] == [(0, 0.5, 1.0, 1), (0.5, 1, 0.5, 2)]
    assert found[2].pairs == 0 and math.isnan(found[2].accuracy)  # 2.0 is beyond the last bound
    assert not any(entry.pairs for entry in accuracy_by_difference(answers, rows, [0, 9], "rank_difference"))
