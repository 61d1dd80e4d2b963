"""`Rubric`: several rewards with weights, scored over one batch into one table."""

from __future__ import annotations

import asyncio
import inspect
import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from .parsing import RULES, parse_answer
from .reward import check_reward

RewardFunction = Callable[..., Any]


@dataclass(frozen=True)
class RewardTable:
    """Rewards of one batch of N completions.

    Attributes:
        rewards: Reward name -> N unweighted values, `None` where not scorable.
        weights: Reward name -> weight.
        total: N weighted sums over the scorable rewards; NaN where none is scorable.
        scores: N parsed scores by the rubric's `rule`, `None` where the answer cannot be parsed; never clamped.
        counters: `completions`, `unparsable`, `out_of_range`; `floored` in a table of `Rubric.floored`.
        metrics: What rewards reported through `log_metric`.
    """

    rewards: dict[str, list[float | None]]
    weights: dict[str, float]
    total: list[float]
    scores: list[float | None]
    counters: dict[str, int]
    metrics: dict[str, float]


class Rubric:
    """A weighted list of rewards.

    Rewards are called by keyword as TRL's are, in any of its forms, coroutine functions among them.

    A reward may say by `applies(row)` to which rows it applies, and have a `floor`, see `floored`.

    It is itself a reward function for trainers that take one (stock TRL, ms-swift): `rubric(completions, **columns)`
    gives the weighted sum of each completion. `VQAGRPOTrainer` takes its rewards one by one.

    `rule` is how it finds a number in an answer (see `parse_answer`): as those of its rewards that have a `rule` do,
    or `"recommended"` where none has.

    Args:
        rewards: Rewards, see `Reward`, each with its own `__name__`.
        weights: One finite weight per reward; default 1 each.

    Raises:
        ValueError: If the list is empty, two rewards share a name or have different rules, or a weight is missing or
            not finite, or a reward's flag is misspelt.
        TypeError: If a reward is none, see `check_reward`, or a rubric.

    Attributes:
        __name__: Metric key of the sum, "rubric"; two rubrics in one trainer need different ones.

    Example:
        >>> from rewards import Format, Regression, Rubric
        >>> Rubric([Format(), Regression()], weights=[0.5, 1.0]).names
        ['format', 'regression']
    """

    def __init__(self, rewards: Sequence[RewardFunction], weights: Sequence[float] | None = None) -> None:
        rewards = list(rewards)
        weights = [1.0] * len(rewards) if weights is None else [float(w) for w in weights]
        if not rewards:
            raise ValueError("rewards is empty: a rubric needs at least one reward.")
        for reward in rewards:
            if isinstance(reward, Rubric):
                raise TypeError(f"a reward is a Rubric {reward.names}: give its rewards, [*rubric.rewards, ...].")
            check_reward(reward)
        self.__name__ = "rubric"
        self.rewards = rewards
        self.names: list[str] = [reward.__name__ for reward in rewards]
        duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
        if duplicates:
            raise ValueError(f"two rewards are named {duplicates}: give one of them another name=...")
        known = {reward.__name__: getattr(reward, "rule", None) for reward in rewards}
        rules = {name: rule for name, rule in known.items() if rule in RULES}
        if len(set(rules.values())) > 1:
            raise ValueError(f"the rewards have different rules, {rules}: give all of them the same rule=...")
        self.rule = next(iter(rules.values()), "recommended")
        if len(weights) != len(rewards):
            raise ValueError(
                f"weights={weights}: {len(weights)} weights for {len(rewards)} rewards {self.names}: give one each, in "
                "this order."
            )
        if not all(math.isfinite(weight) for weight in weights):
            raise ValueError(f"weights={weights}: every weight must be a finite number.")
        self.weights = weights

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Sequence[float | None] | None = None,
        *,
        video_id: Sequence[Hashable] | None = None,
        log_metric: Callable[[str, float], Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The weighted sum of each completion as a TRL / ms-swift reward function; `None` where nothing can be scored.

        Args:
            completions: N texts or message lists.
            mos: N labels, where a reward needs them; likewise the next.
            video_id: N group names.
            log_metric: TRL's hook; gets the mean of each reward and the counters as shares of the completions,
                "rubric/format" and so on, and what the rewards report.
            columns: As for `score`.

        Raises:
            ValueError: As `score`.

        Warns:
            UserWarning: If a reward needs answers to perturbed copies, which no trainer but `VQAGRPOTrainer` makes, and
                there is no column of them: it then pays nothing.
        """
        table = self.score(completions, mos, video_id, **columns)  # type: ignore[arg-type]  # rewards see to columns
        needy = [reward.__name__ for reward in self.rewards if getattr(reward, "needs_perturbed", False)]
        if needy and columns.get("perturbed_completions") is None:
            warnings.warn(
                f"{needy} get no answers to perturbed copies here and pay nothing: leave them out, "
                f"rubric.without({needy}).",
                stacklevel=2,
            )
        if log_metric is not None:
            for name, value in self._reported(table).items():
                log_metric(name, value)
        return [None if math.isnan(value) else value for value in table.total]

    def _reported(self, table: RewardTable) -> dict[str, float]:
        """Means of the rewards and shares of the counters, by name; what the rewards report as it is."""
        known = {name: [v for v in values if v is not None] for name, values in table.rewards.items()}
        means = {name: sum(values) / len(values) for name, values in known.items() if values}
        shares = {name: table.counters[name] / len(table.total) for name in ("unparsable", "out_of_range")}
        return {f"{self.__name__}/{name}": value for name, value in (means | shares).items()} | table.metrics

    def plus(self, reward: RewardFunction, weight: float = 1.0) -> Rubric:
        """A new rubric with one more reward."""
        return Rubric([*self.rewards, reward], [*self.weights, weight])

    def weighted(self, weights: Sequence[float]) -> Rubric:
        """A new rubric with the same rewards and other weights, one finite number each, in the order of `names`.

        Raises:
            ValueError: If a weight is missing, or not finite.
        """
        rubric = Rubric(self.rewards, weights)
        rubric.rule = self.rule
        return rubric

    def without(self, names: Sequence[str]) -> Rubric:
        """A new rubric without some of the rewards; its `rule` stays.

        Raises:
            ValueError: If a name is unknown, or no reward is left.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ValueError(f"without={unknown}: the rubric has {self.names}.")
        kept = [i for i, name in enumerate(self.names) if name not in names]
        rubric = Rubric([self.rewards[i] for i in kept], [self.weights[i] for i in kept])
        rubric.rule = self.rule
        return rubric

    def score(
        self,
        completions: Sequence[Any],
        mos: Sequence[float | None],
        video_id: Sequence[Hashable],
        perturbed_completions: Sequence[Any] | None = None,
        **columns: Any,
    ) -> RewardTable:
        """Score a batch. Give the global batch: rewards that compare videos see what is in it and nothing else.

        Args:
            completions: N texts or message lists.
            mos: N labels on the 1-5 scale.
            video_id: N group names.
            perturbed_completions: N answers to the perturbed copies, or `None`.
            columns: What else every reward is handed, by name: columns with N entries, or what TRL gives
                (`trainer_state`, `log_extra`).

        Returns:
            A `RewardTable`.

        Raises:
            ValueError: If a reward rejects the batch, or returns another number of values.
        """
        metrics: dict[str, float] = {}
        found = [
            reward(
                completions=completions,
                mos=mos,
                video_id=video_id,
                perturbed_completions=perturbed_completions,
                log_metric=metrics.__setitem__,
                **columns,
            )
            for reward in self.rewards
        ]
        table = dict(zip(self.names, _awaited(found), strict=True))
        for name, values in table.items():
            if len(values) != len(completions):
                raise ValueError(f"reward {name!r} returned {len(values)} values for {len(completions)} completions.")
        answers = [parse_answer(completion, rule=self.rule) for completion in completions]
        return RewardTable(
            rewards=table,
            weights=dict(zip(self.names, self.weights, strict=True)),
            total=self._total(table),
            scores=[answer.score for answer in answers],
            counters={
                "completions": len(answers),
                "unparsable": sum(answer.score is None for answer in answers),
                "out_of_range": sum(answer.status == "out_of_range" for answer in answers),
            },
            metrics=metrics,
        )

    def floored(self, table: RewardTable, rows: Sequence[Mapping[str, Any]]) -> RewardTable:
        """`None` says that a reward does not apply, or that the answer cannot be scored: give the latter its `floor`.

        For rewards that are normalized one by one before they are summed (GDPO, TRL's `normalize_then_sum`): there a
        missing value counts as the mean, so that an answer without a number would earn more than a wrong one.

        Args:
            table: What `score` returned.
            rows: For each completion its entries of the columns given to `score` (`mos`, `video_id`,
                `perturbed_completions`, ...).

        Returns:
            A new table. Every missing value of a row to which its reward `applies` is the reward's `floor`;
            `counters["floored"]` tells how many were. As they are stay rewards without `applies`, and those that
            compare videos where the batch holds nothing to compare (no value at all).

        Raises:
            ValueError: If there are not as many rows as completions.
        """
        rewards, count = {}, 0
        for reward, (name, values) in zip(self.rewards, table.rewards.items(), strict=True):
            missing = [value is None or math.isnan(value) for value in values]
            applies = getattr(reward, "applies", None)
            if applies is None or (all(missing) and getattr(reward, "compares_videos", False)):
                rewards[name] = values
                continue
            failed = [gone and applies(row) for gone, row in zip(missing, rows, strict=True)]
            floor = getattr(reward, "floor", 0.0)
            rewards[name] = [floor if bad else value for bad, value in zip(failed, values, strict=True)]
            count += sum(failed)
        counters = table.counters | {"floored": count}
        return replace(table, rewards=rewards, total=self._total(rewards), counters=counters)

    def _total(self, table: dict[str, list[float | None]]) -> list[float]:
        totals = []
        for row in zip(*table.values(), strict=True):
            known = [w * v for w, v in zip(self.weights, row, strict=True) if v is not None and not math.isnan(v)]
            totals.append(float(sum(known)) if known else float("nan"))
        return totals


def _awaited(results: list[Any]) -> list[list[float | None]]:
    """What rewards returned; those that are coroutine functions (a judge behind a network) run at the same time."""
    pending = [place for place, result in enumerate(results) if inspect.isawaitable(result)]
    if not pending:
        return results

    async def finish() -> list[list[float | None]]:
        return await asyncio.gather(*(results[place] for place in pending))

    with ThreadPoolExecutor(1) as thread:  # a caller's own event loop, in a notebook, cannot run another
        done = dict(zip(pending, thread.submit(asyncio.run, finish()).result(), strict=True))
    return [done.get(place, result) for place, result in enumerate(results)]
