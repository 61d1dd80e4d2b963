"""Ranking, temporal reward, presets: against an independent, slow re-statement of the formulas."""

import itertools
import math
import pickle
import random
from statistics import NormalDist, mean, variance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewards
from rewards import Format, Ranking, Regression, Rubric, Temporal, advantages, fidelity_ranking, temporal_bonus

EPS = 1e-6


def answers(scores):
    return [f"<think>a</think><answer>{score:.2f}</answer>" for score in scores]


def slow_fidelity(scores, mos, ids, tie=0.5):
    """The published ranking reward with plain loops."""
    groups = {name: [s for s, i in zip(scores, ids, strict=True) if i == name] for name in ids}
    label = dict(zip(ids, mos, strict=True))
    out = []
    for score, name in zip(scores, ids, strict=True):
        values = []
        for other in groups.keys() - {name}:
            spread = math.sqrt(variance(groups[name]) + variance(groups[other]) + EPS)
            p = NormalDist().cdf((score - mean(groups[other])) / spread)
            if label[name] == label[other]:
                t = u = tie
            else:
                t = float(label[name] > label[other])
                u = 1 - t
            values.append(math.sqrt(p * t + EPS) + math.sqrt((1 - p) * u + EPS))
        out.append(mean(values))
    return out


@st.composite
def batches(draw, min_videos=2):
    videos = draw(st.integers(min_videos, 5))
    k = draw(st.integers(2, 5))
    ids = [f"v{i}" for i in range(videos) for _ in range(k)]
    labels = draw(st.lists(st.sampled_from([1.0, 2.5, 3.2, 4.75]), min_size=videos, max_size=videos))
    scores = draw(st.lists(st.integers(100, 500).map(lambda n: n / 100), min_size=len(ids), max_size=len(ids)))
    return scores, [labels[int(name[1:])] for name in ids], ids


@given(batches(), st.sampled_from([0.0, 0.5]))
def test_ranking_equals_the_formula(batch, tie):
    assert fidelity_ranking(*batch, tie=tie) == pytest.approx(slow_fidelity(*batch, tie=tie), abs=1e-9)


@given(batches(), st.randoms())
def test_groups_are_formed_by_video_id_and_not_by_position(batch, chance):
    order = list(range(len(batch[0])))
    chance.shuffle(order)
    shuffled = fidelity_ranking(*([column[i] for i in order] for column in batch))
    plain = fidelity_ranking(*batch)
    assert shuffled == pytest.approx([plain[i] for i in order])


def test_right_order_earns_more_than_wrong_order():
    ids, mos = ["a", "a", "b", "b"], [4, 4, 2, 2]
    right, wrong = fidelity_ranking([4, 4.2, 2, 1.8], mos, ids), fidelity_ranking([2, 1.8, 4, 4.2], mos, ids)
    assert min(right) > 0.99 and max(wrong) < 0.01


def test_a_tie_pays_half_in_the_published_code_and_almost_nothing_in_the_formula():
    ids, mos, scores = ["a", "a", "b", "b"], [3, 3, 3, 3], [3.0, 3.2, 3.1, 3.1]
    values = fidelity_ranking(scores, mos, ids)
    assert min(values) > 0.9 and values[2] == pytest.approx(1, abs=1e-4)  # 1 at equal predictions
    assert max(fidelity_ranking(scores, mos, ids, tie=0.0)) == pytest.approx(2 * math.sqrt(EPS))


def test_ranking_leaves_out_what_cannot_be_ranked():
    ids, mos = list("aabbcc"), [4, 4, 2, 2, 3, 3]
    values = fidelity_ranking([4.0, None, 2.0, 2.2, 3.1, 2.9], mos, ids)
    assert values[:2] == [None, None] and None not in values[2:]
    alone = fidelity_ranking([4.0, None, 2.0, 2.2], mos[:4], ids[:4])
    assert alone == [None] * 4


@pytest.mark.parametrize(
    ("ids", "mos", "message"),
    [
        (["a", "a"], [1, 1], "1 video"),
        (["a", "b"], [1, 2], "K >= 2"),
        (["a", "a", "b"], [1, 2, 3], "two labels"),
        (None, [1, 2], "video_id is missing"),
    ],
)
def test_a_batch_that_cannot_be_ranked_raises(ids, mos, message):
    with pytest.raises(ValueError, match=message):
        Ranking()(answers([3] * len(mos)), mos=mos, video_id=ids)


