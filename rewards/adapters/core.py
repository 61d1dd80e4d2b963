"""What all adapters share: labels from one column, the rewards that can be paid there, and a number for each answer.

A trainer may load an adapter's file by its path, as a module outside any package, and a user's own `rewards.py` may
hide ours: adapters therefore import by the long name, `vqathinker.rewards.adapters.core`.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

from ..parsing import group_indices
from ..presets import PRESETS, REWARDS, named_rewards, preset
from ..rubric import Rubric

COPIES = ("needs_perturbed", "trains_copies")
"""Flags of rewards for which the trainer must sample answers to perturbed copies: here no other trainer does."""
OTHERS = ("compares_videos", "compares_rungs")
"""Flags of rewards that need the answers to other clips."""
MISSING = ("error", "leave out")
RESERVED = ("self", "completions", "perturbed_completions", "log_metric")


def label(value: Any) -> dict[str, Any]:
    """The columns of one answer, out of the one label column that most trainers have.

    Args:
        value: A MOS as a number or its text, or a mapping or its JSON text: `{"mos": 3.4, "video_id": "a", ...}`, with
            whatever other columns the rewards need.

    Returns:
        A new dictionary; `mos` is a finite number, or `None` where there is none (a question, say).

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> label("3.4"), label('{"mos": 3.4, "video_id": "a"}')
        ({'mos': 3.4}, {'mos': 3.4, 'video_id': 'a'})
    """
    found = _read(value)
    columns = dict(found) if isinstance(found, Mapping) else {"mos": found}
    if taken := sorted(set(columns) & set(RESERVED)):
        raise ValueError(f"label {value!r}: {taken} is what rewards get from the trainer. Rename the key.")
    mos = columns.get("mos")
    try:
        columns["mos"] = None if mos is None and isinstance(found, Mapping) else _number(mos)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'label {value!r}: must be a finite MOS, as 3.4 or "3.4", or JSON with the columns of the answer, as '
            '{"mos": 3.4, "video_id": "a"}.'
        ) from error
    return columns


@lru_cache(maxsize=64)  # a trainer asks for each answer; a warning comes once
def pointwise(rewards: Rubric | str = "recommended", missing: str | None = None) -> Rubric:
    """Of some rewards those that can be paid for one answer alone.

    Args:
        rewards: A rubric, the name of a preset, or rewards by name as `named_rewards` takes them
            (`"format,regression=0.5"`).
        missing: What happens to a reward that needs other clips of the batch or perturbed copies: `"error"` refuses it,
            `"leave out"` goes on without it and says so in a warning. Default: a preset's is left out, one that was
            asked for by name is refused.

    Raises:
        ValueError: If a reward is refused or unknown, none is left, or `missing` is neither.
    """
    return _payable(rewards, COPIES + OTHERS, missing, "one answer at a time")


@lru_cache(maxsize=64)
def whole_batch(rewards: Rubric | str = "recommended", missing: str | None = None) -> Rubric:
    """Of some rewards those that can be paid where a batch is seen as a whole: all that need no perturbed copy.

    Arguments and errors as `pointwise`.
    """
    return _payable(rewards, COPIES, missing, "the batch without perturbed copies")


def score(texts: Sequence[str], labels: Sequence[Any], rubric: Rubric) -> list[dict[str, float]]:
    """What each answer earns, in numbers alone, for trainers that cannot take `None`.

    A reward that does not apply to an answer adds 0; one that applies but cannot score it (no number, say) is worth its
    `floor` (0 unless the reward says otherwise, see `Rubric.floored`). No value is NaN.

    Args:
        texts: N answers; end-of-turn tokens at their end do not count.
        labels: N labels, see `label`.
        rubric: Rewards that can be paid here, see `pointwise` and `whole_batch`.

    Returns:
        For each answer `"score"`, the weighted sum, and every reward by name, without its weight. All have the same
        keys. Where no clip has two answers, as in a validation, rewards that compare clips are left out, with a
        warning.

    Raises:
        ValueError: If there are not as many labels as answers, a label is none, or it pays for nothing that the rubric
            has, or a reward rejects the batch (`Ranking` one of a single clip).
    """
    if len(texts) != len(labels):
        raise ValueError(f"{len(labels)} labels for {len(texts)} answers: give one each.")
    if not texts:
        return []
    rows = [label(value) for value in labels]
    rubric = _comparable(rubric, [row.get("video_id") for row in rows])
    for index, row in enumerate(rows):
        check_pays(rubric, row)
        if row.get("video_id") is None:  # without a name each is a group of its own
            row["video_id"] = f"answer {index}"
    keys = dict.fromkeys(key for row in rows for key in row)
    table = rubric.score(list(texts), **{key: [row.get(key) for row in rows] for key in keys})
    values = {name: [_or_zero(v) for v in column] for name, column in rubric.floored(table, rows).rewards.items()}
    return [
        {"score": sum(w * v for w, v in zip(rubric.weights, row, strict=True)), **dict(zip(values, row, strict=True))}
        for row in zip(*values.values(), strict=True)
    ]


def _read(value: Any) -> Any:
    """A label's text, read as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _number(value: Any) -> float:
    """A finite number, or its text."""
    if isinstance(value, bool) or not isinstance(value, (Real, str)) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def _flagged(rubric: Rubric, flags: Sequence[str]) -> list[str]:
    """Names of the rewards that declare one of the flags."""
    return [r.__name__ for r in rubric.rewards if any(getattr(r, flag, False) for flag in flags)]


