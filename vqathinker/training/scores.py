"""Rewards and metrics of the answers of all processes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import torch

from vqathinker.data.scales import LABEL_RANGE
from vqathinker.metrics.correlation import plcc, srcc
from vqathinker.rewards import Rubric, zero_gradient_groups
from vqathinker.rewards.answer_number import SCORE_RANGE
from vqathinker.rewards.parsing import group_indices
from vqathinker.tasks import by_task, task_of
from vqathinker.training.groups import GROUP_COLUMNS, group_of

T = TypeVar("T")


def kind_of(row: Mapping[str, Any], ladders: bool) -> tuple[str, bool, bool, bool]:
    """What tells apart rows that are paid by different rewards: task, whether it is a perturbed copy, and, where
    rewards compare `ladders`, whether it is a rung, and one without a label."""
    rung = ladders and row.get("ladder") is not None
    return task_of(row).name, row.get("copy_of") is not None, rung, rung and row.get("mos") is None


class GlobalScores:
    """Rewards and metrics of one global batch.

    Attributes:
        rewards: (rows, rewards) float32, NaN = not scorable.
        metrics: Name -> value; NaN where undefined.
    """

    def __init__(self, rewards: torch.Tensor, metrics: dict[str, float]) -> None:
        self.rewards, self.metrics = rewards, metrics


def score_global_batch(
    rubric: Rubric,
    rows: list[dict[str, Any]],
    floor: bool = False,
    log_extra: Callable[[str, list[Any]], None] = lambda column, values: None,
    **shared: Any,
) -> GlobalScores:
    """Score the answers of all processes in one call, so that the process count cannot matter.

    Args:
        rubric: The rewards.
        rows: One dict per answer: `completion`, `perturbed` (text or `None`), `mos`, `video_id`, `prompt`, `readable`,
            and the data set's further columns; for a perturbed copy that is trained on `copy_of`, the `video_id` of its
            original.
        floor: Give the answers that a reward cannot score its `floor`, see `Rubric.floored`, and count these rewards in
            the metric `floored_rewards`.
        log_extra: Gets the columns that rewards log by TRL's argument of this name, with a value for each row, `None`
            for one that they do not see.
        shared: What TRL hands to every reward and is no column (`trainer_state`).

    Returns:
        `GlobalScores`. Rows of unreadable clips are all NaN; so are the rewards that compare clips when fewer than two
        readable ones are left.
    """
    values = torch.full((len(rows), len(rubric.names)), float("nan"))
    keep = [i for i, row in enumerate(rows) if row["readable"]]
    ids = [group_of(rows[i]) for i in keep]
    skipped = len({group_of(row) for row in rows if not row["readable"] and row.get("copy_of") is None})
    metrics = {"skipped_clips": float(skipped)}
    names = list(rubric.names)
    if len(set(ids)) < 2:
        comparing = [reward.__name__ for reward in rubric.rewards if getattr(reward, "compares_videos", False)]
        if not ids or len(comparing) == len(names):
            return GlobalScores(values, metrics)
        rubric = rubric.without(comparing)  # weights and the rule for numbers stay
    own = {"completion", "perturbed", "readable", "mos", *GROUP_COLUMNS, "prompt"}
    columns = {key: [rows[i][key] for i in keep] for key in rows[0] if key not in own}

    def log_rows(column: str, values: Sequence[Any]) -> None:
        known = dict(zip(keep, values, strict=True))
        log_extra(column, [known.get(i) for i in range(len(rows))])

    perturbed = [rows[i]["perturbed"] for i in keep]
    mos = [rows[i].get("mos") for i in keep]
    table = rubric.score(
        [rows[i]["completion"] for i in keep],
        mos=mos,
        video_id=ids,
        sample_id=ids,
        perturbed_completions=perturbed if any(text is not None for text in perturbed) else None,
        prompts=[rows[i]["prompt"] for i in keep],
        log_extra=log_rows,
        **columns,
        **shared,
    )
    if floor:
        table = rubric.floored(table, [{**rows[i], "perturbed_completions": rows[i]["perturbed"]} for i in keep])
        metrics["floored_rewards"] = float(table.counters["floored"])
    for name, rewards in table.rewards.items():
        known = [float("nan") if value is None else value for value in rewards]
        values[keep, names.index(name)] = torch.tensor(known, dtype=values.dtype)
    metrics |= table.metrics | _within_groups(ids, table.total)
    for task, places in by_task([rows[i] for i in keep]).items():
        if task.name == "score":
            found = [table.scores[i] for i in places]
            metrics |= _score_metrics([ids[i] for i in places], found, [mos[i] for i in places])
            metrics |= _ladder_order([rows[keep[i]] for i in places], [ids[i] for i in places], found)
        else:
            asked = [rows[keep[i]] for i in places]
            metrics |= task.measure([row["completion"] for row in asked], asked)
    return GlobalScores(values, metrics)


def _score_metrics(ids: Sequence[str], found: Sequence[float | None], mos: Sequence[float | None]) -> dict[str, float]:
    """Of the answers with a number, found by the rubric's rule, or none."""
    scores = _plausible(found)
    means, labels = _mean_per_video(ids, scores, mos)
    asked_for = [score is not None and not SCORE_RANGE[0] <= score <= SCORE_RANGE[1] for score in found]
    return {
        "parse_rate": 1 - sum(score is None for score in found) / len(found),
        "out_of_range_rate": sum(asked_for) / len(found),
        "srcc": srcc(means, labels),
        "plcc": plcc(means, labels),
        "score_spread": float(np.std(means) / np.std(labels)) if np.ptp(labels or [0]) else float("nan"),
    } | _sameness(ids, scores)


