import math

import pytest
import torch

from vqathinker import QualityScorer
from vqathinker.clips import ClipError
from vqathinker.rewards.comparison import COMPARISON_WORDS, parse_comparison
from vqathinker.scoring.comparing import _joined, _Said, pair_sample
from vqathinker.scoring.predict import encode_clips
from vqathinker.tasks import TASKS


@pytest.fixture
def videos(train_rows):
    return [row.video for row in train_rows[:4]]


@pytest.fixture
def scorer(policy, processor, words, reading_engine):
    """Answers `first; 3.42; 2.87` whatever it is shown; its probabilities are the policy's own."""
    scorer = QualityScorer(policy, processor, max_new_tokens=8, batch_size=3)
    scorer.engine = reading_engine(lambda text, blank: "<think>soft</think><answer>first; 3.42; 2.87</answer>")
    return scorer


@torch.no_grad()
def written_out(scorer, paths, before, words):
    """Plainly: P(word) for each word behind `before`, token by token, each in a causal pass of its own."""
    policy, processor = scorer.policy, scorer.processor
    clips = [processor.load_clip(path) for path in paths]
    prompt = processor.render(TASKS["compare"].messages(pair_sample(*paths), processor))
    embeds = policy.prompt_embeds(prompt, [encode_clips(policy, [clip])[0] for clip in clips])
    start = processor.tokenizer(before, add_special_tokens=False)["input_ids"]
    chances = []
    for word in words:
        tokens, chance = list(start), 1.0
        for token in processor.tokenizer(word, add_special_tokens=False)["input_ids"]:
            row = torch.cat([embeds, policy.get_input_embeddings()(torch.tensor(tokens))])
            chance *= float(policy(inputs_embeds=row[None]).logits[0, -1].softmax(-1)[token])
            tokens.append(token)
        chances.append(chance)
    return [chance / sum(chances) for chance in chances]


def test_the_preference_is_that_of_the_words_written_out_in_both_orders(scorer, videos):
    found = scorer.compare(videos[0], videos[1])
    before = "<think>soft</think><answer>"
    there = written_out(scorer, videos[:2], before, COMPARISON_WORDS)
    back = written_out(scorer, videos[1::-1], before, COMPARISON_WORDS)
    assert found.orders == pytest.approx((there[0] + there[2] / 2, back[1] + back[2] / 2), abs=1e-5)
    assert found.preference == pytest.approx(sum(found.orders) / 2, abs=1e-6)
    mean = [(there[0] + back[1]) / 2, (there[1] + back[0]) / 2, (there[2] + back[2]) / 2]
    assert found.probabilities == pytest.approx(mean, abs=1e-5) and sum(found.probabilities) == pytest.approx(1)
    assert found.better == COMPARISON_WORDS[mean.index(max(mean))] and abs(there[0] - back[0]) > 0.01
    assert (found.first, found.second, found.status) == (videos[0], videos[1], "ok") and found.parsed
    assert found.scores == pytest.approx(((3.42 + 2.87) / 2,) * 2)
    assert not found.consistent and found.reasoning == ("soft", "soft")  # "first" in both orders


def test_a_word_is_weighed_in_the_form_in_which_it_is_written(scorer, videos, reading_engine):
    for answer, before, words in (
        (" second; 1; 5", "<answer>", (" first", " second", " similar")),  # one token holds the space and the word
        ("Second ; 1; 5", "<answer>", ("First", "Second", "Similar")),
    ):
        scorer.engine = reading_engine(lambda text, blank, answer=answer: f"<answer>{answer}</answer>")
        found = scorer.compare(videos[0], videos[1])
        there = written_out(scorer, videos[:2], before, words)
        assert found.orders[0] == pytest.approx(there[0] + there[2] / 2, abs=1e-5)


