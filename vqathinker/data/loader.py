"""`ClipLoader`: decodes each clip of a batch once, in threads, while the previous batch is being trained on."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from vqathinker.clips import ClipError
from vqathinker.messages import videos_in
from vqathinker.wording import counted

logger = logging.getLogger(__name__)
T = TypeVar("T")
S = TypeVar("S", str, tuple[str, ...])


class ClipLoader(Generic[T]):
    """Reads clips ahead of use.

    Used as the trainer's data collator it starts decoding the moment the data loader draws a batch, one batch ahead of
    training; `get` then waits for the result. TRL draws one batch several times (K rows per clip, once per accumulation
    step): each clip is read once. Decoders release the interpreter lock, so threads suffice and nothing is copied
    between processes.

    Args:
        read: From a path to whatever the model takes; raises `ClipError` for an unreadable file.
        threads: Clips decoded at a time.
        strict: Raise on an unreadable clip instead of skipping it.
        skipped_file: JSON-lines file that lists every skipped clip once: `{"video", "reason"}`.
        give_up_after: Raise once this many clips were unreadable and none was readable: the whole set is elsewhere.
    """

    def __init__(
        self,
        read: Callable[[str], T],
        threads: int = 2,
        strict: bool = False,
        skipped_file: str | Path | None = None,
        give_up_after: int | None = None,
    ) -> None:
        self.read, self.strict, self.give_up_after = read, strict, give_up_after
        self._read_any = False
        self.skipped_file = None if skipped_file is None else Path(skipped_file)
        self.skipped: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode")
        self._batches: list[dict[str, Future[T]]] = []
        self._lock = threading.Lock()

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Collate: start decoding the clips that the rows' prompts show, and return the rows unchanged."""
        self.prefetch(video for row in rows for video in videos_in(row["prompt"]))
        return rows

    def prefetch(self, videos: Iterable[str]) -> None:
        """Start decoding `videos`; clips of the last two batches are kept, older ones let go."""
        names = dict.fromkeys(videos)
        known = {name: future for batch in self._batches for name, future in batch.items()}
        batch = {name: known.get(name) or self._pool.submit(self.read, name) for name in names}
        if not self._batches or list(self._batches[-1]) != list(batch):
            self._batches = [*self._batches[-1:], batch]

    def get(self, video: str) -> T | None:
        """The decoded clip, or `None` if it is unreadable and `strict` is off.

        Raises:
            ClipError: If it is unreadable and `strict` is on, or `give_up_after` is reached.
        """
        for batch in reversed(self._batches):
            if video in batch:
                future = batch[video]
                break
        else:
            future = self._pool.submit(self.read, video)
        try:
            clip = future.result()
            self._read_any = True
            return clip
        except ClipError as error:
            if self.strict:
                raise
            self._record(video, error.reason)
            if not self._read_any and self.give_up_after and len(self.skipped) >= self.give_up_after:
                before = counted(len(self.skipped), "clip")
                raise ClipError(
                    video, f"{error.reason}, and none of the {before} before it was readable either"
                ) from error
            return None

    def batches(self, videos: Sequence[S], size: int) -> Iterator[tuple[Sequence[S], dict[str, T]]]:
        """`size` videos at a time, or as many tuples of them, and those of their clips that are readable; the next ones
        are decoded meanwhile."""
        chunks = [videos[start : start + size] for start in range(0, len(videos), size)]
        for number, chunk in enumerate(chunks):
            for ahead in chunks[number : number + 2]:
                self.prefetch(_flat(ahead))
            yield chunk, {video: clip for video in _flat(chunk) if (clip := self.get(video)) is not None}

    def _record(self, video: str, reason: str) -> None:
        with self._lock:
            if video in self.skipped:
                return
            self.skipped[video] = reason
            logger.warning("skipped clip %r: %s", video, reason)
            if self.skipped_file is not None:
                line = json.dumps({"video": video, "reason": reason}) + "\n"
                self.skipped_file.parent.mkdir(parents=True, exist_ok=True)
                with self.skipped_file.open("a+", encoding="utf-8") as file:
                    file.seek(0)
                    if line not in file:  # another process or an earlier run may have listed it
                        file.write(line)


def _flat(videos: Sequence[str] | Sequence[tuple[str, ...]]) -> list[str]:
    return [path for video in videos for path in ((video,) if isinstance(video, str) else video)]
