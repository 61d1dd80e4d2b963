"""What the wheel holds, and `import rewards` from it alone."""

import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, pytestconfig):

    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(out),
            str(pytestconfig.rootpath),
        ],
        check=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_ships_packages_recipes_and_configs(wheel, repo):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(repo))
        for package in ("rewards", "perturb", "vqathinker")
        for path in (repo / package).rglob("*.py")
    }
    assert expected <= names
    recipes = {
        f"vqathinker/{path.relative_to(repo)}"
        for suffix in ("*.py", "*.yaml")
        for path in (repo / "recipes").rglob(suffix)
    }
    assert len(recipes) > 10 and recipes <= names
    assert {f"{package}/py.typed" for package in ("rewards", "perturb", "vqathinker", "vqathinker/rewards")} <= names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


HEAVY = ("torch", "trl", "transformers", "scipy", "accelerate", "av")


def run(folder, code):
    code = f"import sys\nsys.modules |= dict.fromkeys({HEAVY})\n{code}"  # as if they were not installed
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_rewards_from_the_wheel_need_numpy_only(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = run(
        tmp_path,
        "import rewards, perturb, vqathinker.rewards\nprint(rewards.__file__, vqathinker.rewards is rewards)\n"
        "table = rewards.preset('official').score(['<answer>3</answer>'] * 4, [1, 1, 2, 2], list('aabb'))\n"
        "assert table.rewards['rank'][0] is not None",
    )
    assert done.stdout.split() == [str(tmp_path / "rewards" / "__init__.py"), "True"], done.stderr
    [metadata] = tmp_path.glob("*.dist-info/METADATA")
    needed = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist")]
    assert [line for line in needed if "extra ==" not in line] == ["Requires-Dist: numpy<3,>=1.26"]


def test_a_package_of_the_same_name_that_overwrote_ours_changes_nothing(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "rewards" / "__init__.py").write_text("MINE = True\n")
    done = run(
        tmp_path, "import vqathinker.rewards as ours, rewards\nprint(rewards.MINE, ours.preset('paper').names[0])"
    )
    assert done.stdout.split() == ["True", "format"], done.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from vqathinker.cli import main; sys.exit(main(['score', 'a.mp4', '--model', 'a/hub']))", "score"),
        ("from vqathinker.cli import main; sys.exit(main(['train', 'grpo_lsvq']))", "train"),
        ("from vqathinker import QualityScorer", "score"),
        ("from vqathinker import VQAGRPOTrainer", "train"),
    ],
)
def test_what_lacks_an_extra_names_it(tmp_path, code, extra):
    (tmp_path / "a.mp4").write_bytes(b"")
    done = run(tmp_path, code)
    assert done.returncode and f"install the extra `{extra}`, pip install '.[{extra}]' in a clone" in done.stderr
