import csv
import io
import json
import math

import numpy as np
import pytest

from vqathinker import QualityScorer
from vqathinker.metrics.ranking import bradley_terry, wins_of
from vqathinker.rollout import Completion
from vqathinker.scoring.ranking import RankedClip, _ordered, rank_files, ranking_text, tied

SCORES = (3.40, 2.00, 3.41, 3.40)


class Judge:
    """A stand-in for the engine: gives each clip the next of `SCORES`, and of two clips calls the first one better."""

    def __init__(self, processor):
        self.tokenizer, self.known, self.pairs = processor.tokenizer, {}, 0
        self.length = len(processor.prompt_ids())

    def generate(self, prompts, n, sampling, seeds=None):
        return [[self.say(len(prompt), seed)] for prompt, seed in zip(prompts, seeds, strict=True)]

    def say(self, length, seed):
        two = length > 1.5 * self.length
        self.pairs += two
        score = "" if two else f"{SCORES[self.known.setdefault(seed, len(self.known)) % 4]:.2f}"
        return Completion(self.tokenizer(f"<answer>{'first; 3; 3' if two else score}</answer>")["input_ids"])


@pytest.fixture
def scorer(policy, processor, words):
    """Its preferences are the random policy's own probabilities, behind the stand-in's answers."""
    scorer = QualityScorer(policy, processor, max_new_tokens=8, batch_size=4)
    scorer.engine = Judge(processor)
    return scorer


@pytest.fixture
def videos(train_rows):
    return [row.video for row in train_rows[:4]]


def expected(scorer, clips):
    """Abilities after all pairs were compared."""
    pairs = [(i, j) for i in range(len(clips)) for j in range(i)]
    said = [scorer.compare(clips[i], clips[j]).preference for i, j in pairs]
    return bradley_terry(wins_of(len(clips), pairs, said))


def test_clips_whose_scores_tie_are_compared_and_the_others_are_not(scorer, videos, tmp_path):
    found = rank_files(scorer, videos, folder=tmp_path, progress=False)
    near = [videos[0], videos[2], videos[3]]
    own = expected(scorer, near)
    order = [near[i] for i in np.argsort(-own.values)]
    assert [clip.video for clip in found.clips] == [*order, videos[1]] and [c.rank for c in found.clips] == [1, 2, 3, 4]
    for clip in found.clips[:3]:
        place = near.index(clip.video)
        assert (clip.ability, clip.low, clip.high) == pytest.approx(
            (own.values[place], own.low[place], own.high[place]), abs=1e-6
        )
        assert (clip.comparisons, clip.group) == (2, 1)
    last = found.clips[3]
    assert (last.score, last.comparisons, last.group) == (2.0, 0, 2) and math.isnan(last.ability)
    assert (found.compared, found.answered, found.inconsistent, found.groups) == (3, 3, 3, 2)

    [kept] = (tmp_path / "comparisons").glob("*.jsonl")
    kept.write_text(kept.read_text() + '{"torn')
    scorer.engine.pairs = 0
    again = rank_files(scorer, videos, folder=tmp_path, progress=False)
    assert ranking_text(again.clips, True) == ranking_text(found.clips, True) and scorer.engine.pairs == 0


def test_without_scores_comparisons_alone_give_the_order(scorer, videos, tmp_path):
    gone = str(tmp_path / "gone.mp4")
    found = rank_files(scorer, [gone, *videos], by="compare", progress=False)
    own = expected(scorer, videos)
    assert [clip.video for clip in found.clips] == [*(videos[i] for i in np.argsort(-own.values)), gone]
    assert found.clips[0].ability == pytest.approx(max(own.values), abs=1e-6)
    assert all(math.isnan(clip.score) and clip.comparisons == 3 for clip in found.clips[:4])
    assert (found.clips[4].rank, found.clips[4].status, found.compared) == (None, "unreadable", 6)
    assert rank_files(scorer, videos[:1], by="compare", progress=False).clips[0].rank == 1


