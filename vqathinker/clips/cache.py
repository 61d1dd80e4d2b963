"""A lossless on-disk cache of decoded, resized frames. Lossy caching would add the distortions being judged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vqathinker.wording import counted

logger = logging.getLogger(__name__)
GIB, MIB = 2**30, 2**20
SPARE = 10 * GIB
"""Left free on the disk, or a twentieth of a smaller one: checkpoints need space too."""
HEADERS = 512
"""Bytes of a file beside the arrays, rounded up."""
OWN = re.compile(r"[0-9a-f]{32}\.(frames|npz|\d+-\d+\.tmp)")
"""Names of a cache's files, finished and not; `.npz` is of earlier versions."""
LOOKS = 50
"""A process looks again at what the folder holds whenever it has written this part of the cap."""


def clip_bytes(
    num_frames: int,
    image_size: int,
    motion_frames: int,
    motion_image_size: int,
    patches: int = 0,
    patch_size: int = 0,
) -> int:
    """Bytes of a cached clip, but for about a kilobyte: T key frames with their patches, and motion frames, RGB,
    uint8."""
    return 3 * (num_frames * (image_size**2 + patches * patch_size**2) + motion_frames * motion_image_size**2)


def clear_cache(folder: str | Path) -> tuple[int, int]:
    """Delete what a `FrameCache` keeps in a folder, and nothing else; the folder stays.

    Args:
        folder: Of the cache.

    Returns:
        Files deleted, and the bytes that they held.

    Raises:
        ValueError: If it is no folder, or holds anything that no cache has written; then nothing is deleted.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder: name the folder of a frame cache (frame_cache).")
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    foreign = [e.name for e in entries if not (e.is_file(follow_symlinks=False) and OWN.fullmatch(e.name))]
    if foreign:
        more = ", ..." if len(foreign) > 3 else ""
        raise ValueError(
            f"{str(folder)!r} holds {', '.join(foreign[:3])}{more}, which no frame cache wrote: nothing was deleted. "
            "Move your own files out of it, or name another folder."
        )
    deleted = freed = 0
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # a run that goes on has finished it meanwhile
            size = entry.stat().st_size
            os.unlink(entry.path)
            deleted, freed = deleted + 1, freed + size
    return deleted, freed


def write_arrays(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """One line of JSON with the arrays' names, types and shapes, then their bytes.

    A `.npz` takes several times as long to read, for its check sums, and two threads cannot always read its headers.
    """
    header = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    stream.write(json.dumps(header).encode() + b"\n")
    for array in arrays.values():
        stream.write(np.ascontiguousarray(array).data)


def read_arrays(stream: BinaryIO) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote into a file.

    Raises:
        ValueError, TypeError: If that is not what it holds, or not all of it.
    """
    header = json.loads(stream.readline())
    expected = sum(np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in header)
    if not header or stream.tell() + expected != os.fstat(stream.fileno()).st_size:
        raise ValueError(f"{len(header)} arrays of {expected} bytes are not what the file holds.")
    return {name: np.fromfile(stream, dtype, math.prod(shape)).reshape(shape) for name, dtype, shape in header}


