"""Words of messages: counted things, and the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def install(extra: str) -> str:
    """How to get an extra; no package index has this package."""
    return f"pip install '.[{extra}]' in a clone of the repository"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 clip`, `3 clips`.

    Args:
        number: How many.
        one: What one is called.
        many: What several are called; default with an "s".
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "see --help.") -> str:
    """The end of a message about an unknown name: `did you mean --model?`.

    Args:
        name: Unknown.
        known: What there is.
        otherwise: The end where none is near.
    """
    near = get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else otherwise
