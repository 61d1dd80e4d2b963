"""A lossless on-disk cache of decoded, resized frames. Lossy caching would add the distortions being judged."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


class FrameCache:
    """Arrays per clip in uncompressed `.npz` files, renewed when the clip or the settings change.

    Args:
        folder: Where the files go; made on first use.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

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
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        try:
            with np.load(file) as arrays:
                return dict(arrays)
        except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
            arrays = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, so that a killed run or a second process never leaves half a file.
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False) as partial:
            np.savez(partial, **arrays)
        os.replace(partial.name, file)
        return arrays
