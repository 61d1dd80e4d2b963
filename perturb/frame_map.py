"""`FrameMap`: which source frame each output position shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BLANK = -1
"""Source index of an output position that shows no source frame."""


@dataclass(frozen=True)
class FrameMap:
    """A temporal perturbation as a map from output positions to source frames.

    Because a map only re-indexes whole frames, applying it to pixels and then encoding, or encoding first and applying
    it to the per-frame features, gives the same model input.

    Args:
        mode: Name of the perturbation that made the map, e.g. `"reverse"`.
        num_frames: Number of source frames T, at least 1.
        source: For each output position the source frame in `[0, T)`, or `BLANK`. At least one position.

    Raises:
        ValueError: If T < 1, if `source` is empty, or if an index lies outside `[0, T)` and is not `BLANK`.
    """

    mode: str
    num_frames: int
    source: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}: a clip has at least 1 frame; pass T >= 1.")
        if not self.source:
            raise ValueError(f"source is empty: a map of mode {self.mode!r} must keep at least one output position.")
        wrong = [i for i in self.source if i != BLANK and not 0 <= i < self.num_frames]
        if wrong:
            raise ValueError(f"source holds {wrong}: indices must lie in [0, {self.num_frames}) or be BLANK ({BLANK}).")

    @property
    def is_identity(self) -> bool:
        """Whether the map leaves the clip as it is."""
        return self.source == tuple(range(self.num_frames))

    @property
    def blanks(self) -> tuple[int, ...]:
        """Output positions that show no source frame."""
        return tuple(position for position, index in enumerate(self.source) if index == BLANK)

    def apply(self, frames: Any, blank: Any = 0) -> Any:
        """Re-index `frames` along their first axis.

        Args:
            frames: numpy array or torch tensor of shape (T, ...): pixels or per-frame features.
            blank: What a blank position shows: a scalar or an array of shape `frames.shape[1:]`.

        Returns:
            A new array or tensor of shape (len(source), ...), same type and dtype.

        Raises:
            ValueError: If the first axis is not `num_frames` long.
        """
        if len(frames) != self.num_frames:
            raise ValueError(
                f"frames has {len(frames)} entries on its first axis but the map was drawn for {self.num_frames}."
            )
        out = frames[[max(index, 0) for index in self.source]]  # list indexing copies in numpy and in torch
        if self.blanks:
            out[list(self.blanks)] = blank
        return out
