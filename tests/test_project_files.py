"""Files beside the code: continuous integration, hooks, templates, citation, and the rule on versions."""

import importlib.util
import re
import zipfile

import pytest
import yaml

import vqathinker


def load(repo, name):
    return yaml.safe_load((repo / name).read_text(encoding="utf-8"))


def test_the_workflow_runs_what_ci_runs(repo):
    run = re.findall(r"^make (\S+)$", (repo / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    workflow = load(repo, ".github/workflows/ci.yml")
    job = workflow["jobs"]["make"]
    assert len(run) >= 5 and job["strategy"]["matrix"]["target"] == run
    assert job["steps"][-1] == {"run": "make ${{ matrix.target }}"}
    exported = re.findall(r"(\w+)=(\w+)", (repo / ".ci/run").read_text(encoding="utf-8"))
    assert len(exported) == 2 and dict(exported).items() <= workflow["env"].items()


def test_the_hooks_are_the_commands_of_make_lint(repo):
    makefile = (repo / "Makefile").read_text(encoding="utf-8")
    lint = re.search(r"^lint: install\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    hooks = load(repo, ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == lint.replace("$(BIN)", ".venv/bin").replace("\t", "").splitlines()


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_issue_forms_have_what_github_asks_for(repo, form):
    found = load(repo, f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= found.keys()
    ids = [field["id"] for field in found["body"]]
    assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in found["body"])


def test_the_citation_has_what_cff_asks_for_and_the_version(repo):
    citation = load(repo, "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["authors"] == [{"name": "The vqathinker authors"}]
    assert {"message", "title"} <= citation.keys() and citation["version"] == vqathinker.__version__
    assert citation["license"] == "Apache-2.0"


@pytest.fixture
def check_wheel(repo):
    spec = importlib.util.spec_from_file_location("check_wheel", repo / "dev/check_wheel.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tagged_commit_has_its_versions_tag(check_wheel):
    changelog, citation = "# Changelog\n\n## 0.2.0, 2026-12-01\n", "title: x\nversion: 0.2.0\n"
    assert check_wheel.version_errors("0.2.0", ["v0.2.0", "nightly", "verified"], changelog, citation) == []
    assert check_wheel.version_errors("0.2.0", [], "# Changelog\n\n## Unreleased\n", citation) == []
    [error] = check_wheel.version_errors("0.2.0", ["v0.1.9"], changelog, citation)
    assert "tagged v0.1.9, its version is 0.2.0: tag it v0.2.0" in error
    [error] = check_wheel.version_errors("0.2.0", ["v0.2.0"], "# Changelog\n\n## Unreleased\n", citation)
    assert "no heading `## 0.2.0`" in error
    [error] = check_wheel.version_errors("0.2.1", [], changelog, citation)
    assert "write `version: 0.2.1` there" in error


def test_files_that_differ_between_the_two_names_are_found(check_wheel, repo, tmp_path):
    files = [path for name in ("rewards", "perturb") for path in (repo / name).rglob("*.py")]
    files += [repo / name / "py.typed" for name in ("rewards", "perturb")]
    held = {path.relative_to(repo).as_posix(): path.read_bytes() for path in files}
    held |= {f"vqathinker/{name}": text for name, text in held.items()}

    def found(**changed):
        with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
            for name, text in (held | changed).items():
                if text is not None:
                    archive.writestr(name, text)
        return check_wheel.unequal(tmp_path / "x.whl")

    assert len(files) > 20 and found() == []
    assert found(**{"vqathinker/rewards/rubric.py": b"# older"}) == ["rewards/rubric.py"]
    assert found(**{"vqathinker/perturb/modes.py": None}) == ["perturb/modes.py"]
    assert found(**{"rewards/py.typed": None}) == ["rewards/py.typed"]
