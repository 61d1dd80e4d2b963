import hashlib
import json
import math

import pytest
import torch

from vqathinker.data.traces import LEVELS
from vqathinker.scoring import QualityScorer, expected_score, level_score, settings_of
from vqathinker.scoring.predict import embed_prompts
from vqathinker.scoring.readouts import LEVEL_PREFIX, before_level, before_number

TEXT = "<think>soft</think><answer>3.42</answer>"


@pytest.fixture
def tokenizer(processor):
    return processor.tokenizer


@pytest.fixture
def prompt(policy):
    torch.manual_seed(0)
    return 0.3 * torch.randn(20, policy.config.text_config.hidden_size)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def next_probabilities(policy, prompt, tokens, choices):
    """Plainly: one causal pass, softmax over the choices."""
    embeds = torch.cat([prompt, policy.get_input_embeddings()(torch.tensor(tokens))])
    logits = policy(inputs_embeds=embeds[None]).logits[0, -1]
    return logits[choices].softmax(-1).tolist()


def test_the_expectation_is_that_of_all_numbers_written_out(policy, tokenizer, prompt):
    digits, start = [ids(tokenizer, str(d))[0] for d in range(10)], ids(tokenizer, "<think>soft</think><answer>")
    mean = square = total = 0.0
    first = next_probabilities(policy, prompt, start, digits[:6])
    for a, p in enumerate(first):
        allowed = digits if a < 5 else digits[:1]
        head = [*start, digits[a], ids(tokenizer, ".")[0]]
        for b, q in enumerate(next_probabilities(policy, prompt, head, allowed)):
            for c, r in enumerate(next_probabilities(policy, prompt, [*head, digits[b]], allowed)):
                value, chance = a + b / 10 + c / 100, p * q * r
                mean, square, total = mean + chance * value, square + chance * value**2, total + chance
    assert total == pytest.approx(1)
    found, spread = expected_score(policy, tokenizer, prompt, ids(tokenizer, TEXT))
    assert found == pytest.approx(mean, abs=1e-5) and spread == pytest.approx(math.sqrt(square - mean**2), abs=1e-4)


def test_levels_are_weighed_by_the_probability_of_the_whole_word(policy, tokenizer, prompt):
    def probability(word):
        tokens, chance = ids(tokenizer, LEVEL_PREFIX), 1.0
        for token in ids(tokenizer, f" {word}"):
            chance *= next_probabilities(policy, prompt, tokens, slice(None))[token]
            tokens = [*tokens, token]
        return chance

    chances = [probability(word) for word in LEVELS]
    mean = sum(c * w for c, w in zip(chances, (5, 4, 3, 2, 1), strict=True)) / sum(chances)
    assert level_score(policy, tokenizer, prompt)[0] == pytest.approx(mean, abs=1e-4)


def test_scores_of_other_words_are_told_apart(policy, processor):
    """A table of scores goes on only where words and question are the same; the default's are those of before."""
    forms = ({}, {"level_words": "vqa2"}, {"level_asked": "level"}, {"level_weights": "fifths"})
    forms += ({"level_asked": "reasoning"},)
    scorers = [QualityScorer(policy, processor, readout="levels", **form) for form in forms]
    plain, *others = (settings_of(scorer)["prompt_hash"] for scorer in scorers)
    known = json.dumps(processor.prompt_ids()) + f"The quality of the video is {LEVELS}"
    assert plain == hashlib.sha256(known.encode()).hexdigest()[:16] and len({plain, *others}) == 5
    with pytest.raises(ValueError, match=r"level_weights='thirds': must be one of .*\['quarters', 'fifths'\]"):
        QualityScorer(policy, processor, readout="levels", level_weights="thirds")
    with pytest.raises(ValueError, match="level_weights='fifths' with readout='answer', which reads no level words"):
        QualityScorer(policy, processor, level_weights="fifths")


