"""Runs a program of `programs/` in a framework's own environment; what cannot be installed is skipped by name.

An environment is a framework's pinned list on top of the packages that the project runs with.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPO = HERE.parent.parent
ENVIRONMENTS = REPO / ".venv-frameworks"
PROGRAMS = HERE / "programs"
PINNED = HERE / "pinned"
"""One list a framework, complete beside the extra `dev`: everything is installed with `--no-deps`."""
TIMEOUT = 900
"""Seconds, for a machine that is busy: a program takes 1 to 40."""


class Missing(Exception):
    """The package index does not have what a list asks for; the text says what."""


def environment(name: str) -> Path:
    """The Python of a framework's environment, which is made first where it is not there yet or the list has changed.

    torch and whatever else the current environment has are shared by a `.pth` file; it comes last, so that pip sees,
    and touches, nothing but the new environment, and a package of the list hides the shared one.

    Raises:
        Missing: If the index lacks a package of the list.
        RuntimeError: If pip fails for another reason.
    """
    home, wanted = ENVIRONMENTS / name, PINNED / f"{name}.txt"
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
    options = ["--quiet", "--no-deps", "--no-compile", "--retries=1", "-r", str(wanted)]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    lacking = re.findall(r"No matching distribution found for (\S+)", done.stderr)
    if lacking:
        raise Missing(f"{wanted.stem}: the package index has no {', '.join(lacking)}")
    raise RuntimeError(f"pip could not install {wanted}:\n{done.stderr[-3000:]}")


@pytest.fixture(scope="session")
def variables():
    """Environment variables of a program."""
    own = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "USE_HF": "1"}
    return {**os.environ, "PYTHONPATH": str(REPO), **own}


@pytest.fixture(scope="session")
def framework(variables):
    """name -> (Python of its environment, environment variables of a program there)."""

    def find(name):
        try:
            python = environment(name)
        except Missing as missing:
            pytest.skip(str(missing))
        path = f"{python.parent}{os.pathsep}{variables['PATH']}"
        return python, {**variables, "PATH": path}

    return find


@pytest.fixture
def run(framework, tmp_path):
    """(name, what its program gets) -> (what it found, all of its output); `program` where it is of another name."""

    def go(name, given, program=None):
        python, variables = framework(name)
        command = [str(python), str(PROGRAMS / f"in_{program or name}.py"), json.dumps(given)]
        output = output_of(command, variables, tmp_path)
        return found_in(output), output

    return go


@pytest.fixture
def run_processes(variables, tmp_path):
    """As `run`, of a program in two processes of the current environment."""

    def go(name, given):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        return found_in(output_of([*command, str(PROGRAMS / f"in_{name}.py"), json.dumps(given)], variables, tmp_path))

    return go


@pytest.fixture
def run_command(framework, tmp_path):
    """(name, command, further variables) -> all output of a command of the framework."""

    def go(name, command, **further):
        python, variables = framework(name)
        return output_of([str(python.parent / command[0]), *map(str, command[1:])], variables | further, tmp_path)

    return go


def output_of(command, variables, folder):
    """All that a program printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=variables, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def found_in(output):
    """The JSON that a program printed behind this mark, whatever its framework prints."""
    return json.loads(output.rpartition("FOUND ")[2].splitlines()[0])
