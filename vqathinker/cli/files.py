"""Which videos the paths of a command stand for, and whether its paths fit, before a policy is loaded."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vqathinker.cli.policy import say
from vqathinker.clips import IMAGE_SUFFIXES, PASSED_OVER_SUFFIXES, VIDEO_SUFFIXES
from vqathinker.places import check_checkpoint
from vqathinker.wording import counted


def check_models(options: argparse.Namespace) -> None:
    """Raise for `--model` and `--baseline`, as far as can be told before the first one has spent its time.

    Raises:
        FileNotFoundError: See `check_checkpoint`.
        ValueError: If vLLM is to answer for both.
    """
    check_checkpoint(options.model)
    baseline = getattr(options, "baseline", None)
    if baseline is None:
        return
    if options.engine == "vllm":
        raise ValueError("--baseline with --engine vllm: two engines do not fit in one process. Leave --engine out.")
    check_checkpoint(baseline)


def numbers(option: str, text: str | None, words: Mapping[str, int] | None = None) -> tuple[int, ...] | None:
    """Whole numbers, comma-separated; `None` where the option is not given.

    Args:
        option: Its name, for the message.
        text: Its value.
        words: What may be written for a number.

    Raises:
        ValueError: If a part is neither.
    """
    known = words or {}
    if text is None:
        return None
    try:
        return tuple(int(known.get(part, part)) for part in text.split(","))
    except ValueError:
        others = "".join(f" or {word}" for word in known)
        raise ValueError(f"{option} {text!r}: write whole numbers{others}, comma-separated.") from None


def find_videos(paths: Sequence[str], suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[str]:
    """Files as they are, those of folders and their sub-folders and those that globs match, by suffix; each once.

    What looks like a video or an image there and is not taken is named in one line on stderr.

    Raises:
        ValueError: If a folder or a glob gives none, or there is none of the files.
    """
    found: list[str] = []
    passed_over: list[str] = []
    others = sorted({*PASSED_OVER_SUFFIXES, *IMAGE_SUFFIXES} - {*suffixes})
    for path in paths:
        if os.path.isdir(path):
            names: Iterable[str] = map(str, sorted(Path(path).rglob("*")))
        elif os.path.exists(path) or not glob.has_magic(path):
            found.append(path)  # a file that is missing is reported with the others
            continue
        else:
            names = sorted(glob.glob(path, recursive=True))
        # "._a.mp4" is no video but what macOS keeps beside "a.mp4" on foreign disks.
        files = [name for name in names if os.path.isfile(name) and not os.path.basename(name).startswith("._")]
        taken = _ending_in(files, suffixes)
        passed_over += _ending_in(files, others)
        if not taken:
            _say_passed_over(passed_over)
            raise ValueError(f"no video in {path}; looked for {', '.join(suffixes)}.")
        found += taken
    _say_passed_over(passed_over)
    return list(dict.fromkeys(found))


def find_existing_videos(paths: Sequence[str], suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[str]:
    """The same, of which one at least is there.

    Raises:
        ValueError: So, too.
        FileNotFoundError: If no file is there: of several, those that are missing are reported beside the others.
    """
    found = find_videos(paths, suffixes)
    if not any(map(os.path.exists, found)):
        missing = repr(found[0]) if len(found) == 1 else f"{found[0]!r} and {counted(len(found) - 1, 'other')}"
        raise FileNotFoundError(f"no such file: {missing:.300}. Check the names and the current folder.")
    return found


def check_clip(path: str) -> None:
    """Raise for what is not one file.

    Raises:
        ValueError: For a folder, or a pattern that files fit.
        FileNotFoundError: If there is none.
    """
    if os.path.isdir(path) or find_existing_videos([path], (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)) != [path]:
        raise ValueError(f"{path!r} is not one file: name one video or image. `vqathinker rank` takes folders.")


def _ending_in(files: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    return [file for file in files if Path(file).suffix.lower() in suffixes]


def _say_passed_over(files: Sequence[str]) -> None:
    if files and os.environ.get("RANK", "0") == "0":  # of the launcher, which is asked without torch
        shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
        kinds = ", ".join(sorted({Path(file).suffix.lower() for file in files}))
        ends = "ends" if len(files) == 1 else "end"
        say(f"skipped: {counted(len(files), 'file')} that {ends} in {kinds}: {shown}", sys.stderr)