def test_a_level_word_is_read_behind_the_reasoning_that_was_given(policy, processor, train_rows, reading_engine):
    """The expectation over the five words, written out, at the word's place in the answer to the task's prompt."""
    tokenizer, video = processor.tokenizer, train_rows[0].video
    said = "<think>fair light, poor focus</think><answer>The quality of the video is {}.</answer>"
    scorer = QualityScorer(policy, processor, readout="levels", level_asked="reasoning", max_new_tokens=8)
    asked = []
    scorer.engine = reading_engine(lambda text, blank: asked.append(text) or said.format("good"))
    found = scorer.score(video)
    assert found.reasoning == "fair light, poor focus" and found.num_parsed == 1 and found.status == "ok"
    assert 'Complete "The quality of the video is ..." with one word: excellent, good' in asked[0]
    [shown] = embed_prompts(policy, processor, [scorer.load(video)], [scorer.level_question()])
    start = ids(tokenizer, said.partition(" {}")[0])
    chances = []
    for word in LEVELS:
        tokens, chance = start, 1.0
        for token in ids(tokenizer, f" {word}"):
            chance *= next_probabilities(policy, shown, tokens, slice(None))[token]
            tokens = [*tokens, token]
        chances.append(chance)
    mean = sum(c * w for c, w in zip(chances, (5, 4, 3, 2, 1), strict=True)) / sum(chances)
    assert found.score == pytest.approx(mean, abs=1e-4) and 0 < found.spread < 2
    scorer.engine.say = lambda text, blank: said.format("bad")  # which word was said does not matter, where does
    assert scorer.score(video).score == pytest.approx(mean, abs=1e-4)
    scorer.level_weights = "fifths"
    assert scorer.score(video).score == pytest.approx(1.8 + 0.8 * (mean - 1), abs=1e-4)
    for text, status in (
        ("good", "no_answer"),
        (said.format("grand"), "no_level"),
        (said.format("good or bad"), "several"),
    ):
        scorer.engine.say = lambda _, blank, text=text: text
        lost = scorer.score(video)
        assert (lost.status, lost.num_parsed) == (status, 0) and math.isnan(lost.score), text


def test_the_level_words_stand_as_the_word_of_the_answer_does(tokenizer):
    for answer, first, words in (
        ("It is Good.", "<answer>It is", [" Excellent", " Good"]),
        ("good", "<answer>", ["excellent", "good"]),
        ("not bad, but good", "<answer>not bad, but", [" excellent", " good"]),
    ):
        before, known = before_level(tokenizer, ids(tokenizer, f"<think>poor</think><answer>{answer}</answer>"), LEVELS)
        assert tokenizer.decode(before) == f"<think>poor</think>{first}", answer
        assert known[:2] == [ids(tokenizer, word) for word in words]


def test_the_number_starts_behind_the_first_answer_tag(tokenizer):
    tokens = ids(tokenizer, TEXT + "<answer>1.00</answer>")
    assert tokenizer.decode(before_number(tokenizer, tokens)) == "<think>soft</think><answer>"
    assert tokenizer.decode(before_number(tokenizer, ids(tokenizer, "<answer> 3</answer>"))).strip() == "<answer>"
    assert (
        tokenizer.decode(before_number(tokenizer, ids(tokenizer, "<answer>about 3</answer>"))).strip()
        == "<answer>about"
    )
    for text in ("", "3.42", "<answer>", "<answer>good</answer>3", "<think>3</think>", "<answer>.5</answer>"):
        assert before_number(tokenizer, ids(tokenizer, text)) is None, text


@pytest.mark.parametrize(
    ("answer", "before"),
    [
        ("Score (1-5): 3.70", "Score (1-5): "),
        ("4K video, 2.10", "4K video, "),
        ("on a scale of 1 to 5: 4.20", "on a scale of 1 to 5: "),
        ("3,75", ""),
        ("3.70 (1-5)", ""),
        ("3-4", None),
        ("4/10", None),
        ("<3", None),
        ("0x1F", None),
        ("-3", None),
    ],
)
def test_the_number_is_the_one_that_counts_as_the_score(tokenizer, answer, before):
    found = before_number(tokenizer, ids(tokenizer, f"<think>1 car</think><answer>{answer}</answer>"))
    assert (found and tokenizer.decode(found)) == (None if before is None else f"<think>1 car</think><answer>{before}")


def test_without_a_number_there_is_no_expectation(policy, tokenizer, prompt):
    assert all(math.isnan(value) for value in expected_score(policy, tokenizer, prompt, ids(tokenizer, "good")))


def test_a_question_for_a_score_is_refused_where_the_level_is_asked_for():
    with pytest.raises(ValueError, match=r"question='How good.*with level_asked='level', which asks for the level"):
        QualityScorer.from_pretrained("none", question="How good is it?", readout="levels", level_asked="level")
