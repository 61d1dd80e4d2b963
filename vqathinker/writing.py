"""How results are written: whole files, and JSON that other programs read."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from vqathinker.clips.errors import about


def write_whole(path: str | Path, text: str, **encoding: Any) -> None:
    """Write a file aside and rename it, so that a run that is killed leaves a whole one: the old or the new.

    Args:
        path: The file; its folder is there.
        text: Its content.
        encoding: As `Path.write_text`; default UTF-8.

    Raises:
        OSError: If it cannot be written; it names the file that was asked for.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, **({"encoding": "utf-8"} | encoding))
        os.replace(partial, path)
    except OSError as error:
        raise about(path, error) from error


def finite(value: Any) -> Any:
    """NaN, which JSON does not know, as null."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