def test_swapped_clips_give_exactly_one_minus_the_preference_in_any_batch(scorer, videos, frames):
    pairs = [(a, b) for a in videos[:3] for b in videos[:3] if a != b]
    known = {(one.first, one.second): one for batch in scorer.compare_many(pairs) for one in batch}
    assert list(known) == pairs and len({one.preference for one in known.values()}) == len(pairs)
    for (a, b), one in known.items():
        back = known[b, a]
        assert one.preference == 1 - back.preference and one.probabilities[2] == back.probabilities[2]
        assert one.orders == pytest.approx([1 - p for p in back.orders[::-1]]) and one.answers == back.answers
    assert scorer.compare(*pairs[3]) == known[pairs[3]]
    here = scorer.compare(frames, torch.from_numpy(frames))
    assert (here.first, here.second, here.preference, here.better) == ("", "", 0.5, "similar")


def test_each_clip_is_decoded_and_encoded_once_for_both_orders(scorer, videos, monkeypatch, tmp_path):
    decoded, encoded = [], []
    load, encode = scorer.processor.load_clip, scorer.policy.encode
    monkeypatch.setattr(scorer.processor, "load_clip", lambda video: decoded.append(video) or load(video))
    monkeypatch.setattr(scorer.policy, "encode", lambda **visual: encoded.append(1) or encode(**visual))
    gone = str(tmp_path / "gone.mp4")
    [both, [lost]] = scorer.compare_many([(videos[0], videos[1]), (videos[0], videos[2]), (videos[3], gone)])
    assert sorted(decoded) == sorted([*videos, gone]) and len(encoded) == 3
    assert [one.parsed for one in both] == [True, True] and both[0].preference != both[1].preference
    assert (lost.status, lost.answers, lost.better) == ("unreadable", (), "") and math.isnan(lost.preference)
    assert lost.error.startswith(f"{gone}: no such file")
    with pytest.raises(ClipError, match="no such file"):
        scorer.compare(videos[0], gone)


def test_answers_of_another_form_give_no_preference(scorer, videos, reading_engine):
    scorer.engine = reading_engine(lambda text, blank: "<think>soft</think><answer>3.42</answer>")
    found = scorer.compare(videos[0], videos[1])
    assert (found.status, found.better, found.consistent, found.probabilities) == ("no_word", "", False, ())
    assert not found.parsed and all(map(math.isnan, (*found.orders, *found.scores))) and len(found.answers) == 2
    plain = QualityScorer(scorer.policy, scorer.processor, readout="levels", max_new_tokens=4)  # random weights
    assert plain.compare(videos[0], videos[1]).status == "no_answer"


def said(answer, *probabilities):
    text = f"<answer>{answer}</answer>"
    return _Said(text, parse_comparison(text), probabilities or None)


def test_both_orders_are_joined_by_hand_computed_numbers():
    found = _joined(("a", "b"), said("first; 4; 2", 0.7, 0.1, 0.2), said("second; 3; 3.5", 0.3, 0.5, 0.2))
    assert found.orders == pytest.approx((0.8, 0.6)) and found.preference == pytest.approx(0.7)
    assert found.probabilities == pytest.approx((0.6, 0.2, 0.2)) and found.better == "first"
    assert found.scores == (3.75, 2.5) and found.consistent and found.status == "ok"
    alike = _joined(("a", "b"), said("similar; 3; 3", 0.2, 0.2, 0.6), said("similar; 3; 3", 0.2, 0.2, 0.6))
    assert (alike.better, alike.preference, alike.consistent) == ("similar", 0.5, True)
    half = _joined(("a", "b"), said("first; 4; 2", 0.7, 0.1, 0.2), said("good"))
    assert (half.status, half.consistent) == ("no_word", False) and math.isnan(half.preference)
    assert half.orders[0] == pytest.approx(0.8) and math.isnan(half.orders[1])
    numbers = _joined(("a", "b"), said("first; 4; 2", 0.7, 0.1, 0.2), said("second; 3; 9", 0.3, 0.5, 0.2))
    assert numbers.parsed and numbers.status == "out_of_range" and math.isnan(numbers.scores[0])
