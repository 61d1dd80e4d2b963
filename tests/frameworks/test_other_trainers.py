"""The commands of examples/other_trainers in their trainers: every option is known, and the rows are paid."""

import re
import runpy
import shlex

import pytest

pytestmark = pytest.mark.framework


@pytest.fixture
def command(repo):
    """The words of the last command of an example, without what the caller may add."""

    def words(name):
        text = (repo / "examples/other_trainers" / name).read_text(encoding="utf-8").replace("\\\n", " ")
        last = re.sub(r'"\$\(.*?\)"|"\$\{@.*', "", text.strip().splitlines()[-1])
        return shlex.split(last)

    return words


def test_ms_swift_knows_every_option(run, command):
    options = [word.removeprefix("--") for word in command("ms_swift.sh") if word.startswith("--")]
    assert len(options) > 15
    unknown, _ = run("ms_swift", options, "ms_swift_options")
    assert unknown == []


def test_verl_takes_the_configuration_and_pays_the_rows(run, command, repo, clip_set, tmp_path):
    options = [word for word in command("verl.sh") if "=" in word]
    assert len(options) > 15
    rows = tmp_path / "rows.parquet"
    runpy.run_path(str(repo / "examples/other_trainers/rows.py"))["main"](
        str(clip_set / "val.csv"), str(clip_set), str(rows)
    )
    found, _ = run("verl", {"options": options, "rows": str(rows)}, "verl_command")
    assert found["n"] == 8
    assert [row["score"] for row in found["paid"]] == pytest.approx([2.0] * 4, abs=0.001)  # format and regression