class FrameCache:
    """Arrays per clip in a file of their bytes, see `write_arrays`; renewed when the clip or the settings change.

    It never ends a run: where the cap or the end of the disk is reached, or a file cannot be written or read, it warns
    once and keeps no further clips. Those that are there are still used.

    Threads may share one, processes a folder. A process counts what the folder holds when it first writes, what it
    writes itself, and all of it again after each fiftieth of the cap: N processes exceed it by N fiftieths at most.

    Args:
        folder: Where the files go; made on first use.
        max_bytes: Cap on what the folder holds, > 0; `None`: what the disk has, less `SPARE`.

    Raises:
        ValueError: If `max_bytes` is not above 0, or `folder` is empty or the current folder.
    """

    def __init__(self, folder: str | Path, max_bytes: int | None = None) -> None:
        if str(folder).strip() in ("", "."):  # Path("") too is "."
            raise ValueError(
                f"folder={str(folder)!r}: name a folder that holds nothing else; for no cache leave it out "
                "(frame_cache empty)."
            )
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes={max_bytes}: must be above 0; for no cache leave it out (frame_cache empty).")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._held: int | None = None  # bytes in the folder as far as this process knows
        self._since_look = self._in_writing = 0
        self._stopped = False
        self._mark = f".{os.getpid()}"  # in the names of files that this process has not finished
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple:  # a processor is copied to be saved, and a lock cannot be
        return FrameCache, (self.folder, self.max_bytes)

    def get(self, video: str | Path, settings: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The cached arrays of `video` under `settings`, or those that `make()` returns, which are then kept.

        Args:
            video: The clip's file; its path, size and modification time are part of the key.
            settings: Everything else the arrays depend on, as text.
            make: Decodes the clip; what it raises passes through and nothing is kept.
        """
        try:
            stat = os.stat(video)
        except OSError:
            return make()  # which says what is wrong with the file
        key = f"{os.path.abspath(video)}|{stat.st_size}|{stat.st_mtime_ns}|{settings}"
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.frames"
        try:
            with file.open("rb") as stream:
                return read_arrays(stream)
        except (FileNotFoundError, ValueError, TypeError):
            pass
        except OSError as error:
            self._stop(f"{file.name} cannot be read ({error})")
        arrays = make()
        self._keep(file, arrays)
        return arrays

    def forecast(self, clips: int, size: int) -> str:
        """What `clips` clips of `size` bytes would take, in one line, beside what there is.

        Args:
            clips: Number of clips.
            size: Of each, see `clip_bytes`.
        """
        try:
            held, (free, spare) = self._look(), self._disk()
        except OSError as error:
            return f"frame cache: {self.folder} cannot be read ({error})"
        need, space, cap = clips * size, held + free - spare, ""
        if self.max_bytes is not None:
            space, cap = min(space, self.max_bytes), f", at most {self.max_bytes / GIB:.1f}"
        line = (
            f"frame cache: {counted(clips, 'clip')} x {size / MIB:.1f} MiB = {need / GIB:.1f} GiB in {self.folder} "
            f"(holds {held / GIB:.1f}{cap}), {free / GIB:.1f} GiB free"
        )
        return line if need <= space else f"{line}: only {max(0, space) / GIB:.1f} GiB of them will be kept"

    def _keep(self, file: Path, arrays: dict[str, np.ndarray]) -> None:
        size = sum(array.nbytes for array in arrays.values()) + HEADERS
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._take(size):
                self._write(file, arrays, size)
        except OSError as error:
            self._stop(f"{file.name} cannot be written ({error.strerror or error})")  # not the file aside

    def _write(self, file: Path, arrays: dict[str, np.ndarray], size: int) -> None:
        """Aside, then renamed, so that a killed run or a second process never leaves half a file."""
        partial = file.with_suffix(f"{self._mark}-{threading.get_ident()}.tmp")
        try:
            with partial.open("wb") as stream:
                write_arrays(stream, arrays)
            with self._lock:  # at once, so that no look counts it twice
                partial.replace(file)
                self._in_writing, size = self._in_writing - size, 0
        finally:
            with self._lock:
                self._in_writing -= size
            partial.unlink(missing_ok=True)

    def _take(self, size: int) -> bool:
        """Whether there is space for `size` bytes, which are then counted, as other threads write meanwhile."""
        with self._lock:
            if self._stopped:
                return False
            if self._held is None:
                self._delete_earlier()
            if self._held is None or (self.max_bytes is not None and self._since_look > self.max_bytes // LOOKS):
                self._held, self._since_look = self._look() + self._in_writing, 0
            free, spare = self._disk()
            if self.max_bytes is not None and self._held + size > self.max_bytes:
                self._stop(f"it holds {self._held / GIB:.1f} of at most {self.max_bytes / GIB:.1f} GiB")
            elif free - size < spare:
                self._stop(f"{free / GIB:.1f} GiB of the disk are free, and {spare / GIB:.1f} must stay free")
            else:
                self._held += size
                self._since_look += size
                self._in_writing += size
            return not self._stopped

    def _delete_earlier(self) -> None:
        """Files of earlier versions are never read, and would count."""
        for file in self.folder.glob("*.npz"):
            if OWN.fullmatch(file.name):
                file.unlink(missing_ok=True)

    def _look(self) -> int:
        """Bytes in the folder, but for what this process is writing."""
        if not self.folder.exists():
            return 0
        total = 0
        for entry in os.scandir(self.folder):
            if f"{self._mark}-" in entry.name:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process has renamed it since
                total += entry.stat().st_size
        return total

    def _disk(self) -> tuple[int, int]:
        """Bytes that are free, and those of them to leave alone."""
        folder = self.folder.absolute()
        disk = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists()))
        return disk.free, min(SPARE, disk.total // 20)

    def _stop(self, reason: str) -> None:
        with self._lock:
            if not self._stopped:
                self._stopped = True
                logger.warning("frame cache %s: %s. No more clips are cached; the run continues.", self.folder, reason)