def test_a_policy_that_does_not_compare_leaves_the_order_of_the_scores(scorer, videos):
    scorer.engine.say = lambda length, seed: Completion(scorer.engine.tokenizer("<answer>3.40</answer>")["input_ids"])
    found = rank_files(scorer, videos, progress=False)
    assert [clip.rank for clip in found.clips] == [1, 1, 1, 1] and (found.compared, found.answered) == (2, 0)
    alone = rank_files(scorer, videos, by="compare", progress=False)
    assert {(clip.rank, clip.status) for clip in alone.clips} == {(None, "not_compared")}
    with pytest.raises(ValueError, match="by='mos': must be one of"):
        rank_files(scorer, videos, by="mos")


def test_pairs_that_vllm_has_not_reserved_for_are_named_before_anything_is_scored(scorer, videos, processor):
    scorer.engine.max_model_length, scorer.engine.generate = scorer.engine.length + 8, None  # fails if it is asked
    said = f"task 'compare' about '{videos[0]} [+] .*must fit into.*Make the scorer with clips_per_prompt=2"
    for ask in (
        lambda: rank_files(scorer, videos, progress=False),
        lambda: next(scorer.compare_many([(videos[0], videos[1])])),
    ):
        with pytest.raises(ValueError, match=said):
            ask()


def test_abilities_are_compared_among_joined_clips_only():
    def ranks(scores, pairs, preferences):
        clips = [RankedClip("abcd"[i], score=score) for i, score in enumerate(scores)]
        return [(c.video, c.rank) for c in _ordered(clips, [0] * len(clips), pairs, preferences, True)]

    # nothing joins a to the others: it is better than b and c by their mean score of 3.485, however sure b beat c
    assert ranks((3.50, 3.49, 3.48), [(0, 1), (1, 2)], [math.nan, 0.9]) == [("a", 1), ("b", 2), ("c", 3)]
    assert ranks((3.50, 3.49, 3.48), [(1, 2)], [0.1]) == [("a", 1), ("c", 2), ("b", 3)]
    # means of 3.485 and 3.49: the better one of the first pair is below both of the second
    assert ranks((3.50, 3.49, 3.49, 3.47), [(0, 3), (1, 2)], [0.8, 0.3]) == [("c", 1), ("b", 2), ("a", 3), ("d", 4)]
    # equal means: only the clip that lost its comparison is known to be worse
    assert ranks((3.4, 3.4, 3.4), [(0, 1)], [0.2]) == [("b", 1), ("c", 1), ("a", 2)]


def test_scores_tie_within_a_hundredth_or_their_spreads():
    def groups(*scores):
        return tied([RankedClip("", score=score, spread=spread) for score, spread in scores])

    assert groups((3.42, math.nan), (3.41, math.nan), (3.39, math.nan)) == [0, 0, 1]
    assert groups((4.0, 0.3), (3.51, 0.4), (3.0, 0.3)) == [0, 0, 1]  # .49 < hypot(.3, .4) < .51


def test_the_table_has_a_column_for_all_that_is_known():
    clips = [RankedClip("a\u2028.mp4", 1, 0.5, -1 / 3, 4 / 3, 3.42), RankedClip("b,.mp4", status="x")]
    first, second = csv.DictReader(io.StringIO(ranking_text(clips, True)))
    assert list(first)[:3] == ["rank", "video", "ability"] and first["video"] == "a\u2028.mp4"
    assert (first["low"], first["spread"], second["rank"], second["status"]) == ("-0.333333", "nan", "", "x")
    rows = [json.loads(line) for line in ranking_text(clips, False).split("\n")[:-1]]
    assert rows[0]["rank"] == 1 and rows[0]["spread"] is None and rows[1]["video"] == "b,.mp4"


def test_a_file_of_something_else_is_named(scorer, videos, tmp_path):
    rank_files(scorer, videos[:2], by="compare", folder=tmp_path, progress=False)
    [kept] = (tmp_path / "comparisons").glob("*.jsonl")
    kept.write_text("3\n")
    with pytest.raises(ValueError, match="holds no comparisons"):
        rank_files(scorer, videos[:2], by="compare", folder=tmp_path, progress=False)
