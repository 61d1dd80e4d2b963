"""What a reward is: a function of completions, and what it may declare about itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

FLAGS = ("needs_perturbed", "trains_copies", "compares_videos", "compares_rungs")
"""What a reward may declare, all False by default."""
GIVEN = (
    *("completions", "prompts", "completion_ids", "mos", "video_id", "perturbed_completions", "copy_of"),
    *("trainer_state", "log_extra", "log_metric"),
)
"""What every reward is handed by name in training, whatever the columns of the data set."""


@runtime_checkable
class Reward(Protocol):
    """A function or an instance of a class with `__call__`, for a batch of N completions.

    It is called by keyword, with the completions and the columns of the data set, and takes what it needs and
    `**columns`. It may declare:

    - `needs_perturbed`: the trainer samples answers to a perturbed copy of each clip (`perturbed_completions`);
    - `trains_copies`: these answers are trained on, as those to clips of their own (`copy_of`);
    - `compares_videos`: it needs at least two clips in a batch;
    - `compares_rungs`: it compares rungs of one ladder (columns `ladder` and `rank`) whose ranks differ by at least its
      `min_difference`, if it has one: the trainer brings them into one generation batch;
    - `applies(row)` and `floor`: see `Rubric.floored`.

    Attributes:
        __name__: Metric key.
    """

    __name__: str

    def __call__(self, completions: Sequence[Any], **columns: Any) -> Sequence[float | None]:
        """One reward per completion, `None` where it does not apply or cannot be scored."""
        ...


def check_reward(reward: Any) -> None:
    """Is this a reward, and does it declare only what is known?

    Raises:
        TypeError: If it is not callable, has no `__name__`, takes no `completions`, or is `gathered`.
        ValueError: If a flag is misspelt or no bool.
    """
    if not callable(reward) or not hasattr(reward, "__name__"):
        raise TypeError(
            f"{reward!r} is not a reward: it must be callable and have a `__name__`, which is its metric key."
        )
    name = reward.__name__
    if isinstance(reward, type):
        raise TypeError(f"reward {name!r} is a class: give an instance, {name}().")
    if getattr(reward, "is_gathered", False):
        raise TypeError(
            f"reward {name!r} is gathered: what takes rewards here sees all answers, or is what is gathered. Give the "
            "reward itself; of a rubric, gathered(Rubric([...]))."
        )
    parameters = inspect.signature(reward).parameters.values()
    if not any(p.name == "completions" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(
            f"reward {name!r} does not accept `completions`: rewards are called by keyword, see rewards.Reward."
        )
    for flag in FLAGS:
        value = getattr(reward, flag, False)
        if not isinstance(value, bool):
            raise ValueError(f"reward {name!r} has {flag}={value!r}: it must be True or False.")
    own = [key for key in dir(reward) if not key.startswith("_") and isinstance(getattr(reward, key), bool)]
    for key in own:
        meant = get_close_matches(key, FLAGS, 1, cutoff=0.8)
        if meant and key not in FLAGS:
            raise ValueError(f"reward {name!r} declares {key}, which nothing reads: did you mean {meant[0]}?")


def required_columns(reward: Any) -> list[str]:
    """What a reward cannot be called without, `completions` apart.

    Args:
        reward: The reward.
    """
    parameters = [p for p in inspect.signature(reward).parameters.values() if p.default is p.empty]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [name for name in named if name != "completions"]


def missing_columns(reward: Any, columns: Sequence[str]) -> list[str]:
    """Columns that a reward cannot be called without and a data set does not have.

    Args:
        reward: The reward.
        columns: Of the data set.
    """
    return [name for name in required_columns(reward) if name not in (*GIVEN, *columns)]


def find_reward(name: str, known: Mapping[str, Any]) -> Any:
    """A reward by its name, or somebody's own by its place, `package.module:attribute`.

    Args:
        name: Either.
        known: Name -> class of a reward, which is made with its defaults.

    Returns:
        The reward; of a class at a place an instance, made with its defaults.

    Raises:
        ValueError: On an unknown name, or where there is nothing at the place, or no reward.
    """
    if ":" not in name:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}? They are" if near else "choose among"
            raise ValueError(f"reward {name!r} is unknown: {meant} {sorted(known)}, or give package.module:attribute.")
        return known[name]()
    place, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(place), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"reward {name!r}: {error}. Write package.module:attribute for something that can be imported from here, "
            "or install its package."
        ) from error
    reward = found() if isinstance(found, type) else found
    try:
        check_reward(reward)
    except TypeError as error:
        raise ValueError(f"reward {name!r}: {error}") from error
    return reward
