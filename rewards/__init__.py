"""Rewards for no-reference video quality assessment by reinforcement learning.

>>> import rewards
>>> rubric = rewards.preset("recommended")
>>> answers = ["<think>sharp</think><answer>4.21</answer>", "<think>blurry</think><answer>3.95</answer>"]
>>> answers += ["<think>blocky</think><answer>1.52</answer>", "I cannot tell."]
>>> table = rubric.score(answers, mos=[4.3, 4.3, 1.6, 1.6], video_id=["a", "a", "b", "b"])
>>> [round(r, 2) for r in table.rewards["regression"][:3]], table.rewards["regression"][3]
([0.98, 0.78, 0.99], None)
>>> table.counters["unparsable"]
1

Every reward is also a stand-alone TRL / ms-swift reward function, and so is a rubric:
`GRPOTrainer(reward_funcs=[rewards.Regression()])`. For other trainers see `python -m rewards.adapters`.
Needs numpy only.
"""

from .advantages import advantages, zero_gradient_groups
from .answer_places import ParsedValues, box_iou, interval_iou, parse_box, parse_count, parse_interval
from .choice import Choice, ParsedChoice, choice_index, letter, parse_choice
from .comparison import (
    COMPARISON_WORDS,
    PairAgreement,
    PairOrder,
    PairWord,
    ParsedComparison,
    pair_order_fidelity,
    parse_comparison,
    word_reward,
)
from .comparisons import Length, Linear, Threshold, linear_reward, threshold_reward
from .contrast import Contrast, contrast_fidelity, order_fidelity
from .distortion import Distortion, distortion_reward
from .format import Format, format_reward
from .level import LEVEL_WEIGHTS, LEVEL_WORDS, Level, ParsedLevel, level_of, level_words, parse_level
from .pairwise import BradleyTerry, ProductHinge, product_hinge, tie_likelihood
from .parsing import ParsedAnswer, parse_answer, text_of
from .places import Count, When, Where
from .presets import PRESETS, REWARDS, named_rewards, preset
from .processes import gathered
from .ranking import Ranking, fidelity_ranking
from .regression import Regression, gaussian_regression
from .reward import FLAGS, Reward, check_reward
from .rubric import RewardTable, Rubric
from .severity import Severity
from .temporal import Temporal, temporal_bonus
from .terms import KeyTerms, key_term_f1, key_terms

__all__ = [
    "COMPARISON_WORDS",
    "FLAGS",
    "LEVEL_WEIGHTS",
    "LEVEL_WORDS",
    "PRESETS",
    "REWARDS",
    "BradleyTerry",
    "Choice",
    "Contrast",
    "Count",
    "Distortion",
    "Format",
    "KeyTerms",
    "Length",
    "Level",
    "Linear",
    "PairAgreement",
    "PairOrder",
    "PairWord",
    "ParsedAnswer",
    "ParsedChoice",
    "ParsedComparison",
    "ParsedLevel",
    "ParsedValues",
    "ProductHinge",
    "Ranking",
    "Regression",
    "Reward",
    "RewardTable",
    "Rubric",
    "Severity",
    "Temporal",
    "Threshold",
    "When",
    "Where",
    "advantages",
    "box_iou",
    "check_reward",
    "choice_index",
    "contrast_fidelity",
    "distortion_reward",
    "fidelity_ranking",
    "format_reward",
    "gathered",
    "gaussian_regression",
    "interval_iou",
    "key_term_f1",
    "key_terms",
    "letter",
    "level_of",
    "level_words",
    "linear_reward",
    "named_rewards",
    "order_fidelity",
    "pair_order_fidelity",
    "parse_answer",
    "parse_box",
    "parse_choice",
    "parse_comparison",
    "parse_count",
    "parse_interval",
    "parse_level",
    "preset",
    "product_hinge",
    "temporal_bonus",
    "text_of",
    "threshold_reward",
    "tie_likelihood",
    "word_reward",
    "zero_gradient_groups",
]
