"""Prompts that show two clips, in one run with prompts that show one."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

import rewards
from vqathinker.data import ClipLoader, Sample, pairs_of, score_samples
from vqathinker.messages import videos_in
from vqathinker.policy import Prompt, Slot, VQAThinkerForConditionalGeneration
from vqathinker.rollout import Completion, Sampling
from vqathinker.scoring.predict import predict
from vqathinker.tasks import sample_dataset
from vqathinker.training import SFTCollator, VQAGRPOTrainer, sft_dataset
from vqathinker.training.groups import AnsweredCopy, ClipBatch, Tree
from vqathinker.training.samples import with_tasks

ALL = ("format", "regression", "rank", "temporal", "contrast", "pair_word", "pair_order", "pair_agreement")


@pytest.fixture
def samples(train_rows):
    scores = score_samples(train_rows[:6])
    return [*scores[:4], *pairs_of(scores, 3, seed=0)]


@pytest.fixture
def make_trainer(base, samples, config):
    def make(rubric, rows=samples, eval_rows=None, dtype=torch.float32, **changes):
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base).to(dtype)
        processor = AutoProcessor.from_pretrained(base)
        train, held_out = (chosen and sample_dataset(chosen, processor) for chosen in (rows, eval_rows))
        return VQAGRPOTrainer(policy, rubric, config(**changes), train, processor, eval_dataset=held_out)

    return make


def logps_alone(policy, processor, row, ids):
    """(L,) log-probabilities of an answer to a row's prompt, whose clips are decoded and encoded for it alone."""
    clips = [processor.load_clip(video) for video in videos_in(row["prompt"])]
    prompt = processor.render(row["prompt"], [len(clip.frames) for clip in clips])
    seen = {"frames": [clip.frames for clip in clips], "motion_frames": [clip.motion_frames for clip in clips]}
    whole = torch.tensor([[*prompt.ids, *ids.tolist()]])
    logits = policy(whole, torch.ones_like(whole), visual_index=processor.index_of([prompt]), **seen).logits
    return logits[0, len(prompt.ids) - 1 : -1].log_softmax(-1).gather(-1, ids[:, None])[:, 0]


def test_scores_and_comparisons_are_trained_in_one_run(make_trainer, samples, noted):
    rubric = with_tasks(rewards.Rubric([noted, *rewards.preset("recommended").rewards, rewards.Contrast()]), samples)
    assert rubric.names == ["noted", *ALL]
    trainer = make_trainer(rubric, beta=0.04, temperature=1.0, max_completion_length=6)
    trainer.train()
    tasks = {name: task for call in noted.calls for name, task in zip(call["sample_id"], call["task"], strict=True)}
    assert set(tasks.values()) == {"score", "compare"} and sum(" | " in name for name in tasks) >= 4
    for call in noted.calls:
        for place, task in enumerate(call["task"]):
            assert (
                (call["better"][place] is not None)
                == (task == "compare")
                == (len(videos_in(call["prompts"][place])) == 2)
            )
            perturbed = (call["perturbed_completions"] or [None] * 99)[place]
            assert task == "score" or (
                perturbed is None and call["copy_of"][place] is None and call["mos"][place] is None
            )
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2 and all(math.isfinite(e["loss"]) and e["grad_norm"] > 0 and "kl" in e for e in losses)
    keys = {key for entry in losses for key, value in entry.items() if value is not None}
    assert {"quality/compare_unparsable", "quality/compare_accuracy", "rewards/pair_word/mean"} <= keys

    policy, processor = trainer.model, trainer.processing_class
    rows = {row["sample_id"]: row for row in trainer.train_dataset}
    compared = 0
    for chunk in trainer._buffered_inputs:
        ids, mask = (torch.cat([chunk[f"prompt_{k}"], chunk[f"completion_{k}"]], 1) for k in ("ids", "mask"))
        keep, trainer._clips = chunk["completion_ids"].shape[1], chunk["clips"]
        found = {}
        with torch.no_grad():
            for packs in (True, False):
                trainer._packs = packs
                found[packs] = trainer._get_per_token_logps_and_entropies(policy, ids, mask, keep)[0]
            real = chunk["completion_mask"].bool()
            torch.testing.assert_close(found[True][real], found[False][real], atol=1e-4, rtol=1e-4)
            for group, own in enumerate(chunk["clips"].places):
                names = chunk["clips"].names[own]
                if len(names) != 2 or None in names:
                    continue
                row = next(row for row in rows.values() if videos_in(row["prompt"]) == names)
                for place in (2 * group, 2 * group + 1):
                    answer = chunk["completion_ids"][place][real[place]]
                    expected = logps_alone(policy, processor, row, answer)
                    torch.testing.assert_close(found[True][place][real[place]], expected, atol=1e-4, rtol=1e-4)
                    compared += 1
    assert compared >= 2


