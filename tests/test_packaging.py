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
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_rewards_import_from_the_wheel_without_torch_or_trl(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['trl'] = sys.modules['transformers'] = None\n"
        "import rewards, perturb; print(rewards.__file__)\n"
        "rewards.preset('official').score(['<answer>3</answer>'] * 4, mos=[1, 1, 2, 2], video_id=list('aabb'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