def _payable(rewards: Rubric | str, flags: Sequence[str], missing: str | None, sees: str) -> Rubric:
    """The rubric without rewards that declare one of the flags."""
    if missing not in (None, *MISSING):
        raise ValueError(f"missing={missing!r}: must be one of {MISSING}.")
    named = isinstance(rewards, str) and rewards in PRESETS
    rubric = rewards if isinstance(rewards, Rubric) else preset(rewards) if named else _by_name(rewards)
    if taken := sorted({"score", "overall", "reward"} & set(rubric.names)):
        raise ValueError(f"a reward is named {taken[0]!r}, as their sum is in other trainers: give it another name=...")
    unpaid = _flagged(rubric, flags)
    if not unpaid:
        return rubric
    whose = f" of preset {rewards!r}" if named else ""
    what = f"the trainer sees {sees}, so {', '.join(unpaid)}{whose} cannot be paid"
    if (missing or ("leave out" if named else "error")) == "error" or len(unpaid) == len(rubric.names):
        raise ValueError(
            f"{what}: leave {'it' if len(unpaid) == 1 else 'them'} out of the rewards {rubric.names}, or train with "
            "one that sees more; docs/adapters.md says which."
        )
    warnings.warn(f"{what}: left out. Paid are {rubric.without(unpaid).names}.", stacklevel=3)
    return rubric.without(unpaid)


def _by_name(rewards: str) -> Rubric:
    """Rewards by name; one name alone may be meant for a preset."""
    if rewards.isidentifier() and rewards not in REWARDS:
        raise ValueError(f"rewards {rewards!r}: no preset, as {', '.join(PRESETS)}, and no reward of {[*REWARDS]}.")
    return named_rewards(rewards)


def _comparable(rubric: Rubric, ids: Sequence[Hashable]) -> Rubric:
    """The rubric without rewards that compare clips, where each clip has one answer only."""
    comparing = _flagged(rubric, OTHERS)
    if not comparing:
        return rubric
    if None in ids:
        raise ValueError(
            f"a label has no video_id, by which {', '.join(comparing)} tells clips apart: write labels as JSON, "
            '{"mos": 3.4, "video_id": "a"}, or leave these rewards out.'
        )
    if len(group_indices(ids)) < len(ids):
        return rubric
    if len(comparing) == len(rubric.names):
        raise ValueError(
            f"no clip of this batch has two answers, and {', '.join(comparing)} need them: sample two answers or more "
            "to a clip, in validations too, or add a reward that looks at one answer."
        )
    warnings.warn(
        f"no clip of this batch has two answers, as in a validation: {', '.join(comparing)} left out of it.",
        stacklevel=3,
    )
    return rubric.without(comparing)


def check_pays(rubric: Rubric, row: Mapping[str, Any]) -> None:
    """Raise unless a reward that needs a label finds it; a misspelt key would pay the format alone.

    One that does not say to which rows it applies is no sign that the label is right.

    Args:
        rubric: The rewards.
        row: The columns of one answer.

    Raises:
        ValueError: If none applies that applies to labelled rows only.
    """
    applies = {reward.__name__: getattr(reward, "applies", None) for reward in rubric.rewards}
    labelled = {name: own for name, own in applies.items() if own is not None and not own({})}
    if labelled and not any(own(row) for own in labelled.values()):
        given = {key: value for key, value in row.items() if value is not None}
        raise ValueError(
            f"a label has {given}: none of {list(labelled)} can be paid for it. Add what they need, for most of "
            "them mos (docs/rewards.md says what)."
        )
