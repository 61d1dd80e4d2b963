"""What goes wrong with clips."""

from __future__ import annotations

from pathlib import Path


class ClipError(ValueError):
    """A video file that cannot be read.

    Attributes:
        path: The file.
        reason: What is wrong with it, in words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read clip {str(path)!r}: {reason}")
        self.path, self.reason = str(path), reason

    def __reduce__(self) -> tuple:
        return ClipError, (self.path, self.reason)


def about(path: str | Path, error: OSError) -> OSError:
    """The same error about another file: the one that was asked for, in place of the one that is written aside."""
    return OSError(error.errno, error.strerror or first_line(error), str(path))


def first_line(error: Exception) -> str:
    """What an exception says, its first line; of an error of the system without its number and its file."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
