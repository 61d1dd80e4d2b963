"""Whether files and folders are there and can be written, asked before anything large is loaded: needs no torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TABLE_SUFFIXES = (".csv", ".json", ".jsonl")
"""Of tables of scores."""


def check_checkpoint(path: str | Path) -> None:
    """Raise FileNotFoundError for a folder that is not there or holds no checkpoint, before a hub is asked for it.

    Args:
        path: Checkpoint folder, or hub id `namespace/name`, whose namespace is no folder here.
    """
    path = Path(path)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) != 2 or Path(path.parts[0]).is_dir()):
        made = " (`make demo` makes it)" if path.parts[:2] == ("runs", "demo") else ""
        raise FileNotFoundError(
            f"no checkpoint folder at {str(path)!r}{made}: check its name and the current folder, or name a hub id."
        )
    if path.is_dir() and not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise FileNotFoundError(f"no checkpoint in {str(path)!r}: it has no config.json. Name the folder that has one.")


def check_file(name: str, path: str | Path | None) -> None:
    """Raise FileNotFoundError for a file that is not there.

    Args:
        name: Of the option, for the message.
        path: The file; `None` for none.
    """
    if path is not None and not os.path.isfile(path):
        raise FileNotFoundError(f"{name} {str(path)!r} is not a file: check its name and the current folder.")


def check_folder(name: str, path: str | Path | None) -> None:
    """Raise FileNotFoundError for a folder that is not there.

    Args:
        name: Of the option, for the message.
        path: The folder; `None` for none.
    """
    if path is not None and not os.path.isdir(path):
        raise FileNotFoundError(f"{name} {str(path)!r} is not a folder: check its name and the current folder.")


def check_output(name: str, path: str | Path | None, folder: bool = True) -> None:
    """Raise OSError for what could not be written.

    Args:
        name: Of the option, for the message.
        path: What is to be written; `None` for nothing.
        folder: Whether it is to be a folder; else a file.
    """
    if path is None:
        return
    path = Path(path)
    if path.exists() and path.is_dir() != folder:
        is_there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise OSError(f"{name} {str(path)!r} is a {is_there}: name a {wanted}.")
    there = next(part for part in (path, *path.absolute().parents) if part.exists())
    if not (_takes_files(there) if there.is_dir() else there == path and os.access(there, os.W_OK)):
        raise OSError(f"{name} {str(path)!r}: {str(there)!r} is not a writable folder. Name another place.")


def _takes_files(folder: Path) -> bool:
    """Whether a file can be made there; to ask for the right to write is not enough of /proc."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def check_table(path: str | Path) -> None:
    """Raise ValueError for the name of a table of scores that does not say its format.

    Args:
        path: The table.
    """
    if Path(path).suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"{str(path)!r}: scores go to a .csv file, or to .json / .jsonl as JSON lines.")
