"""`vqathinker.rewards` and `vqathinker.perturb`: ours, whatever `import rewards` gives."""

import os
import subprocess
import sys

import pytest

SAME = """
import pickle, sys
import vqathinker.rewards, vqathinker.perturb
from vqathinker.rewards.parsing import group_indices
import perturb, rewards, rewards.parsing
assert vqathinker.rewards is rewards and vqathinker.perturb is perturb
assert vqathinker.rewards.Rubric is rewards.Rubric and rewards.parsing.group_indices is group_indices
assert rewards.parsing.__spec__.name == rewards.parsing.__name__ == "rewards.parsing"
rubric = pickle.loads(pickle.dumps(vqathinker.rewards.preset("paper")))
assert type(rubric) is rewards.Rubric
print(*(name for name in ("torch", "transformers", "trl", "scipy") if name in sys.modules))
"""

OURS = """
import pickle, sys
import vqathinker.rewards as ours, vqathinker.perturb
from vqathinker.rewards.parsing import parse_answer
import {shadow}
assert {shadow}.MINE and "MINE" not in vars(ours)
assert parse_answer("<answer>3.75</answer>").score == 3.75 and ours.parse_answer is parse_answer
assert type(pickle.loads(pickle.dumps(ours.preset("paper")))) is ours.Rubric
assert vqathinker.perturb.MODES
print("ours")
"""


def run(folder, code, **env):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_both_names_give_the_same_modules_and_load_nothing_heavy(tmp_path):
    assert run(tmp_path, SAME) == ""


@pytest.mark.parametrize("shadow", ["rewards", "perturb"])
@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("first", ["vqathinker", "shadow"])
def test_a_users_own_file_of_the_name_changes_nothing(tmp_path, shadow, package, first):
    file = tmp_path / shadow / "__init__.py" if package else tmp_path / f"{shadow}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("MINE = True\n")
    code = OURS.format(shadow=shadow)
    assert run(tmp_path, f"import {shadow}\n{code}" if first == "shadow" else code) == "ours"


def test_the_whole_library_imports_beside_a_users_own_file(tmp_path, without_vllm):
    (tmp_path / "rewards.py").write_text("MINE = True\n")
    code = "import vqathinker.training.scores as s\nprint(s.Rubric.__module__)"
    assert run(tmp_path, code, **without_vllm) == "vqathinker.rewards.rubric"


def test_a_script_of_the_name_can_use_the_library(tmp_path):
    script = tmp_path / "rewards.py"
    script.write_text("from vqathinker.rewards import preset\nprint(preset('paper').names[0])\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "format"


def test_the_library_itself_uses_only_the_long_names(repo):
    files = [file for folder in ("vqathinker", "recipes", "benchmarks") for file in (repo / folder).rglob("*.py")]
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    short = ("import rewards", "from rewards", "import perturb", "from perturb")
    assert len(files) > 50 and not [line for line in lines if line.startswith(short)]
