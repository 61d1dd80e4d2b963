"""What `fit` is given. Needs no torch, so that mistakes are told before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vqathinker.data import RatedClip, Ratings, Split, read_ratings, split_by_source


@dataclass(frozen=True)
class FitSpec:
    """What to fit to what.

    Attributes:
        ratings: Table of ratings, see `vqathinker.data.read_ratings`.
        videos: Folder that its video names start from.
        out: Folder for everything that is made.
        model: Policy folder to start from; `None`: the shipped base policy, with a warm start.
        raters: Columns of the raters; none: those that are found.
        scale: Lowest and highest rating, "1,10"; `None`: 1 to 5, if the ratings lie there.
        hold_out: Share of the clips that is judged on and never trained on, in (0, 1).
        minutes: For everything, > 0.
        video_column: Of the table; `None`: the one that is found.
        view: `"resize"` or `"center_crop"`, what of a frame the policy sees; `None`: as it was trained.
        seed: Of the split, training and bootstrap.
    """

    ratings: Path
    videos: Path
    out: Path = Path("runs/fit")
    model: str | None = None
    raters: tuple[str, ...] = ()
    scale: str | None = None
    hold_out: float = 0.2
    minutes: float = 30.0
    video_column: str | None = None
    view: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"--minutes {self.minutes:g} must be above 0: leave it out for 30.")

    @cached_property
    def table(self) -> Ratings:
        """The ratings.

        Raises:
            LabelError: See `read_ratings`.
        """
        return read_ratings(self.ratings, self.videos, self.raters or None, self.scale, self.video_column)

    @cached_property
    def parts(self) -> Split[RatedClip]:
        """Clips to train on, and those held out.

        Raises:
            ValueError: See `split_by_source`.
        """
        return split_by_source(self.table.rows, self.hold_out, self.seed)
