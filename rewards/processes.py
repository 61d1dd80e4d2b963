"""Rewards that compare clips, in trainers that hand each process its own answers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

from .reward import check_reward


def gathered(reward: Callable[..., Any]) -> Callable[..., list[float | None]]:
    """A reward that sees the answers of all processes, as a TRL / ms-swift reward function.

    Stock TRL and ms-swift call a reward with the answers of one process, so that one that compares clips may see a
    single clip. Here every process gathers those of all, and keeps the values of its own. Without several processes of
    `torch.distributed` it is the reward. `VQAGRPOTrainer` gathers by itself and does not take it.

    Args:
        reward: The reward; every process must call it equally often. A `Rubric` is one.

    Returns:
        A function of the reward's `__name__`. The reward gets, for all answers, the columns that are plain data in
        every process (numbers, texts, `None`, and lists and dictionaries of them). Others, with pictures or arrays, are
        left out, with a warning that names them.
        What is no column (`trainer_state`, `log_metric`) is that of the own process.

    Raises:
        TypeError: If the reward is none, or a coroutine function.

    Example:
        >>> from rewards import Ranking
        >>> gathered(Ranking()).__name__
        'rank'
    """
    check_reward(reward)
    if inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(type(reward).__call__):
        raise TypeError(f"reward {reward.__name__!r} is a coroutine function: gathered takes plain ones.")

    def of_all_processes(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        dist = _processes()
        if dist is None:
            return reward(completions=completions, **columns)
        count = len(completions)
        listed = {key for key, value in columns.items() if _is_column(value, count)}
        own = {key: columns[key] for key in listed if _plain(columns[key])}
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, (list(completions), own))
        shared = set.intersection(*(set(theirs) for _, theirs in parts))
        whole = {key: [value for _, theirs in parts for value in theirs[key]] for key in shared}
        if missing := sorted(listed - shared):
            warnings.warn(f"{reward.__name__} does not see {missing}: no plain data in every process.", stacklevel=2)
        rest = {key: value for key, value in columns.items() if key not in listed}
        start = sum(len(texts) for texts, _ in parts[: dist.get_rank()])
        if log_extra := rest.get("log_extra"):
            rest["log_extra"] = lambda name, values: log_extra(name, values[start : start + count])
        values = reward(completions=[text for texts, _ in parts for text in texts], **whole, **rest)
        return list(values)[start : start + count]

    of_all_processes.__name__ = reward.__name__
    of_all_processes.is_gathered = True  # type: ignore[attr-defined]  # see check_reward
    return of_all_processes


def _processes() -> Any:
    """`torch.distributed` where there are several processes, else `None`."""
    try:
        import torch.distributed as dist
    except ImportError:
        return None
    return dist if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else None


def _is_column(value: Any, count: int) -> bool:
    """Whether it has an entry for each answer: a list, or an array of one dimension or more."""
    shape = (len(value),) if isinstance(value, (list, tuple)) else getattr(value, "shape", ())
    return tuple(shape)[:1] == (count,)


def _plain(value: Any) -> bool:
    """Whether it is a number, text or `None`, or lists, tuples or dictionaries of such."""
    if isinstance(value, Mapping):
        return all(map(_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (str, Number))