def update(trainer, chunk):
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, chunk)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def test_packed_single_and_partial_rows_make_the_same_update(make_trainer, samples, noted):
    trainer = make_trainer([noted], [*samples[4:6], samples[0], samples[6]], dtype=torch.float64, temperature=1.0)
    trainer.model.train()
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.current_gradient_accumulation_steps = 2
    [chunk] = [one for one in trainer._buffered_inputs if len(one["clips"].clips) == 3]  # a pair and a clip
    loss, gradients = update(trainer, chunk)
    for packs, limit in ((False, None), (True, 1)):
        trainer._packs, trainer.args.max_tokens_per_batch = packs, limit
        other, others = update(trainer, chunk)
        assert other == pytest.approx(loss, abs=1e-6) and others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_a_pair_with_an_unreadable_clip_teaches_nothing(make_trainer, samples, tmp_path, noted):
    pair = samples[4]
    broken = Sample("broken", "compare", (pair.clips[0], str(tmp_path / "no.mp4")), target=pair.target)
    trainer = make_trainer(
        [noted, rewards.PairWord()], [samples[0], samples[1], pair, broken], eval_rows=[pair, broken]
    )
    trainer.model.train()
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    for chunk in trainer._buffered_inputs:
        for group, own in enumerate(chunk["clips"].places):
            lost = len(chunk["clips"].names[own]) == 2 and None in chunk["clips"].names[own]
            taught = chunk["tool_mask"] * chunk["completion_mask"]
            assert bool(taught[2 * group : 2 * group + 2].any()) != lost
    assert trainer._metrics["train"]["quality/skipped_clips"] == [1.0]
    metrics = trainer.evaluate()
    assert metrics["eval_skipped_clips"] == 1 and metrics["eval_compare_unparsable"] == 1
    assert metrics["eval_compare_accuracy"] == 0 and math.isnan(metrics.get("eval_compare_consistency", math.nan))


def test_the_warm_start_learns_comparisons_beside_scores(base, samples, tmp_path):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
    processor = AutoProcessor.from_pretrained(base)
    chosen = [samples[4], samples[0], samples[5]]
    rows = sft_dataset(chosen, processor, seed=0)
    broken = {**rows[0], "prompt": [dict(m, content=list(m["content"])) for m in rows[0]["prompt"]]}
    broken["prompt"][0]["content"][1] = {"type": "video", "video": str(tmp_path / "no.mp4")}
    collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    batch = collate([rows[0], broken, rows[1], rows[2]])
    assert len(batch["frames"]) == 5 and len(batch["input_ids"]) == 3
    for labels, sample, row in zip(batch["labels"], chosen, rows, strict=True):
        assert processor.tokenizer.decode(labels[labels != -100]) == row["completion"] + processor.tokenizer.eos_token
        if sample.task == "compare":
            said = rewards.parse_comparison(row["completion"])
            assert (said.better, said.status) == (sample.target["better"], "ok")
    loss = policy(**batch).loss
    loss.backward()
    with torch.no_grad():
        whole = [
            logps_alone(policy, processor, row, labels[labels != -100]).sum()
            for row, labels in zip(rows, batch["labels"], strict=True)
        ]
    assert loss.item() == pytest.approx(-float(sum(whole)) / int((batch["labels"] != -100).sum()), rel=1e-4)
    assert all(parameter.grad.any() for parameter in policy.model.motion_projector.parameters())
    empty = collate([broken])
    assert (empty["labels"] == -100).all() and len(empty["frames"]) == 2


def test_predictions_about_pairs_do_not_depend_on_the_batch(policy, processor, samples, tmp_path):
    asked = [*sample_dataset([*samples[4:6], samples[0]], processor)["prompt"]]
    asked.append(processor.messages(str(tmp_path / "no.mp4")))
    videos = [shown[0] if len(shown) == 1 else shown for shown in map(videos_in, asked)]
    videos.append((samples[0].clips[0], str(tmp_path / "no.mp4")))
    asked.append(asked[0])
    settings = {"sampling": Sampling(8), "questions": asked}
    together = predict(policy, processor, videos, **settings)
    alone = predict(policy, processor, videos, batch_size=1, **settings)
    assert [p.answers for p in together] == [p.answers for p in alone]
    assert together[0].video == " + ".join(samples[4].clips) and together[2].video == samples[0].clips[0]
    assert [bool(p.answers) for p in together] == [True, True, True, False, False]
    assert together[4].error.startswith(f"{tmp_path / 'no.mp4'}: ") and together[4].error.endswith(together[3].error)


def test_a_batch_knows_which_clips_a_prompt_shows():
    one, two = (Slot("s"),), (Slot("s", 0), Slot("s", 1))
    prompts = [
        Prompt((1, 9, 2, 9, 3), two, (1, 1)),
        Prompt((1, 9, 4), one, (1,)),
        Prompt((1, 9, 2, 9, 5), two, (1, 1)),
        Prompt((1, 9, 2, 9, 3), two, (1, 1)),
    ]
    seen = [{"frames": torch.full((1, 1), i)} for i in range(7)]
    batch = ClipBatch(prompts, seen, ["s"], ["a", "b", "a", "a", "b", "b", "a"], placeholder=9)

    def shown(inputs):
        return [int(frames) for frames in inputs["frames"]]

    assert batch.places == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 7)]
    assert batch.trees == [Tree((0, 2), 4), Tree((1,), 2), Tree((3,), 4)]  # b and a are other clips than a and b
    inputs = batch.inputs()
    assert shown(inputs) == [0, 1, 2, 5, 6] and inputs["visual_index"].tolist() == [0, 1, 2, 3, 4]
    assert shown(batch.take([1, 2]).inputs()) == [2, 3, 4] and batch.take([2]).names == ["a", "b"]
    repeated = batch.repeated([1, 3], 2)
    assert shown(repeated) == [2, 5, 6] and repeated["visual_index"].tolist() == [0, 0, 1, 2, 1, 2]
    policy = SimpleNamespace(encode=lambda frames: [int(one) for one in frames])
    assert batch.encode(policy) == [0, 1, 0, 0, 1, 1, 0]
    copy = AnsweredCopy(Prompt((7, 9), one, (1,)), {"frames": torch.full((1, 1), 8)}, [Completion([1], [0.0])])
    both = batch.take([0, 1]).with_copies({1: copy})
    assert shown({"frames": [clip["frames"] for clip in both.clips]}) == [0, 1, 0, 1, 2, 8]
    assert both.names == ["a", "b", None, None, "a", None]
    assert [prompt.ids for prompt in both.prompts] == [(1, 9, 2, 9, 3)] * 2 + [(1, 9, 4), (7, 9)]
