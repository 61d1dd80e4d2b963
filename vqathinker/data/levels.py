"""Labelled clips as samples of the task "level": which of five words says how good a clip is?"""

from __future__ import annotations

from collections.abc import Sequence

from vqathinker.data.labels import LabelRow
from vqathinker.data.pairs import sd_of
from vqathinker.data.ratings import SD_COLUMNS
from vqathinker.data.sample import Sample
from vqathinker.rewards.level import level_of, level_words

NOT_KEPT = (*SD_COLUMNS, "level", "words", "ladder", "rank")
"""Columns of labels that mean something else here, or nothing."""


def level_samples(rows: Sequence[LabelRow], words: str = "itu", sd_factor: float = 1.0) -> list[Sample]:
    """Label rows as samples of the task "level", in their order.

    Args:
        rows: What `read_labels` gives, on a scale that takes labels to 1-5.
        words: A name of `rewards.LEVEL_WORDS`.
        sd_factor: Score units per unit of the labels, see `MosScale.factor`: of their standard deviations.

    Returns:
        One sample a row: its id is `VIDEO: level`, its target `mos`, `words`, where a row has a standard deviation `sd`
        in score units, and the row's further columns but `NOT_KEPT`.

    Raises:
        ValueError: If a MOS lies outside 1-5, or a standard deviation is no number.
    """
    level_words(words)
    samples = []
    for row in rows:
        where = f"clip {row.video_id!r}"
        try:
            level_of(row.mos)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        sd = sd_of(row.extra, where)
        own = {key: value for key, value in row.extra.items() if key not in NOT_KEPT}
        target = own | {"mos": row.mos, "words": words} | ({} if sd is None else {"sd": sd * sd_factor})
        samples.append(Sample(f"{row.video_id}: level", "level", (row.video,), target=target))
    return samples
