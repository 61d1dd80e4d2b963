"""For trainers that catch what a reward function raises, log one line and pay 0.0 or nothing."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
logger = logging.getLogger("vqathinker")


class RewardError(SystemExit):
    """A reward cannot be paid, which ends the run.

    verifiers 0.1, OpenRLHF, AReaL and rllm catch every `Exception` of a reward function. A label that is missing would
    become a reward like any other there, and the run would train on it to its end. They let a `SystemExit` pass, and
    asyncio does not keep one in a task that nobody waits for, as verifiers' servers have them.
    """


def stopping(function: Callable[..., T]) -> Callable[..., T]:
    """The function; what it raises is logged as an error and ends the run as a `RewardError`."""

    @functools.wraps(function)
    def called(*args: object, **kwargs: object) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            message = f"no reward can be paid, the run ends: {type(error).__name__}: {error}"
            logger.error(message, exc_info=True)
            raise RewardError(message) from error

    return called