def _plausible(found: Sequence[float | None]) -> list[float | None]:
    """Scores that lie where labels may: a slip like 34.2 must not sway a mean."""
    low, high = LABEL_RANGE
    return [score if score is not None and low <= score <= high else None for score in found]


def _ladder_order(
    rows: Sequence[Mapping[str, Any]], ids: Sequence[str], found: Sequence[float | None]
) -> dict[str, float]:
    """Share of pairs of rungs whose mean answers are in order, a tie as half of one: one minus the batch's flip rate.
    NaN where no two rungs of a ladder have an answer with a number; nothing where the batch has no rungs."""
    known = [(row.get("ladder"), row.get("rank")) for row in rows]
    if all(ladder is None for ladder, _ in known):  # a column rank alone is somebody's own
        return {}
    rungs: dict[Any, list[tuple[float, float]]] = {}
    for (ladder, rank), mean in _means(ids, known, _plausible(found)):
        if ladder is not None and rank is not None:
            rungs.setdefault(ladder, []).append((float(rank), mean))
    pairs = [pair for ladder in rungs.values() for pair in combinations(sorted(ladder), 2) if pair[0][0] < pair[1][0]]
    leads = [np.sign(mild - hard) for (_, mild), (_, hard) in pairs]
    return {"ladder_order": float(0.5 + 0.5 * np.mean(leads)) if leads else float("nan")}


def _sameness(ids: Sequence[str], scores: Sequence[float | None]) -> dict[str, float]:
    """How alike the answers are, within groups and over the whole batch."""
    pairs = [(name, score) for name, score in zip(ids, scores, strict=True) if score is not None]
    if not pairs:
        return {"identical_answers": float("nan"), "common_score": float("nan")}
    counts, overall = Counter(pairs), Counter(score for _, score in pairs)
    return {
        "identical_answers": sum(count for count in counts.values() if count > 1) / len(pairs),
        "common_score": max(overall.values()) / len(pairs),
    }


def _within_groups(ids: Sequence[str], totals: Sequence[float]) -> dict[str, float]:
    """What GRPO has to learn from: how far total rewards differ among the answers to one clip."""
    values = np.array(totals)
    groups = [
        known for index in group_indices(ids).values() if len(known := values[index][~np.isnan(values[index])]) > 1
    ]
    return {
        "group_reward_std": float(np.mean([np.std(known, ddof=1) for known in groups])) if groups else float("nan"),
        "zero_gradient_groups": len(zero_gradient_groups(totals, ids)) / len(set(ids)),
    }


def _mean_per_video(
    ids: Sequence[str], scores: Sequence[float | None], mos: Sequence[float | None]
) -> tuple[list[float], list[float]]:
    labelled = [(mean, label) for label, mean in _means(ids, mos, scores) if label is not None]
    return [mean for mean, _ in labelled], [label for _, label in labelled]


def _means(ids: Sequence[str], known: Sequence[T], scores: Sequence[float | None]) -> list[tuple[T, float]]:
    """What is known of each video, and its mean score, where it has one."""
    found = []
    for index in group_indices(ids).values():
        if own := [score for i in index if (score := scores[i]) is not None]:
            found.append((known[index[0]], float(np.mean(own))))
    return found
