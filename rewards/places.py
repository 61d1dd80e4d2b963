"""Rewards for when, where and how often something is: overlap with the right interval or box, distance of a count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .answer_places import BOX_RANGE, ParsedValues, box_iou, interval_iou, parse_box, parse_count, parse_interval
from .parsing import check_columns

Logger = Callable[[str, float], Any]


def check_interval(values: Any) -> tuple[float, float]:
    """An interval (start, end) in seconds.

    Raises:
        ValueError: If it is anything but two numbers, 0 <= start < end.
    """
    start, end = found = _numbers(values, 2, "an interval (start, end) in seconds, 0 <= start < end, e.g. (1.2, 2.4)")
    if not 0 <= start < end:
        raise ValueError(f"interval {list(found)}: must be start and end in seconds, 0 <= start < end, e.g. 1.2-2.4.")
    return start, end


def check_box(values: Any) -> tuple[float, float, float, float]:
    """A box (x1, y1, x2, y2) in percent of a frame's width and height.

    Raises:
        ValueError: If it is anything but four numbers in 0-100, x1 < x2, y1 < y2.
    """
    rule = "(x1, y1, x2, y2): left, top, right, bottom in percent of width and height, 0 to 100, x1 < x2, y1 < y2"
    x1, y1, x2, y2 = found = _numbers(values, 4, f"a box {rule}")
    if not (BOX_RANGE[0] <= x1 < x2 <= BOX_RANGE[1] and BOX_RANGE[0] <= y1 < y2 <= BOX_RANGE[1]):
        raise ValueError(f"box {list(found)}: must be {rule}, e.g. (10, 20, 60, 80).")
    return x1, y1, x2, y2


def check_count(value: Any) -> tuple[int]:
    """A count, as a tuple of one.

    Raises:
        ValueError: If it is no whole number from 0 on.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"count {value!r}: must be a whole number from 0 on.")
    return (value,)


def _numbers(values: Any, size: int, wanted: str) -> tuple[float, ...]:
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == size
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise ValueError(f"{values!r:.120}: must be {wanted}.")
    return tuple(float(value) for value in values)


def count_value(found: Sequence[float], right: Sequence[float]) -> float:
    """exp(-|n - m|) of two counts: 1, 0.37, 0.14, ..."""
    return math.exp(-abs(found[0] - right[0]))


class When:
    """Overlap of the interval that an answer names with the right one: interval IoU (as VideoChat-R1, arXiv 2504.06958,
    pays temporal grounding).

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "when") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        answer_interval: Sequence[Sequence[float] | None] | None = None,
        log_metric: Logger | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]: 0.0 where no interval is named (`parse_interval`); `None` for rows without a right one.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            answer_interval: N right intervals (start, end) in seconds; `None` for rows of other tasks.
            log_metric: TRL's hook; gets `when_unparsable`, the share of the answers without an interval.
            columns: Not needed.

        Raises:
            ValueError: If the column has another length, or an entry is no interval.
        """
        truths = {"answer_interval": answer_interval}
        return _paid(completions, truths, check_interval, parse_interval, interval_iou, self.__name__, log_metric)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a right interval."""
        return row.get("answer_interval") is not None


class Where:
    """Overlap of the box that an answer names with the right one: box IoU (as Visual-RFT, arXiv 2503.01785, pays
    detection).

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "where") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        answer_box: Sequence[Sequence[float] | None] | None = None,
        log_metric: Logger | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]: 0.0 where no box is named (`parse_box`); `None` for rows without a right one.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            answer_box: N right boxes (x1, y1, x2, y2), left, top, right and bottom in percent of width and height;
                `None` for rows of other tasks.
            log_metric: TRL's hook; gets `where_unparsable`, the share of the answers without a box.
            columns: Not needed.

        Raises:
            ValueError: If the column has another length, or an entry is no box.
        """
        truths = {"answer_box": answer_box}
        return _paid(completions, truths, check_box, parse_box, box_iou, self.__name__, log_metric)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a right box."""
        return row.get("answer_box") is not None


class Count:
    """exp(-|n - m|) of the number n that an answer gives, m being right: 1, 0.37, 0.14, ...

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "count") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        answer_count: Sequence[int | None] | None = None,
        log_metric: Logger | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]: 0.0 where there is no whole number (`parse_count`); `None` for rows without a right one.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            answer_count: N right counts, from 0 on; `None` for rows of other tasks.
            log_metric: TRL's hook; gets `count_unparsable`, the share of the answers without a whole number.
            columns: Not needed.

        Raises:
            ValueError: If the column has another length, or an entry is no count.
        """
        truths = {"answer_count": answer_count}
        return _paid(completions, truths, check_count, parse_count, count_value, self.__name__, log_metric)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a right count."""
        return row.get("answer_count") is not None


def _paid(
    completions: Sequence[Any],
    column: Mapping[str, Sequence[Any] | None],
    check: Callable[[Any], tuple[float, ...]],
    parse: Callable[[Any], ParsedValues],
    worth: Callable[[Sequence[float], Sequence[float]], float],
    name: str,
    log_metric: Logger | None,
) -> list[float | None]:
    """What N answers are worth, against the right values in a column."""
    [(key, truths)] = column.items()
    if truths is None:
        return [None] * len(completions)
    check_columns(completions, **column)
    values: list[float | None] = []
    unparsable = []
    for place, (completion, truth) in enumerate(zip(completions, truths, strict=True)):
        if truth is None:
            values.append(None)
            continue
        try:
            right = check(truth)
        except ValueError as error:
            raise ValueError(f"{key}[{place}]: {error}") from None
        found = parse(completion)
        values.append(worth(found.values, right) if found.values else 0.0)
        unparsable.append(not found.values)
    if log_metric is not None and unparsable:
        log_metric(f"{name}_unparsable", sum(unparsable) / len(unparsable))
    return values
