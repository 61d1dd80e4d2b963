"""A quick look at what is trained on, before anything large is loaded."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from vqathinker.data import LabelRow, Sample
from vqathinker.data.check import quick_check
from vqathinker.wording import counted

logger = logging.getLogger(__name__)


def preflight(samples: Sequence[Sample], held_out: Sequence[Sample] = (), mos_scale: str | None = None) -> str:
    """Check labels and whether files are there; nothing is decoded. Problems are logged, a warning each.

    Args:
        samples: What is trained on.
        held_out: What is validated on.
        mos_scale: Scale that the labels came from, by name; `None` if there are none.

    Returns:
        One line that says what was checked.
    """
    found = quick_check(_rows(samples), _rows(held_out), mos_scale)
    for finding in found:
        logger.warning("data: %s", finding.text())
    clips = len({clip for sample in (*samples, *held_out) for clip in sample.clips})
    if not found:
        return f"data: {counted(clips, 'clip')}, all there; labels fit their scale"
    return f"data: {counted(len(found), 'problem')}, see above; `vqathinker check-data` tells more and reads every clip"


def _rows(samples: Sequence[Sample]) -> list[LabelRow]:
    return [
        LabelRow(
            clip,
            clip,
            float(sample.target.get("mos", math.nan)),
            {key: sample.target[key] for key in ("source", "scene") if isinstance(sample.target.get(key), str)},
        )
        for sample in samples
        for clip in sample.clips
    ]
