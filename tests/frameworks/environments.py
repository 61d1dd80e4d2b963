"""A virtual environment for each framework: its pinned list on top of the packages that the project runs with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PINNED = Path(__file__).parent / "pinned"
"""One list a framework, complete beside the extra `dev`: everything is installed with `--no-deps`."""


class Missing(Exception):
    """The package index does not have what a list asks for; the text says what."""


def environment(name: str, folder: Path) -> Path:
    """The Python of `folder/name`, which is made first where it is not there yet or the list has changed.

    torch and whatever else the current environment has are shared by a `.pth` file; it comes last, so that pip sees,
    and touches, nothing but the new environment, and a package of the list hides the shared one.

    Raises:
        Missing: If the index lacks a package of the list.
        RuntimeError: If pip fails for another reason.
    """
    home, wanted = folder / name, PINNED / f"{name}.txt"
    python, stamp = home / "bin" / "python", home / "installed.txt"
    shared = sysconfig.get_path("purelib")
    state = f"# {sys.version}\n# {shared}\n{wanted.read_text()}"
    if stamp.exists() and stamp.read_text() == state:
        return python
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    _install(python, wanted)
    [own] = home.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(f"{shared}\n")
    stamp.write_text(state)
    return python


def _install(python: Path, wanted: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-compile", "--retries=1"]
    done = subprocess.run([*command, "-r", str(wanted)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    lacking = re.findall(r"No matching distribution found for (\S+)", done.stderr)
    if lacking:
        raise Missing(f"{wanted.stem}: the package index has no {', '.join(lacking)}")
    raise RuntimeError(f"pip could not install {wanted}:\n{done.stderr[-3000:]}")
