"""From a table of ratings and a folder of clips to a judged policy, in one call."""

from typing import TYPE_CHECKING, Any

from vqathinker.fitting.spec import FitSpec

if TYPE_CHECKING:
    from vqathinker.fitting.run import fit

__all__ = ["FitSpec", "fit"]


def __getattr__(name: str) -> Any:
    if name == "fit":  # needs torch, which a spec does not
        from vqathinker.fitting.run import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
