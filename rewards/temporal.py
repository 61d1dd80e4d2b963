"""Temporal consistency reward (VQAThinker Eq. 8-9): the original should earn more than its perturbed copy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .parsing import group_indices, scores_of
from .ranking import Ranking, check_groups, fidelity_ranking
from .regression import Regression

SCOPES = ("group", "batch", "response")


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def temporal_bonus(
    original: Sequence[float | None],
    perturbed: Sequence[float | None],
    video_id: Sequence[Hashable],
    scope: str,
    delta: float = 0.3,
    tau: float = 0.5,
) -> list[float | None]:
    """The bonus of one reward type t for each response.

    With r the rewards of a video's K responses and r' those of its perturbed copy:

    - `"group"` (paper, Eq. 8): delta if mean(r) >= mean(r') and mean(r) > tau. Equal for all K responses of a video, so
      the group mean of GRPO removes it: it has no gradient.
    - `"batch"` (published code): delta for a response with r_k > tau if the mean over the *whole batch* beats the
      perturbed batch's mean.
    - `"response"` (recommended): delta if r_k > mean(r') and r_k > tau, so that each response earns its own.

    Args:
        original: N rewards of type t.
        perturbed: N rewards of the perturbed copies' responses, grouped by the same `video_id`; `None` = not scorable.
        video_id: N group names.
        scope: See above.
        delta: Bonus.
        tau: Confidence threshold.

    Returns:
        N values in {0, delta}; `None` where the response, or every response of the perturbed copy, is unscorable.
    """
    members = group_indices(video_id)
    means = {
        name: (_mean([original[i] for i in index]), _mean([perturbed[i] for i in index]))
        for name, index in members.items()
    }
    compared = [i for i, name in enumerate(video_id) if not np.isnan(means[name][1])]
    batch_wins = _mean([original[i] for i in compared]) > _mean([perturbed[i] for i in compared])

    bonuses: list[float | None] = []
    for value, name in zip(original, video_id, strict=True):
        mean, mean_perturbed = means[name]
        if value is None or np.isnan(mean_perturbed):
            bonuses.append(None)
        elif scope == "group":
            bonuses.append(delta * (mean >= mean_perturbed and mean > tau))
        elif scope == "batch":
            bonuses.append(delta * (batch_wins and value > tau))
        else:
            bonuses.append(delta * (value > mean_perturbed and value > tau))
    return bonuses


class Temporal:
    """Temporal consistency reward: the sum of the bonuses for the regression and the ranking reward.

    The perturbed copies' rewards are compared only; they are never trained on. Numbers are found in the answers by the
    `rule` of the two rewards.

    Args:
        regression: The regression reward that is compared.
        ranking: The ranking reward that is compared.
        scope: `"group"`, `"batch"` or `"response"`, see `temporal_bonus`.
        delta: Bonus of each type (0.3).
        tau_regression: Threshold for the regression reward (paper 0.5, published code 0.9).
        tau_rank: Threshold for the ranking reward (0.5).
        name: Metric key.

    Raises:
        ValueError: If `scope` is unknown, or the two rewards have different rules.

    A perturbed copy is ranked against the other videos' perturbed copies in scopes "group" and "batch" (the reward is
    evaluated on the perturbed batch as on any batch) and against their originals in scope "response", so that nothing
    but its own perturbation separates the two numbers.
    """

    needs_perturbed = True
    compares_videos = True
    floor = 0.0

    def __init__(
        self,
        regression: Regression,
        ranking: Ranking,
        scope: str = "response",
        delta: float = 0.3,
        tau_regression: float = 0.5,
        tau_rank: float = 0.5,
        name: str = "temporal",
    ) -> None:
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r}: must be one of {SCOPES}.")
        if regression.rule != ranking.rule:
            raise ValueError(
                f"regression has rule={regression.rule!r}, ranking rule={ranking.rule!r}: give both the same rule, so "
                "that both read the same score from an answer."
            )
        self.regression, self.ranking, self.scope, self.rule = regression, ranking, scope, ranking.rule
        self.delta, self.tau_regression, self.tau_rank = delta, tau_regression, tau_rank
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Sequence[float | None],
        *,
        video_id: Sequence[Hashable] | None = None,
        perturbed_completions: Sequence[Any] | None = None,
        log_metric: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """One value in {0, delta, 2 delta} per completion, `None` where there is no perturbed answer to compare with.

        Args:
            completions: N texts or message lists.
            mos: N labels.
            video_id: N group names.
            perturbed_completions: N answers to the perturbed copies (entry i belongs to `video_id[i]`), `None` entries
                where there is none; `None` altogether makes every value `None`.
            log_metric: TRL's hook; gets `temporal_win_rate`, the share of videos whose mean score is higher than their
                perturbed copy's.

        Raises:
            ValueError: As `Ranking`, or if `perturbed_completions` has another length.
        """
        ids = check_groups(completions, mos, video_id)
        if perturbed_completions is None:
            return [None] * len(completions)
        if len(perturbed_completions) != len(completions):
            raise ValueError(
                f"perturbed_completions has {len(perturbed_completions)} entries for {len(completions)} completions: "
                "give one per completion, None for no copy."
            )
        answers = [answer if answer is not None else "" for answer in perturbed_completions]
        regression = temporal_bonus(
            self.regression(completions, mos),
            self.regression(answers, mos),
            ids, self.scope, self.delta, self.tau_regression,
        )  # fmt: skip
        rank = temporal_bonus(
            self.ranking(completions, mos, video_id=ids),
            self._perturbed_rank(completions, answers, mos, ids),
            ids, self.scope, self.delta, self.tau_rank,
        )  # fmt: skip
        if log_metric is not None:
            rate = win_rate(completions, answers, ids, self.rule)
            if rate is not None:
                log_metric("temporal_win_rate", rate)
        return [
            None if a is None and b is None else (a or 0.0) + (b or 0.0) for a, b in zip(regression, rank, strict=True)
        ]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label and an answer to a perturbed copy; one without a value cannot be scored."""
        return row.get("mos") is not None and row.get("perturbed_completions") is not None

    def _perturbed_rank(
        self, completions: Sequence[Any], answers: Sequence[Any], mos: Sequence[Any], video_id: Sequence[Hashable]
    ) -> list[float | None]:
        allowed = self.ranking.allow_out_of_range
        originals = scores_of(completions, allowed, self.rule) if self.scope == "response" else None
        scores = scores_of(answers, allowed, self.rule)
        return fidelity_ranking(scores, mos, video_id, self.ranking.tie, self.ranking.eps, originals)


def win_rate(
    completions: Sequence[Any],
    perturbed_completions: Sequence[Any],
    video_id: Sequence[Hashable],
    rule: str = "recommended",
) -> float | None:
    """Share of videos whose mean score exceeds their perturbed copy's (ties count half).

    Args:
        completions: N answers.
        perturbed_completions: N answers to the perturbed copies.
        video_id: N group names.
        rule: How a number is found in an answer, see `parse_answer`.

    Returns:
        A share in [0, 1]; `None` when no video has a scorable answer on both sides.
    """
    scores, perturbed = scores_of(completions, rule=rule), scores_of(perturbed_completions, rule=rule)
    wins = []
    for index in group_indices(video_id).values():
        difference = _mean([scores[i] for i in index]) - _mean([perturbed[i] for i in index])
        if not np.isnan(difference):
            wins.append(0.5 + 0.5 * np.sign(difference))
    return float(np.mean(wins)) if wins else None
