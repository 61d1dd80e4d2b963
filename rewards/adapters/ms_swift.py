"""ms-swift 4 takes the rewards by name, from a plug-in file.

    --external_plugins {path} --reward_funcs vqa_format vqa_regression vqa_rank

Every reward of `rewards.REWARDS` is there, as `vqa_` and its name, and every preset as one reward (`vqa_recommended`).
They get the columns of the data set (`mos`, `video_id`, ...); those that compare clips see the answers of all
processes. Rewards that need answers to perturbed copies are refused when the trainer is made, and left out of presets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swift.rewards import orms

from vqathinker.rewards import PRESETS, REWARDS, gathered
from vqathinker.rewards.adapters.core import OTHERS, check_pays, whole_batch
from vqathinker.rewards.reward import required_columns

PREFIX = "vqa_"
HERE = Path(__file__).resolve().parent


def maker(name: str) -> Callable[..., Callable[..., list[float | None]]]:
    """What ms-swift calls with its arguments to get a reward.

    Args:
        name: Of a reward or a preset.
    """

    def make(args: Any = None, **settings: Any) -> Callable[..., list[float | None]]:
        _leave_path()
        rubric = whole_batch(name)
        reward = rubric if name in PRESETS else rubric.rewards[0]
        comparing = any(getattr(own, flag, False) for own in rubric.rewards for flag in OTHERS)
        inner = gathered(reward) if comparing else reward

        # A function: ms-swift logs others by the name of their class.
        def pay(completions: Sequence[Any], **columns: Any) -> list[float | None]:
            if absent := [column for column in required_columns(reward) if column not in columns]:
                raise ValueError(
                    f"{PREFIX}{name} needs the column {', '.join(absent)}, which the data set does not have: add it, "
                    "or leave the reward out."
                )
            if name in PRESETS:  # a single reward may be meant for some rows only
                listed = {key: own for key, own in columns.items() if isinstance(own, (list, tuple))}
                listed = {key: own for key, own in listed.items() if len(own) == len(completions)}
                for index in range(len(completions)):
                    check_pays(rubric, {key: own[index] for key, own in listed.items()})
            return inner(completions=completions, **columns)

        pay.__name__ = f"{PREFIX}{name}"
        return pay

    return make


def _leave_path() -> None:
    """ms-swift has put this folder first on the path, where `verl.py` would hide the package verl, and so on."""
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != HERE]


_leave_path()
orms.update({f"{PREFIX}{name}": maker(name) for name in (*REWARDS, *PRESETS)})