@given(batches())
def test_official_preset_reproduces_the_published_numbers(batch):
    scores, mos, ids = batch
    chance = random.Random(0)
    worse = [max(1.0, s - chance.random()) for s in scores]
    texts, copies = answers(scores), answers(worse)
    table = rewards.preset("official").score(texts, mos=mos, video_id=ids, perturbed_completions=copies)

    def regression(values):
        raw = [math.exp(-((s - g) ** 2) / 0.5) for s, g in zip(values, mos, strict=True)]
        written = [f"{s:.2f}".rstrip("0").rstrip(".") for s in values]
        return [r * (1 if len(w.partition(".")[2]) >= 2 else 0.8) for r, w in zip(raw, written, strict=True)]

    copies_scores = [float(f"{s:.2f}") for s in worse]
    reg, rank = regression(scores), slow_fidelity(scores, mos, ids)
    reg_copy, rank_copy = regression(copies_scores), slow_fidelity(copies_scores, mos, ids)
    temporal = [
        0.3 * (mean(reg) > mean(reg_copy) and a > 0.9) + 0.3 * (mean(rank) > mean(rank_copy) and b > 0.5)
        for a, b in zip(reg, rank, strict=True)
    ]
    assert table.rewards["regression"] == pytest.approx(reg, abs=1e-5)
    assert table.rewards["rank"] == pytest.approx(rank, abs=1e-5)
    if abs(mean(reg) - mean(reg_copy)) > 1e-9 and abs(mean(rank) - mean(rank_copy)) > 1e-9:
        assert table.rewards["temporal"] == pytest.approx(temporal, abs=1e-5)
    assert table.total == pytest.approx([sum(row) for row in zip(*table.rewards.values(), strict=True)], abs=1e-9)


def temporal_case(preset):
    """Video a is judged well and its copy worse; its answers differ in how well they do."""
    scores, copies = [4.01, 4.21, 3.32, 2.41, 1.91, 2.11, 2.31, 2.01], [2.11] * 4 + [4.11] * 4
    mos, ids = [4.0] * 4 + [2.0] * 4, ["a"] * 4 + ["b"] * 4
    return preset.score(answers(scores), mos=mos, video_id=ids, perturbed_completions=answers(copies)), ids


def test_the_papers_temporal_bonus_has_no_gradient_and_ours_has():
    for name, varies in (("paper", False), ("recommended", True)):
        table, ids = temporal_case(rewards.preset(name))
        bonus = table.rewards["temporal"]
        assert (len(set(bonus[:4])) > 1) == varies
        assert any(abs(a) > 1e-9 for a in advantages(bonus, ids)) == varies


def test_paper_bonus_follows_equation_8():
    bonus = temporal_bonus([0.6, 0.8, 0.3, 0.5], [0.5, 0.7, 0.6, 0.6], list("aabb"), "group", 0.3, 0.5)
    assert bonus == [0.3, 0.3, 0.0, 0.0]
    below_tau = temporal_bonus([0.4, 0.4], [0.1, 0.1], list("aa"), "group", 0.3, 0.5)
    assert below_tau == [0.0, 0.0]


def test_recommended_bonus_is_for_answers_that_beat_the_copys_mean():
    bonus = temporal_bonus([0.9, 0.6, 0.4, None], [0.7, 0.7, None, None], list("aaaa"), "response", 0.3, 0.5)
    assert bonus == [0.3, 0.0, 0.0, None]


def test_without_a_perturbed_answer_there_is_no_bonus_to_score():
    table = rewards.preset("recommended").score(answers([4, 4.1, 2, 2.1]), mos=[4, 4, 2, 2], video_id=list("aabb"))
    assert table.rewards["temporal"] == [None] * 4
    part = rewards.preset("recommended").score(
        answers([4, 4.1, 2, 2.1]),
        mos=[4, 4, 2, 2],
        video_id=list("aabb"),
        perturbed_completions=[*answers([1, 1]), None, None],
    )
    assert None not in part.rewards["temporal"][:2] and part.rewards["temporal"][2:] == [None, None]
    assert part.metrics["temporal_win_rate"] == 1.0


def test_unparsable_and_out_of_range_answers_are_counted_and_not_scored():
    texts = [*answers([4, 4.1, 2, 2.1]), "no idea", "<think>a</think><answer>12</answer>"]
    ids, mos = list("aabbbb"), [4, 4, 2, 2, 2, 2]
    table = rewards.preset("recommended").score(texts, mos=mos, video_id=ids)
    assert table.counters == {"completions": 6, "unparsable": 1, "out_of_range": 1}
    assert table.rewards["rank"][4:] == table.rewards["regression"][4:] == [None, None]
    assert table.scores[4:] == [None, 12.0]
    assert table.total[4:] == [0.0, 1.0]


@settings(deadline=None)
@given(batches(min_videos=2), st.sampled_from(list(rewards.PRESETS)))
def test_totals_are_weighted_sums_and_order_free(batch, name):
    scores, mos, ids = batch
    rubric = rewards.preset(name)
    table = rubric.score(answers(scores), mos=mos, video_id=ids)
    back = slice(None, None, -1)
    reverse = rubric.score(answers(scores)[back], mos=mos[back], video_id=ids[back])
    assert table.total == pytest.approx(reverse.total[back])


TRICKY = [
    "<answer>3,75</answer>",
    "<answer>Score (1-5): 3.75</answer>",
    "<answer>4K, 2.25</answer>",
    "<answer><2.25</answer>",
]


