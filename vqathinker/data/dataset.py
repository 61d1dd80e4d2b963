"""Label rows as a `datasets.Dataset` with the columns the trainers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vqathinker.data.labels import LabelRow, columns_of, stalls_of
from vqathinker.data.stalls import stall_text

if TYPE_CHECKING:
    from datasets import Dataset


class Asks(Protocol):
    """What of a processor is needed here, see `VQAThinkerProcessor`."""

    question: str

    def messages(self, video: str, question: str | None = None, /) -> list[dict[str, Any]]:
        """The prompt that asks its question, or another one, about a clip."""
        ...


def clip_dataset(rows: Sequence[LabelRow], processor: Asks) -> Dataset:
    """A light dataset: prompts and labels only. `ClipLoader` decodes the clips of a batch when it is drawn.

    Args:
        rows: Label rows.
        processor: The policy's, whose question is asked about each; what is known of stalls stands before it.

    Returns:
        Columns `prompt` (conversational), `video`, `video_id`, `mos`, and the rows' further columns (`columns_of`).

    Raises:
        ValueError: If there are no rows.
    """
    from datasets import Dataset  # of the extra `train`; all else here works without

    if not rows:
        raise ValueError("rows is empty: there is nothing to train on.")
    further = [columns_of(row) for row in rows]
    extras = sorted({key for own in further for key in own} - {"prompt", "video", "video_id", "mos"})
    columns = {
        "prompt": [_prompt(row, processor) for row in rows],
        "video": [row.video for row in rows],
        "video_id": [row.video_id for row in rows],
        "mos": [row.mos for row in rows],
    }
    return Dataset.from_dict(columns | {key: [own.get(key) for own in further] for key in extras})


def _prompt(row: LabelRow, processor: Asks) -> list[dict[str, Any]]:
    told = stall_text(stalls_of(row), row.video)
    return processor.messages(row.video, f"{told} {processor.question}") if told else processor.messages(row.video)
