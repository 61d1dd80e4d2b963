"""The commands of a user at toy size, with time and memory of each."""

import json

import pytest

from benchmarks import real_size


@pytest.mark.engine
@pytest.mark.slow
def test_init_score_and_a_step_are_measured(tmp_path, capsys, monkeypatch, without_vllm):
    for name, value in without_vllm.items():
        monkeypatch.setenv(name, value)
    real_size.main(["--toy", "--out", str(tmp_path / "real_size.json")])
    found = json.loads((tmp_path / "real_size.json").read_text())
    phases = found["real_size"]["phases"]
    assert found["quick"] and list(phases) == ["init", "score", "GRPO step"]
    assert all(phase["seconds"] > 0 and phase["peak_bytes"] > 2**28 for phase in phases.values())
    assert 0 < phases["GRPO step"]["budget_bytes"] < phases["GRPO step"]["peak_bytes"]
    assert "budget (GiB)" in capsys.readouterr().out


def test_a_command_that_fails_is_said_with_its_last_words(tmp_path):
    with pytest.raises(ChildProcessError, match=r"vqathinker init ended with 2: (.|\n)*no checkpoint folder"):
        real_size.run(["init", "--internvl", "/nope", "--slowfast", "random", "--out", str(tmp_path / "x")], tmp_path)
