"""From a table of ratings and a folder of clips to a judged policy, in one call."""

from vqathinker.fitting.run import FitSpec, fit

__all__ = ["FitSpec", "fit"]