def test_only_the_official_preset_takes_the_first_number():
    case = {"mos": [3.75, 3.75, 2.25, 2.25], "video_id": list("aabb"), "perturbed_completions": TRICKY[::-1]}
    official = rewards.preset("official").score(TRICKY, **case)
    assert official.scores == [3.0, 1.0, 4.0, 2.25]
    assert official.counters == {"completions": 4, "unparsable": 0, "out_of_range": 0}
    bells = [0.8 * math.exp(-((s - g) ** 2) / 0.5) for s, g in zip([3, 1, 4], [3.75, 3.75, 2.25], strict=True)]
    assert official.rewards["regression"] == pytest.approx([*bells, 1.0])
    assert official.rewards["rank"] == pytest.approx(slow_fidelity([3, 1, 4, 2.25], case["mos"], case["video_id"]))
    assert official.rewards["temporal"] == [0.0, 0.0, 0.0, 0.3]  # one regression reward is above 0.9
    assert official.metrics["temporal_win_rate"] == 0.5
    for name, alpha in (("paper", 0.8), ("recommended", 1.0)):
        table = rewards.preset(name).score(TRICKY, **case)
        assert table.scores == [3.75, 3.75, 2.25, None]
        assert table.counters == {"completions": 4, "unparsable": 1, "out_of_range": 0}
        assert table.rewards["regression"] == [alpha, alpha, alpha, None]
        assert table.metrics["temporal_win_rate"] == 0.5


def test_the_rule_for_numbers_is_one_and_stays():
    official = rewards.preset("official")
    assert official.plus(rewards.Contrast()).rule == "official"
    assert official.without(["regression", "rank", "temporal"]).rule == "official"
    assert Rubric([Format()]).rule == rewards.preset("paper").rule == "recommended"
    with pytest.raises(ValueError, match=r"different rules, \{'regression': 'official', 'rank': 'recommended'\}"):
        Rubric([Regression(rule="official"), Ranking()])
    with pytest.raises(ValueError, match="regression has rule='official', ranking rule='recommended'"):
        Temporal(Regression(rule="official"), Ranking())
    for reward in (Regression, Ranking):
        with pytest.raises(ValueError, match="rule='last': must be one of"):
            reward(rule="last")


def test_rubric_weights_and_construction_errors():
    rubric = Rubric([Format(), Regression()], weights=[0.5, 2.0])
    assert rubric.score(answers([3.25]), mos=[3.25], video_id=["a"]).total == [2.5]
    for rewards_, weights, error, message in [
        ([], None, ValueError, "empty"),
        ([Format(), Format()], None, ValueError, "format"),
        ([Format()], [1, 2], ValueError, "2 weights"),
        ([Format()], [float("nan")], ValueError, "finite"),
        ([3], None, TypeError, "3"),
    ]:
        with pytest.raises(error, match=message):
            Rubric(rewards_, weights)
    with pytest.raises(ValueError, match="'best'"):
        rewards.preset("best")
    with pytest.raises(ValueError, match="scope='all'"):
        Temporal(Regression(), Ranking(), scope="all")


def test_rewards_survive_pickling():
    for name in rewards.PRESETS:
        rubric = pickle.loads(pickle.dumps(rewards.preset(name)))
        assert rubric.names == ["format", "regression", "rank", "temporal"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.floats(-5, 5))), min_size=1))
def test_advantages_of_each_group_sum_to_zero(rows):
    ids, values = [name for name, _ in rows], [value for _, value in rows]
    result = advantages(values, ids)
    for name in set(ids):
        assert sum(a for a, i in zip(result, ids, strict=True) if i == name) == pytest.approx(0, abs=1e-6)
    assert all(a == 0 for a, v in zip(result, values, strict=True) if v is None)


def test_advantages_are_those_of_trl():
    torch = pytest.importorskip("torch")
    values = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.25, 0.0]])
    expected = (values - values.mean(1, keepdim=True)) / (values.std(1, keepdim=True) + 1e-4)
    assert advantages(values.flatten().tolist(), list("aaabbb")) == pytest.approx(expected.flatten().tolist())


def test_groups_without_gradient_are_named():
    assert rewards.zero_gradient_groups([1, 1, 2, 3, None, 5], list("aabbcc")) == ["a", "c"]


def test_every_order_of_two_groups_gives_the_same_advantages():
    ids, values = list("aabb"), [1.0, 2.0, 3.0, 5.0]
    plain = dict(zip(zip(ids, values, strict=True), advantages(values, ids), strict=True))
    for order in itertools.permutations(range(4)):
        mixed = advantages([values[i] for i in order], [ids[i] for i in order])
        assert mixed == pytest.approx([plain[ids[i], values[i]] for i in order])


def test_a_rubric_can_gain_and_lose_rewards():
    rubric = rewards.preset("recommended").plus(rewards.Distortion(), 0.5)
    assert rubric.names == ["format", "regression", "rank", "temporal", "distortion"] and rubric.weights[-1] == 0.5
    assert rubric.without(["rank", "format"]).names == ["regression", "temporal", "distortion"]
    official = rewards.preset("official").without(["regression", "rank", "temporal"])
    assert official.weighted([3]).weights == [3] and official.weighted([3]).rule == official.rule == "official"
    with pytest.raises(ValueError, match=r"\['fun'\].*format"):
        rubric.without(["fun"])
