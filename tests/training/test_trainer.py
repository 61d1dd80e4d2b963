import errno
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoProcessor

import rewards
from rewards import text_of
from vqathinker.clips import ClipError
from vqathinker.data import LabelRow, clip_dataset
from vqathinker.policy import MotionConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.synth import tiny_policy
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.scores import score_global_batch

SMALL_MOTION = MotionConfig(model_depth=18, stem_dim_outs=(16, 4), channel_reduction_ratio=4, image_size=64)
FROZEN_VISION = ("vision_tower", "multi_modal_projector")
GOOD = "<think>a</think><answer>{:.2f}</answer>"


class Spread:
    """A reward with a gradient at random weights: the share of distinct characters."""

    __name__ = "spread"
    needs_perturbed = True

    def __init__(self):
        self.seen = []

    def __call__(self, completions, mos, *, video_id, perturbed_completions=None, **columns):
        self.seen.append((list(completions), list(video_id), perturbed_completions, columns))
        return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def make_trainer(base, train_rows, config):
    def make(rubric=None, rows=train_rows, eval_rows=None, freeze=(), **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        policy.freeze(freeze)
        processor = AutoProcessor.from_pretrained(base)
        train, held_out = (rows and clip_dataset(rows, processor) for rows in (rows, eval_rows))
        return VQAGRPOTrainer(policy, rubric or [Spread()], config(**changes), train, processor, eval_dataset=held_out)

    return make


def losses(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_one_seed_gives_one_run_and_slowfast_stays(make_trainer):
    trainer = make_trainer()
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    first = losses(trainer)
    assert first == losses(make_trainer()) and len(first) == 2
    assert first != losses(make_trainer(seed=1))
    changed = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any("motion_encoder" in name for name in changed)
    for part in ("vision_tower", "multi_modal_projector", "motion_projector", "language_model"):
        assert any(part in name for name in changed), part
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in trainer.model.model.motion_encoder.parameters()}


def test_the_frame_cache_is_announced_and_an_empty_one_is_none(make_trainer, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(frame_cache=" ")
    assert trainer.args.frame_cache is None and "frame cache" not in caplog.text
    trainer.loader.read(trainer.train_dataset[0]["video"])
    assert not list(tmp_path.glob("*.frames"))
    make_trainer(frame_cache="cache", frame_cache_gib=2.5)
    [line] = [record.getMessage() for record in caplog.records if record.name == "vqathinker.policy.processing"]
    assert line.startswith("frame cache: 16 clips x ") and "in cache (holds 0.0, at most 2.5), " in line


@pytest.mark.contract
def test_metrics_and_completions_are_logged(make_trainer):
    trainer = make_trainer("recommended", log_completions=True)
    trainer.train()
    entry = trainer.state.log_history[0]
    for name in ("format", "regression", "rank", "temporal"):
        assert f"rewards/{name}/mean" in entry and f"rewards/{name}/std" in entry
    assert {"reward", "kl", "entropy", "completions/mean_length", "quality/group_reward_std"} <= entry.keys()
    assert entry["quality/parse_rate"] == 0 and entry["quality/skipped_clips"] == 0
    files = list(Path(trainer.args.output_dir, "completions").glob("*.parquet"))
    columns = {"video_id", "mos", "completion", "perturbation", "perturbed", "advantage", "rank"}
    assert len(files) == 2 and columns <= set(pd.read_parquet(files[0]).columns)


@pytest.mark.parametrize("frozen", [False, True])
def test_each_clip_is_decoded_and_encoded_once_for_all_its_answers_and_its_frames_travel_as_bytes(make_trainer, frozen):
    trainer = make_trainer(max_steps=1, freeze=FROZEN_VISION if frozen else ())
    reads, towers, motions, types = [], [], [], []
    load = trainer.loader.read
    trainer.loader.read = lambda video: reads.append(video) or load(video)
    model = trainer.model.model
    encode = model.frame_features
    model.frame_features = lambda frames: types.append(frames.dtype) or encode(frames)
    model.motion_encoder.register_forward_pre_hook(lambda m, a: types.append(a[0].dtype))
    model.vision_tower.register_forward_hook(lambda m, a, k, o: towers.append(len(k["pixel_values"])), with_kwargs=True)
    model.motion_encoder.register_forward_hook(lambda m, a, o: motions.append(len(a[0])))
    trainer.train()
    # 4 clips x 6 frames for the rollouts (and one blank frame where a map has blanks), 2 x 2 clips in the loss.
    assert [n for n in towers if n > 1] == ([24] if frozen else [24, 12, 12])
    assert len(set(reads)) == len(reads) and 4 <= len(reads) <= 8  # 4 in use, up to 4 read ahead
    assert sum(motions) == 8  # 4 originals, 4 perturbed copies
    assert len(types) >= len(motions) + 1 and set(types) == {torch.uint8}  # as far as the policy


def test_perturbed_copies_are_answered_and_never_the_original_again(make_trainer):
    reward = Spread()
    trainer = make_trainer([reward], max_steps=1)
    maps = []
    draw = trainer._frame_map
    trainer._frame_map = lambda row, clip: maps.append(draw(row, clip)) or maps[-1]
    trainer.train()
    texts, ids, perturbed, columns = reward.seen[0]
    assert len(texts) == len(perturbed) == 8 and len(set(ids)) == 4
    assert all(isinstance(text, str) for text in perturbed)
    assert len(maps) == 4 and not any(frame_map.is_identity for frame_map in maps)
    assert len(columns["kind"]) == 8


def test_no_copy_is_made_when_no_reward_asks_for_one(make_trainer):
    trainer = make_trainer([rewards.Format(), rewards.Regression()], max_steps=1)
    assert not trainer.needs_perturbed
    trainer.train()
    assert trainer._perturbed == [None] * 8


@pytest.mark.contract
@pytest.mark.parametrize("freeze", [(), FROZEN_VISION])
def test_loss_equals_trls_on_repeated_clips(make_trainer, freeze):
    """The grouped forward gives the log-probabilities of encoding the clip again for each answer."""
    trainer = make_trainer(max_steps=1, freeze=freeze)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    inputs = trainer._prepare_inputs(batch)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    keep = inputs["completion_ids"].shape[1]
    clips = trainer._clips = inputs["clips"]
    with torch.no_grad():
        grouped, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, keep)
        chunked, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, keep, batch_size=2)
        logits = trainer.model(
            input_ids=ids,
            attention_mask=mask,
            frames=torch.stack([trainer.loader.get(row["video"]).frames for row in batch[: len(ids)]]),
            motion_features=[clip["motion_features"] for clip in clips.clips for _ in range(2)],
            visual_index=trainer.processing_class.index_of([prompt for prompt in clips.prompts for _ in range(2)]),
        ).logits[:, -keep - 1 : -1]
    expected = (logits / trainer.temperature).log_softmax(-1).gather(-1, ids[:, -keep:, None])[..., 0]
    real = inputs["completion_mask"].bool()
    torch.testing.assert_close(grouped[real], expected[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(chunked, grouped, atol=1e-4, rtol=1e-4)


def test_an_unreadable_clip_is_skipped_counted_and_teaches_nothing(make_trainer, train_rows, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    rows = [LabelRow(str(bad), "bad.mp4", 3.0, train_rows[0].extra), *train_rows[:3]]
    reward = Spread()
    trainer = make_trainer([reward], rows=rows, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["quality/skipped_clips"] == 1
    skipped = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in skipped] == [str(bad)]
    _, ids, *_ = reward.seen[0]
    assert "bad.mp4" not in ids and len(ids) == 6
    buffered = trainer._buffered_inputs
    place = [row for chunk in buffered for row in (chunk["completion_mask"] * chunk["tool_mask"]).any(1).tolist()]
    assert place.count(False) == 2  # both answers to the bad clip are masked out of the loss
    advantages = torch.cat([chunk["advantages"] for chunk in buffered])
    assert (advantages[[i for i, ok in enumerate(place) if not ok]] == 0).all()


def test_a_small_set_without_a_readable_clip_is_given_up(make_trainer, tmp_path):
    rows = [LabelRow(str(tmp_path / f"{i}.mp4"), f"{i}.mp4", 1.0 + i) for i in range(4)]
    with pytest.raises(ClipError, match="none of the 4 clips before it was readable"):
        make_trainer(rows=rows, max_steps=20).train()


def test_a_checkpoints_card_says_how_it_judges_a_clip(make_trainer, tmp_path):
    make_trainer("recommended", max_steps=1, save_strategy="steps", save_steps=1).train()
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "QualityScorer.from_pretrained" in card and " x format, " in card and "None" not in card
    assert not (tmp_path / "run" / "_saving").exists()


def test_a_checkpoint_that_cannot_be_written_is_named(make_trainer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "run/_saving/checkpoint-0/optimizer.pt"))

    trainer = make_trainer(max_steps=1)
    monkeypatch.setattr("trl.GRPOTrainer._save_checkpoint", full)
    with pytest.raises(OSError, match="No space left") as error:
        trainer._save_checkpoint(trainer.model, None)
    assert error.value.__notes__ == [
        f"This is about the checkpoint {tmp_path}/run/checkpoint-0, which is written in {tmp_path}/run/_saving first."
    ]


def test_strict_stops_at_an_unreadable_clip(make_trainer, train_rows, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    rows = [LabelRow(str(bad), "bad.mp4", 3.0, train_rows[0].extra), *train_rows[:3]]
    with pytest.raises(ClipError, match=r"bad\.mp4"):
        make_trainer(rows=rows, strict_clips=True).train()


@pytest.mark.contract
def test_checkpoint_can_be_loaded_and_scored(make_trainer, tmp_path, clip_set):
    from vqathinker import QualityScorer

    trainer = make_trainer(max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    weights, settings = (tmp_path / "run" / "checkpoint-1" / name for name in ("model.safetensors", "config.json"))
    assert weights.stat().st_mode == settings.stat().st_mode  # as the umask says
    scorer = QualityScorer.from_pretrained(tmp_path / "run" / "checkpoint-1", device="cpu", max_new_tokens=8)
    result = scorer.score(clip_set / "videos" / "val" / "00000.mp4")
    assert result.status == "no_answer" and result.score != result.score


@pytest.mark.contract
def test_a_resumed_run_continues_the_uninterrupted_one(make_trainer, tmp_path):
    whole = make_trainer(max_steps=3, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_trainer(max_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, msg=name)
    assert resumed.state.log_history[-2]["loss"] == pytest.approx(whole.state.log_history[-2]["loss"], abs=1e-6)


def global_rows(scores, copies, readable=None):
    ids = [f"v{i // 2}" for i in range(len(scores))]
    return [
        {
            "prompt": "",
            "video_id": name,
            "mos": 1.0 + int(name[1:]),
            "completion": GOOD.format(score),
            "perturbed": GOOD.format(copy),
            "readable": readable is None or name not in readable,
        }
        for name, score, copy in zip(ids, scores, copies, strict=True)
    ]


@pytest.mark.parametrize("preset", list(rewards.PRESETS))
def test_rewards_of_the_global_batch_are_the_rubrics(preset):
    rows = global_rows([1.2, 1.1, 2.2, 1.4, 3.1, 3.3], [1.0, 1.0, 2.0, 2.1, 2.0, 2.2])
    scored = score_global_batch(rewards.preset(preset), rows)
    table = rewards.preset(preset).score(
        [row["completion"] for row in rows],
        mos=[row["mos"] for row in rows],
        video_id=[row["video_id"] for row in rows],
        perturbed_completions=[row["perturbed"] for row in rows],
    )
    for column, name in enumerate(table.rewards):
        assert scored.rewards[:, column].tolist() == pytest.approx(table.rewards[name])
    assert scored.metrics["parse_rate"] == 1 and scored.metrics["srcc"] == 1


@pytest.mark.parametrize("videos", [1, 2])
@pytest.mark.parametrize(("preset", "parsed"), [("official", 1.0), ("recommended", 0.5), ("paper", 0.5)])
def test_answers_are_counted_by_the_presets_rule_for_numbers(preset, parsed, videos):
    rows = global_rows([3.5, 2.5] * videos, [1.0] * (2 * videos))
    for row in rows[::2]:
        row["completion"] = "<think>a</think><answer>3-4</answer>"
    for rubric in (rewards.preset(preset), rewards.preset(preset).without(["regression"])):
        assert score_global_batch(rubric, rows).metrics["parse_rate"] == parsed


def test_signs_of_a_collapse_are_measured():
    rubric = rewards.preset("recommended")
    scored = score_global_batch(rubric, global_rows([1, 2, 3, 4, 5, 2], [1] * 6))
    spread, totals = scored.metrics, scored.rewards @ torch.tensor(rubric.weights)
    alike = score_global_batch(rewards.preset("recommended"), global_rows([2, 2, 2, 2, 2, 3], [1] * 6)).metrics
    assert spread["identical_answers"] == 0 and spread["common_score"] == pytest.approx(1 / 3)
    assert alike["identical_answers"] == pytest.approx(4 / 6) and alike["common_score"] == pytest.approx(5 / 6)
    assert alike["score_spread"] < 0.4 < 1 < spread["score_spread"]
    assert spread["zero_gradient_groups"] == 0
    assert spread["group_reward_std"] == pytest.approx(totals.view(3, 2).std(dim=1).mean().item())
    assert alike["zero_gradient_groups"] == pytest.approx(2 / 3)  # though these two clips' rewards differ
    flat = score_global_batch(rewards.preset("recommended"), global_rows([1, 1, 2, 2, 5, 5], [1] * 6)).metrics
    assert flat["zero_gradient_groups"] == 1 and flat["group_reward_std"] == 0


def test_unreadable_clips_do_not_enter_the_rewards_of_the_others():
    all_rows = global_rows([1.2, 1.1, 2.2, 1.4, 3.1, 3.3], [1.0] * 6, readable={"v1"})
    scored = score_global_batch(rewards.preset("recommended"), all_rows)
    without = score_global_batch(rewards.preset("recommended"), [r for r in all_rows if r["readable"]])
    assert scored.rewards[2:4].isnan().all() and scored.metrics["skipped_clips"] == 1
    torch.testing.assert_close(scored.rewards[[0, 1, 4, 5]], without.rewards)
    alone = score_global_batch(rewards.preset("recommended"), global_rows([1, 1.1, 2, 2], [1] * 4, readable={"v0"}))
    assert alone.rewards[:2].isnan().all() and alone.rewards[2:, 2:].isnan().all()
    assert alone.rewards[2:, :2].tolist() == [[1.0, 1.0], [1.0, 1.0]]  # format and regression need no other clip


@pytest.mark.parametrize("comparing", [[], [rewards.Ranking()]])
def test_weights_stay_where_one_clip_is_readable(comparing):
    weights = [0.5, 3.0, 7.0]
    rubric = rewards.Rubric([rewards.Format(), rewards.Regression(), *comparing], weights[: 2 + len(comparing)])
    scored = score_global_batch(rubric, global_rows([1, 1.1, 2, 2.3], [1] * 4, readable={"v0"}))
    totals = scored.rewards[2:, :2] @ torch.tensor(weights[:2])
    assert scored.metrics["group_reward_std"] == pytest.approx(totals.std().item()) and totals.std() > 0.1


def test_one_clip_per_batch_is_refused_at_the_start(make_trainer):
    with pytest.raises(ValueError, match="1 clip per batch"):
        make_trainer("recommended", per_device_train_batch_size=2, gradient_accumulation_steps=1)


def test_one_clip_is_enough_for_rewards_that_compare_none(make_trainer):
    rubric = [rewards.Format(), rewards.Length(0, 50)]
    trainer = make_trainer(rubric, per_device_train_batch_size=2, gradient_accumulation_steps=1, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["rewards/length/mean"] == 1


@pytest.mark.parametrize("changed", [{"video": "/other/0.mp4"}, {"mos": 1.25}])
def test_two_clips_or_labels_under_one_id_are_refused_at_the_start(make_trainer, train_rows, changed):
    first = train_rows[0]
    twin = replace(first, **changed)
    message = rf"'{first.video_id}' names '{first.video}' with MOS {first.mos} and '{twin.video}' with MOS {twin.mos}"
    with pytest.raises(ValueError, match=message):
        make_trainer(rows=[*train_rows, twin])
    with pytest.raises(ValueError, match=message):
        make_trainer(eval_rows=[*train_rows[:3], twin])
    make_trainer(rows=[*train_rows, first])  # a row may be repeated


def test_the_configurations_weights_count(make_trainer):
    for rubric, weights in (("paper", [0.5, 1, 0, 2]), ([rewards.Format(), rewards.Regression()], [0.5, 2])):
        trainer = make_trainer(rubric, reward_weights=weights)
        assert trainer.rubric.weights == trainer.reward_weights.tolist() == weights
    with pytest.raises(ValueError, match=r"3 weights for 4 rewards \['format', 'regression', 'rank', 'temporal'\]"):
        make_trainer("recommended", reward_weights=[1, 1, 1])


def test_weights_that_contradict_a_rubric_are_refused(make_trainer):
    ready = rewards.Rubric([rewards.Format(), rewards.Regression()], [0.5, 1])
    trainer = make_trainer(ready, reward_weights=[0.5, 1])
    assert trainer.rubric.weights == trainer.reward_weights.tolist() == [0.5, 1]
    with pytest.raises(ValueError, match=r"reward_weights=\[1, 1\], but the rubric's weights are \{'format': 0\.5"):
        make_trainer(ready, reward_weights=[1, 1])


def test_one_configuration_serves_rubrics_with_other_weights(base, train_rows, config):
    args, processor = config(beta=0), AutoProcessor.from_pretrained(base)
    for weight in (0.5, 2.0):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        rubric = rewards.Rubric([rewards.Format()], [weight])
        trainer = VQAGRPOTrainer(policy, rubric, args, clip_dataset(train_rows, processor), processor)
        assert trainer.reward_weights.tolist() == trainer.args.reward_weights == [weight]
    assert args.reward_weights is None


def test_options_of_loading_are_used_or_refused_and_no_false_alarm_is_given(make_trainer, capfd, caplog):
    loading = {"attn_implementation": "sdpa"}
    trainer = make_trainer(beta=0.04, model_init_kwargs=loading)  # the reference is loaded with them
    assert trainer.ref_model is not None and trainer.args.model_init_kwargs == loading
    shown = capfd.readouterr()
    assert "will be ignored" not in caplog.text + shown.out + shown.err
    with pytest.raises(ValueError, match=r"model_init_kwargs=.*they would not be used"):
        make_trainer(beta=0, model_init_kwargs=loading)


def test_attention_that_reads_no_packed_rows_has_single_ones(base, train_rows, config):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, attn_implementation="eager")
    processor = AutoProcessor.from_pretrained(base)
    dataset, shapes = clip_dataset(train_rows, processor), []
    always = config(shared_prefix="always")
    with pytest.raises(ValueError, match=r"shared_prefix='always' with attn_implementation='eager': only 'sdpa' reads"):
        VQAGRPOTrainer(policy, [Spread()], always, dataset, processor)
    trainer = VQAGRPOTrainer(policy, [Spread()], config(max_steps=1, beta=0), dataset, processor)
    language = policy.model.language_model
    language.register_forward_pre_hook(lambda m, a, k: shapes.append(len(k["inputs_embeds"])), with_kwargs=True)
    [loss] = losses(trainer)
    assert loss == loss and shapes[-2:] == [4, 4] and language.config._attn_implementation == "eager"


def test_a_reference_of_another_class_is_refused(config, train_rows, internvl):
    policy = VQAThinkerForConditionalGeneration.from_internvl(internvl, "random", SMALL_MOTION)
    processor = VQAThinkerProcessor.from_internvl(internvl, policy.config)
    policy.config._name_or_path = str(internvl)
    with pytest.raises(ValueError, match="is a InternVLForConditionalGeneration, the policy a VQAThinker"):
        VQAGRPOTrainer(policy, "recommended", config(), clip_dataset(train_rows, processor), processor)


def test_a_set_smaller_than_one_batch_is_refused(make_trainer, train_rows):
    with pytest.raises(ValueError, match="the training set has 3 rows, one generation batch needs 4"):
        make_trainer(rows=train_rows[:3])


def test_kl_needs_a_policy_with_a_path(config, train_rows):
    policy, processor = tiny_policy()
    with pytest.raises(ValueError, match=r"beta=0\.04 needs a reference"):
        VQAGRPOTrainer(policy, "recommended", config(), clip_dataset(train_rows, processor), processor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 6, "num_generations": 4}, "multiple of num_generations=4"),
        ({"perturbation_modes": ["spin"]}, "spin"),
        ({"perturbation_variant": "x"}, "'paper' or 'official'"),
        ({"decode_threads": 0}, "decode_threads=0"),
        ({"frame_cache_gib": 0}, "frame_cache_gib=0: must be above 0"),
        ({"temperature": 0.0}, "temperature=0.0: answers are sampled"),
        ({"ds3_gather_for_generation": False}, "ds3_gather_for_generation=False"),
    ],
)
def test_bad_settings_name_value_rule_and_fix(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_loss_and_kl_are_the_papers_unless_told(config):
    assert config().loss_type == "grpo" and not config().use_bias_correction_kl
    assert config(use_bias_correction_kl=True).use_bias_correction_kl


def test_a_checkpoint_between_two_draws_is_refused(config):
    with pytest.raises(ValueError, match=r"save_steps=3.*multiple of 2"):
        config(save_strategy="steps", save_steps=3, num_iterations=2)
    config(save_strategy="steps", save_steps=4, num_iterations=2)
