import numpy as np
import pytest
import torch

from vqathinker.cli import main
from vqathinker.clips import open_clip
from vqathinker.synth import doctor

FALLING = [4.6, 3.8, 3.0, 2.2, 1.4]
CHECKS = ("checkpoint", "values", "processor", "answers", "spread", "order")


def ladders(*by_kind):
    """(scenes, kinds, severities): the same ladder in every scene."""
    return np.tile(np.array(by_kind or [FALLING] * len(doctor.KINDS), dtype=float), (doctor.SCENES, 1, 1))


def outcome(scores, parsed=1.0):
    findings = doctor.check_scores(scores, parsed)
    assert [finding.check for finding in findings] == ["answers", "spread", "order"]
    return [finding.ok for finding in findings], {finding.check: finding.text for finding in findings}


def test_scores_that_fall_with_the_severity_are_sane():
    passed, text = outcome(ladders())
    assert passed == [True] * 3
    assert "100% of 60 answers" in text["answers"] and "deviation of 1.13" in text["spread"]
    assert "score -1.00 (blur -1.00, " in text["order"] and "severities 100% are" in text["order"]


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (ladders(*[FALLING[::-1]] * 4), "score +1.00"),
        # What a random network does: it prefers one of two opposites.
        (ladders(FALLING, FALLING[::-1], FALLING, FALLING[::-1]), "score +0.00 (blur -1.00, noise +1.00"),
        (ladders(*[[3.0] * 5] * 3, FALLING), "score -0.25"),  # without an order is no order
        (ladders(*[[np.nan, *FALLING[1:]]] * 4), "score +0.00"),  # nor is one with a score that is none
        # Severity 5 scores 1, the others in the wrong order: SRCC -0.4, pairs 1 of 4
        (ladders(*[[2.0, 2.5, 3.0, 3.5, 1.0]] * 4), "severities 25% are"),
    ],
)
def test_scores_without_the_right_order_are_not(scores, told):
    passed, text = outcome(scores)
    assert not passed[2] and told in text["order"]


def test_scores_that_hardly_differ_or_are_mostly_missing_are_not_sane():
    passed, text = outcome(3 + ladders() / 100)
    assert passed == [True, False, True] and "deviation of 0.01" in text["spread"]
    passed, text = outcome(ladders(), parsed=0.5)
    assert passed == [False, True, True] and "50% of 60" in text["answers"]


def test_the_first_failure_is_the_verdict():
    findings = [doctor.Finding(check, True, "") for check in CHECKS]
    assert doctor.verdict(findings).startswith("sane: ")
    for place, check in reversed([*enumerate(CHECKS)]):
        findings[place] = doctor.Finding(check, False, "")
        assert doctor.verdict(findings) == f"not sane: {doctor.MEANING[check]}"


def test_ladders_are_files_that_get_worse(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "SCENES", 1)
    videos = doctor.write_ladders(tmp_path, 96)
    assert len(set(videos)) == doctor.SCENES * len(doctor.KINDS) * len(doctor.SEVERITIES)
    frames = [open_clip(video).frames(np.arange(24)).astype(float) for video in videos]
    for start in range(0, len(videos), 5):
        mild, *worse = frames[start : start + 5]
        distances = [np.abs(rung - mild).mean() for rung in worse]
        assert distances == sorted(distances) and distances[0] > 0.5, videos[start]


def test_values_must_be_finite_and_no_layer_zero(policy):
    assert doctor.check_values(policy).ok
    language = policy.model.language_model
    with torch.no_grad():
        policy.model.vision_tower.embeddings.cls_token.zero_()  # these may be
        language.layers[0].self_attn.q_proj.bias.zero_()
        policy.model.motion_encoder.blocks[0].multipathway_blocks[0].norm.weight.zero_()
        assert doctor.check_values(policy).ok
        language.norm.weight.zero_()
        language.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
        policy.model.motion_encoder.blocks[0].multipathway_blocks[0].norm.running_var[0] = torch.inf
    found = doctor.check_values(policy)
    assert not found.ok and "2 not finite (model." in found.text and "layers.1.mlp.up_proj.weight" in found.text
    assert "1 all zero (model.language_model.norm.weight)" in found.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda policy, processor: setattr(policy.config, "image_token_id", 4),
            "placeholder id is 5 for the processor",
        ),
        (lambda policy, processor: setattr(processor, "motion_run_length", 1), "motion_run_length is 1 for the"),
        (lambda policy, processor: setattr(processor, "motion_tokens", 1), "25 placeholders for 30 visual tokens"),
        (lambda policy, processor: policy.resize_token_embeddings(500), r"562 tokens, the embedding 500 rows"),
        (lambda policy, processor: setattr(processor.tokenizer, "context_image_token", None), "no context_image_token"),
        (lambda policy, processor: setattr(policy.config.text_config, "max_position_embeddings", 99), "exceed 99"),
    ],
)
def test_processor_and_policy_must_agree(policy, processor, change, told):
    assert doctor.check_processor(policy, processor, 40).ok
    change(policy, processor)
    found = doctor.check_processor(policy, processor, 40)
    assert not found.ok and told in found.text


def examined(capsys, folder):
    """Exit code, check -> its line, and the last line."""
    code = main(["doctor", str(folder), "--device", "cpu", "--max-new-tokens", "4"])
    *lines, last = capsys.readouterr().out.splitlines()
    return code, {line[8:].partition(":")[0]: line for line in lines}, last


def test_a_policy_of_random_weights_is_not_sane(base, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SCENES", 1)  # for speed
    code, lines, last = examined(capsys, base)
    assert code == 1 and tuple(lines) == CHECKS
    assert all(lines[check].startswith("ok      ") for check in CHECKS[:3])
    assert all(lines[check].startswith("FAILED  ") for check in ("answers", "order"))
    assert "0% of 20 answers have a number" in lines["answers"] and "mean SRCC of severity and score" in lines["order"]
    assert last == f"not sane: {doctor.MEANING['answers']}"


def test_a_checkpoint_that_lacks_weights_is_not_looked_at_further(base, policy, tmp_path, capsys):
    weights = {name: tensor.clone() for name, tensor in policy.state_dict().items() if "motion_projector" not in name}
    policy.save_pretrained(tmp_path, state_dict=weights)
    code, lines, last = examined(capsys, tmp_path)
    assert code == 1 and list(lines) == ["checkpoint"] and lines["checkpoint"].startswith("FAILED")
    assert "6 of 340 are missing" in lines["checkpoint"] and last == f"not sane: {doctor.MEANING['checkpoint']}"


def test_wrong_input_is_one_line(base, tmp_path, capsys):
    for arguments in ([str(tmp_path / "none")], [str(base), "--device", "warp"], [str(base), "--frames", "0"]):
        assert main(["doctor", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.splitlines()[-1].startswith("vqathinker doctor: ")


@pytest.mark.slow
def test_the_demos_policies_are_examined_to_the_end(demo, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SCENES", 1)  # for speed
    folder, _ = demo
    for phase in ("sft", "grpo"):
        code, lines, last = examined(capsys, folder / "runs/demo" / phase)
        assert tuple(lines) == CHECKS and code == (
            1 if any(line.startswith("FAILED") for line in lines.values()) else 0
        )
        assert last.startswith("not sane" if code else "sane")
