"""Weights that others may read, as far as the umask says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
"""What safetensors gives its files: it writes aside, into a private file, and renames that."""


def follow_umask(folder: str | Path) -> None:
    """Give private `.safetensors` files of a folder the permissions that any new file gets there.

    Args:
        folder: That weights were just written to.
    """
    private = [file for file in Path(folder).glob("*.safetensors") if file.stat().st_mode & 0o777 == PRIVATE]
    if not private:
        return
    # A new file says what they are: to ask for the umask itself is to set it, for all threads.
    with tempfile.TemporaryDirectory(prefix=".mode-", dir=folder) as aside:
        fresh = Path(aside, "new")
        fresh.touch()
        mode = fresh.stat().st_mode & 0o777
    for file in private:
        os.chmod(file, mode)
