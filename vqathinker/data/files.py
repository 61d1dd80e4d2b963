"""The files that label and question files name: safe names, and where they are on disk."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vqathinker.clips import VIDEO_SUFFIXES
from vqathinker.data.formats import LabelError


def check_places(path: Path, video_root: Path, suffixes: Sequence[str], what: str) -> None:
    """Refuse a file that is not there or has none of the `suffixes`, and a video root that is no folder.

    Args:
        path: The file.
        video_root: Folder the video names are relative to.
        suffixes: Those that fit, in lower case.
        what: What the file is, for messages: "label file".

    Raises:
        LabelError: If one of them does not fit.
    """
    if not path.is_file():
        raise LabelError(f"{what} {str(path)!r} does not exist.")
    if not video_root.is_dir():
        raise LabelError(
            f"video root {str(video_root)!r} is not a folder: name the one that the video names are relative to."
        )
    if path.suffix.lower() not in suffixes:
        raise LabelError(f"{what} {str(path)!r}: suffix must be one of {list(suffixes)}; rename or convert it.")


class VideoFiles:
    """Finds the files that labels name; lists each folder at most once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path:
        """The file of that name; `root / name` if there is none.

        Raises:
            ValueError: If the name has no extension and several video files fit it.
        """
        # macOS decomposes names (NFD) where label files mostly hold composed ones (NFC).
        spellings = dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
        paths = [self.root / spelling for spelling in spellings]
        complete = paths[0].suffix.lower() in VIDEO_SUFFIXES
        if complete and len(paths) == 1:
            return paths[0]  # the usual case: no question to the disk for each of thousands of rows
        for path in paths:
            if os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
                return path
        if complete:
            return paths[0]
        for path in paths:
            found = self._videos(path.parent).get(path.name, [])
            if len(found) > 1:
                raise ValueError(
                    f"video {name!r} has no extension and matches {[file.name for file in found]}: write the extension "
                    "into the label file or keep one of them."
                )
            if found:
                return found[0]
        return paths[0]

    def hold_videos(self) -> bool:
        """Whether a video file is below the root; a folder that is a link is not looked into and may hold one."""
        for folder, folders, names in os.walk(self.root):
            if any(name.lower().endswith(VIDEO_SUFFIXES) for name in names):
                return True
            if any(os.path.islink(os.path.join(folder, name)) for name in folders):
                return True
        return False

    def _videos(self, folder: Path) -> dict[str, list[Path]]:
        """Video files of a folder by their name without the extension."""
        if folder not in self._listed:
            listed = self._listed[folder] = {}
            for file in sorted(folder.iterdir()) if os.path.isdir(folder) else ():
                if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file():
                    listed.setdefault(file.stem, []).append(file)
        return self._listed[folder]


def safe_name(video: Any) -> str:
    """The name with "/" separators.

    Raises:
        ValueError: If it is no text, is empty, or would leave the video root.
    """
    if isinstance(video, list) and len(video) != 1:
        raise ValueError(f"the row shows the videos {video!r:.200}: it must show one.")
    if not isinstance(video, str) or not video.strip():
        raise ValueError(f"video name {video!r} must be a non-empty string.")
    name = PurePosixPath(video.strip().replace("\\", "/"))
    if not name.parts:
        raise ValueError(f"video {video!r} is the video root itself: name a file below it.")
    if name.is_absolute() or PureWindowsPath(video).drive or ".." in name.parts:
        raise ValueError(f"video {video!r} leaves the video root: names must be relative, without '..'.")
    return str(name)
