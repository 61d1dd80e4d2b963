"""Runs a program of `programs/` in a framework's own environment; what cannot be installed is skipped by name."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _environments():
    """The file beside this one: pytest imports no packages of tests here."""
    spec = importlib.util.spec_from_file_location("framework_environments", HERE / "environments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def framework(repo):
    """name -> (Python of its environment, environment variables of a process there)."""
    environments = _environments()
    variables = {
        **os.environ,
        "PYTHONPATH": str(repo),
        **{"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "USE_HF": "1"},
    }

    def find(name):
        try:
            python = environments.environment(name, repo / ".venv-frameworks")
        except environments.Missing as missing:
            pytest.skip(str(missing))
        path = f"{python.parent}{os.pathsep}{variables['PATH']}"
        return python, {**variables, "PATH": path}

    return find


@pytest.fixture
def run(framework, tmp_path):
    """(name, what the program reads) -> what it printed last, both JSON; its whole output is in `run.output`."""

    def go(name, given, program=None):
        python, variables = framework(name)
        command = [str(python), str(HERE / "programs" / f"in_{program or name}.py")]
        return output_of(command, given, variables, tmp_path)

    return go


def output_of(command, given, variables, folder):
    """The last line that a program printed, and all of its output."""
    done = subprocess.run(
        command,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=folder,
        env=variables,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.fixture
def here():
    """How a program runs in the current environment."""
    return sys.executable
