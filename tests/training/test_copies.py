"""Answers to perturbed copies that are trained on, see `rewards.Contrast`."""

import math

import pandas as pd
import pytest
import torch
from transformers import AutoProcessor
from trl.trainer.utils import nanstd

import rewards
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.advantages import own_scale
from vqathinker.training.groups import alternate, copy_row
from vqathinker.training.scores import score_global_batch

FROZEN_VISION = ("vision_tower", "multi_modal_projector")
ANSWER = "<think>a</think><answer>{:.2f}</answer>"


@pytest.fixture
def make_trainer(base, train_rows, config):
    def make(rubric, freeze=(), **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        policy.freeze(freeze)
        processor = AutoProcessor.from_pretrained(base)
        return VQAGRPOTrainer(policy, rubric, config(**changes), clip_dataset(train_rows, processor), processor)

    return make


def draw(trainer):
    """One draw's micro-batches, and the prompts that answers were sampled from."""
    prompts = []
    engine = trainer._engine

    def watched(policy):
        real = engine(policy)
        generate = real.generate
        real.generate = lambda given, *args: prompts.extend(given) or generate(given, *args)
        return real

    trainer._engine = watched
    trainer.model.train()
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return trainer._buffered_inputs, prompts


@pytest.mark.parametrize("freeze", [(), FROZEN_VISION])
def test_the_loss_looks_at_the_copies_that_were_answered(make_trainer, freeze, noted):
    trainer = make_trainer([noted, rewards.Contrast()], freeze, perturbation_variant="official")  # blanks some frames
    chunks, prompts = draw(trainer)
    assert len(prompts) == 8 and [len(chunk["clips"]) for chunk in chunks] == [4, 4]
    assert [len(chunk["completion_ids"]) for chunk in chunks] == [8, 8]  # 2 clips and 2 copies, 2 answers each
    policy, seen = trainer.model, []
    with torch.no_grad():
        for chunk in chunks:
            clips = chunk["clips"]
            shown = clips.inputs()
            del shown["visual_index"]
            features = policy.encode(**shown)
            seen += [policy.prompt_embeds(prompt, [f]) for prompt, f in zip(clips.prompts, features, strict=True)]
    for original, copy, expected, expected_copy in zip(seen[::2], seen[1::2], prompts[:4], prompts[4:], strict=True):
        torch.testing.assert_close(original, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(copy, expected_copy, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(original, copy, atol=1e-3)


def test_a_copy_is_a_clip_without_labels_that_names_its_original(make_trainer, noted):
    trainer = make_trainer([noted, rewards.Contrast()], perturbation_variant="official", max_steps=1)
    trainer.train()
    columns = noted.calls[0]
    originals = columns["video_id"][0::4]
    assert len(set(originals)) == 4 and columns["video_id"][2::4] == [f"{name} (copy)" for name in originals]
    assert columns["copy_of"] == [value for name in originals for value in (None, None, name, name)]
    for name in ("mos", "kind", "severity", "perturbed_completions"):
        labels = columns[name]
        assert None not in labels[0::4] + labels[1::4] and set(labels[2::4] + labels[3::4]) == {None}, name
    entry = trainer.state.log_history[0]
    assert entry["quality/skipped_clips"] == 0 and math.isfinite(entry["loss"]) and entry["grad_norm"] > 0


def test_only_some_draws_may_have_copies(make_trainer, noted):
    trainer = make_trainer([noted, rewards.Contrast()], perturbation_variant="official", max_steps=4, perturb_every=3)
    trainer.train()
    assert [len(set(call["video_id"])) for call in noted.calls] == [8, 4, 4, 8]
    assert [call["perturbed_completions"] is None for call in noted.calls] == [False, True, True, False]
    resumed = make_trainer([noted, rewards.Contrast()], perturb_every=3)
    resumed.state.global_step, resumed._step = 3, 0
    resumed.model.train()
    assert resumed._trains_copies_now()
    with pytest.raises(ValueError, match="perturb_every=0"):
        make_trainer([rewards.Contrast()], perturb_every=0)


@pytest.mark.parametrize("freeze", [(), FROZEN_VISION])
def test_a_copy_that_lost_frames_is_trained_on_like_the_others(make_trainer, freeze, noted):
    trainer = make_trainer([noted, rewards.Contrast()], freeze, perturbation_modes=["drop"], max_steps=1)
    trainer.train()
    assert len(set(noted.calls[0]["video_id"])) == 8 and noted.calls[0]["copy_of"].count(None) == 8
    for chunk in trainer._buffered_inputs:
        lengths = [len(clip.get("frames", clip.get("spatial_features"))) for clip in chunk["clips"].clips]
        assert lengths[0::2] == [6, 6] and all(3 <= length < 6 for length in lengths[1::2])
        assert "tool_mask" not in chunk and chunk["completion_mask"].any(1).all()  # every row teaches
        ids, mask = (torch.cat([chunk[f"prompt_{k}"], chunk[f"completion_{k}"]], 1) for k in ("ids", "mask"))
        keep, trainer._clips = chunk["completion_ids"].shape[1], chunk["clips"]
        with torch.no_grad():
            packed = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, keep)[0]
            for row in range(len(ids)):  # each in a batch of its own
                one = slice(row // 2, row // 2 + 1)
                logits = trainer.model(
                    ids[row : row + 1], mask[row : row + 1], **chunk["clips"].take(range(one.start, one.stop)).inputs()
                ).logits
                logps = (logits[0, -keep - 1 : -1] / trainer.temperature).log_softmax(-1)
                expected = logps.gather(-1, ids[row, -keep:, None])[:, 0]
                real = chunk["completion_mask"][row].bool()
                torch.testing.assert_close(packed[row][real], expected[real], atol=1e-4, rtol=1e-4)
    entry = trainer.state.log_history[0]
    assert entry["quality/skipped_clips"] == 0 and math.isfinite(entry["loss"])


def test_copies_do_not_touch_rewards_and_metrics_of_originals():
    rows = [
        {"completion": ANSWER.format(score), "perturbed": ANSWER.format(2), "mos": mos, "video_id": name,
         "prompt": "?", "readable": True, "copy_of": None, "kind": "blur", "severity": "0.3"}
        for name, mos, scores in (("a", 4.0, (4.1, 3.6)), ("b", 2.0, (2.4, 1.9)))
        for score in scores
    ]  # fmt: skip
    copies = [copy_row(row) | {"completion": ANSWER.format(1.5), "readable": True, "perturbed": None} for row in rows]
    rubric = rewards.preset("recommended").plus(rewards.Distortion()).plus(rewards.Contrast())
    plain, both = score_global_batch(rubric, rows), score_global_batch(rubric, alternate(rows, copies, 2))
    own = [0, 1, 4, 5]
    torch.testing.assert_close(both.rewards[own], plain.rewards, equal_nan=True)
    paid = both.rewards[[2, 3, 6, 7]]
    names = rubric.names
    assert (paid[:, names.index("format")] == 1).all() and (paid[:, names.index("contrast")] > 0.5).all()
    assert paid[:, [i for i, name in enumerate(names) if name not in ("format", "contrast")]].isnan().all()
    for name in ("srcc", "plcc", "score_spread", "temporal_win_rate", "parse_rate", "skipped_clips"):
        assert both.metrics[name] == pytest.approx(plain.metrics[name]), name


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_copies_do_not_shrink_the_advantages_of_originals(aggregation):
    def advantages(rewards):
        """TRL's, with scale_rewards="batch"."""
        if aggregation == "normalize_then_sum":
            groups = rewards.unflatten(0, (-1, 2))
            deviation = [nanstd(group, dim=0) for group in groups]
            rewards = ((groups - groups.nanmean(1, keepdim=True)) / (torch.stack(deviation)[:, None] + 1e-4)).flatten(
                0, 1
            )
        totals = (rewards * weights).nansum(1)
        mean = totals.mean() if aggregation == "normalize_then_sum" else totals.unflatten(0, (-1, 2)).mean(1)
        return (totals - (mean if mean.ndim == 0 else mean.repeat_interleave(2))) / (totals.std() + 1e-4)

    weights, nan = torch.tensor([1.0, 0.5, 1.0]), float("nan")
    originals = torch.tensor([[1, 6.9, nan], [1, 6.2, nan], [1, 6.4, nan], [0, 6.8, nan]])
    paid = torch.tensor([[1, nan, 0.7], [0, nan, 0.6], [1, nan, 0.1], [1, nan, 0.3]])
    both = torch.cat([originals[:2], paid[:2], originals[2:], paid[2:]])
    copies = torch.tensor([False, False, True, True] * 2)
    scaled = advantages(both) * own_scale(both, weights, copies, 2, aggregation)
    torch.testing.assert_close(scaled[~copies], advantages(originals), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(scaled[copies], advantages(paid), rtol=1e-3, atol=1e-5)
    if aggregation == "sum_then_normalize":
        assert advantages(both)[~copies].std() < 0.5 * advantages(originals).std()
    nothing = torch.full((4, 3), nan)
    lonely = own_scale(torch.cat([originals, nothing]), weights, torch.arange(8) > 3, 2, aggregation)
    assert torch.equal(lonely[4:], torch.ones(4)) and lonely.isfinite().all()


class Ladder:
    """Pays the answers of a batch 0, 1, 2, ... without looking, and originals ten more."""

    __name__ = "ladder"

    def __call__(self, completions, copy_of=None, **columns):
        copy_of = copy_of or [None] * len(completions)
        return [i % 4 + i / 10 + 10 * (name is None) for i, name in enumerate(copy_of)]


@pytest.mark.parametrize("scale", ["batch", "group", "none"])
def test_advantages_of_originals_and_copies_are_scaled_by_their_own_kind(make_trainer, scale, tmp_path):
    trainer = make_trainer(
        [Ladder(), rewards.Contrast()], perturbation_variant="official", scale_rewards=scale, max_steps=2,
        perturb_every=2, log_completions=True,
    )  # fmt: skip
    trainer.train()
    first, second = (
        pd.read_parquet(tmp_path / "run" / "completions" / f"completions_0000{step}.parquet") for step in (1, 2)
    )
    assert len(first) == 16 and len(second) == 8  # all the answers of a draw, and of no other
    for table in (first, second):
        copied = table["video_id"].str.endswith("(copy)").to_numpy()
        assert copied.any() == (table is first)
        for kind in {True: [copied, ~copied], False: [~copied]}[copied.any()]:
            totals = table["ladder"].to_numpy()[kind]
            groups = totals.reshape(-1, 2)
            deviation = {"batch": totals.std(ddof=1), "group": groups.std(1, ddof=1, keepdims=True), "none": 1 - 1e-4}
            expected = ((groups - groups.mean(1, keepdims=True)) / (deviation[scale] + 1e-4)).ravel()
            assert table["advantage"].to_numpy()[kind] == pytest.approx(expected, rel=1e-4)
    trained = torch.cat([chunk["advantages"] for chunk in trainer._buffered_inputs])
    assert trained.tolist() == pytest.approx(second["advantage"].tolist())
