"""The score head's losses, and how the warm start and GRPO train it."""

import math
from statistics import NormalDist

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoProcessor
from trl import GRPOTrainer

from rewards import text_of
from vqathinker.data import ClipLoader, Sample, pairs_of, score_samples
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.scoring.readouts import head_score
from vqathinker.tasks import sample_dataset
from vqathinker.training import SFTCollator, SFTTrainer, VQAGRPOTrainer, VQASFTConfig, sft_dataset
from vqathinker.training.head_loss import (
    HeadArguments,
    HeadLoss,
    bradley_terry_rank,
    check_head_learns,
    check_new_head,
    fidelity_rank,
    head_terms,
    paper_rank,
    prepare_head,
    warn_of_pairs,
)

PHI = NormalDist().cdf
SCORES, MOS = [3.0, 4.0, 2.0], [4.0, 2.0, 2.05]
PAIRS = [(-1.0, 2.0), (1.0, 1.95), (2.0, -0.05)]
"""(difference of scores, difference of labels) of clips 1-2, 1-3 and 2-3."""


def written_out(rank):
    """The term of one pair, in plain floats."""

    def fidelity(p, q):
        p, q = PHI(p / math.sqrt(2)), PHI(q / math.sqrt(2))
        return 1 - math.sqrt(p * q) - math.sqrt((1 - p) * (1 - q))

    def bradley_terry(p, q):
        win, loss = (1 / (1 + 5 * math.exp(-d)) for d in (p, -p))  # Rao and Kupper, ties take what is left
        return -math.log(1 - win - loss if abs(q) <= 0.1 else win if q > 0 else loss)

    return {"paper": lambda p, q: max(0.0, -p * q), "fidelity": fidelity, "bradley_terry": bradley_terry}[rank]


@pytest.mark.parametrize("rank", ["paper", "fidelity", "bradley_terry"])
def test_losses_are_those_written_out(rank):
    expected = sum(written_out(rank)(p, q) for p, q in PAIRS) / 3
    scores, mos = (torch.tensor([*values, math.nan][:4], dtype=torch.float64) for values in ([*SCORES, 9.0], MOS))
    error, order = head_terms(scores, mos, rank)  # the last clip has no label
    assert error.item() == pytest.approx((1 + 4 + 0.05**2) / 3) and order.item() == pytest.approx(expected, abs=2e-5)
    [error, order] = head_terms(scores[:1], mos[:1], rank)
    assert error.item() == pytest.approx(1) and order.item() == 0
    scores.requires_grad_()
    assert sum(head_terms(scores, mos * math.nan, rank)).item() == 0
    sum(head_terms(scores, mos, rank)).backward()
    assert scores.grad[3] == 0 and torch.isfinite(scores.grad).all() and scores.grad[:3].all()


def test_rank_losses_have_their_papers_properties():
    d = torch.tensor([0.0, 0.5, -3.0])
    assert paper_rank(d, torch.tensor([2.0, 2.0, 2.0])).tolist() == [0, 0, 6]  # equal scores cost nothing
    assert fidelity_rank(d, d).abs().max() < 1e-4 and fidelity_rank(d, d + 0.3).min() > 1e-4
    wins, ties = (bradley_terry_rank(d, torch.full((3,), label)) for label in (1.0, 0.0))
    torch.testing.assert_close(ties, -torch.log(1 - torch.exp(-wins) - torch.exp(-bradley_terry_rank(-d, d * 0 + 1))))
    assert ties.argmin() == 0


# ---------------------------------------------------------------------- the warm start


@pytest.fixture
def fit(base, train_rows, tmp_path):
    """Trains a policy with a head for a few steps, 4 clips each; gives it with its trainer."""

    def make(form, samples=None, steps=1, **changes):
        settings = {"max_steps": steps, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}
        settings |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
        args = VQASFTConfig(str(tmp_path), **(settings | changes))
        torch.manual_seed(0)
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base, score_head=form)
        prepare_head(policy, args)
        before = {name: value.clone() for name, value in policy.state_dict().items()}
        processor = AutoProcessor.from_pretrained(base)
        head = ("alone" if args.head_only else "beside") if args.head_weight else ""
        collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy, head)
        rows = sft_dataset(score_samples(train_rows[:8]) if samples is None else samples, processor, 0)
        trainer = SFTTrainer(policy, args, data_collator=collator, train_dataset=rows, processing_class=processor)
        trainer.passes = 0

        def count(*_):
            trainer.passes += 1

        policy.model.language_model.register_forward_hook(count)
        trainer.train()
        changed = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
        return trainer, changed

    return make


@pytest.mark.parametrize("form", ["hidden", "visual"])
def test_a_head_is_fitted_alone_and_learns(fit, form, train_rows, processor):
    samples = score_samples(train_rows[:4])
    trainer, changed = fit(form, samples, steps=8, head_weight=1.0, head_only=True, learning_rate=1e-2)
    assert len(changed) == 6 and all("score_head" in name for name in changed)
    assert trainer.passes == (8 if form == "hidden" else 0)  # of the language model
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in log[:3]:
        assert entry["loss"] == pytest.approx(entry["head/mse"] + entry["head/rank_fidelity"], abs=2e-4)
    assert log[-1]["head/mse"] < 0.7 * log[0]["head/mse"]
    # What was trained is what the read-out gives, of clips that came in batches.
    rows = trainer.train_dataset.to_list()
    with torch.no_grad():
        batch = trainer.data_collator(rows)
        mos = batch.pop("mos")
        assert mos.tolist() == pytest.approx([row.mos for row in train_rows[:4]])
        found = trainer.model.eval()(**batch, logits_to_keep=1).scores
    alone = [head_score(trainer.model, processor, processor.load_clip(row.video)) for row in train_rows[:4]]
    assert found.tolist() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("mode", ["alone", "beside"])
def test_behind_a_pair_a_visual_head_reads_its_own_clip(base, train_rows, processor, mode):
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base, score_head="visual").eval()
    clip, *others = score_samples(train_rows[:3])
    rows = sft_dataset([pairs_of(others, 1, seed=0)[0], clip], processor, 0).to_list()
    with torch.no_grad():
        batch = SFTCollator(processor, ClipLoader(processor.load_clip), policy, mode)(rows)
        assert batch.pop("mos").tolist() == [pytest.approx(math.nan, nan_ok=True), pytest.approx(train_rows[0].mos)]
        found = policy(**batch).scores
    assert batch["score_at"].tolist() == [0, 2]
    assert found[1].item() == pytest.approx(head_score(policy, processor, processor.load_clip(clip.clips[0])), abs=1e-4)


def test_a_weight_of_zero_trains_as_without_a_head(fit):
    with_head, changed = fit("hidden")
    without, _ = fit("")
    own = with_head.model.state_dict()
    assert changed and not any("score_head" in name for name in changed)
    assert all(torch.equal(own[name], value) for name, value in without.model.state_dict().items())


def test_beside_answers_both_losses_are_added_and_reach_the_policy(fit, train_rows, tmp_path):
    questions = [Sample("q", "choice", (train_rows[0].video,), "Blurred?", {"options": ["Yes", "No"], "answer": "A"})]
    gone = [Sample("gone", "score", (str(tmp_path / "gone.mp4"),), target={"mos": 2.0})]
    samples = [*score_samples(train_rows[:2]), *questions, *gone]
    trainer, changed = fit("hidden", samples, head_weight=2.0, head_rank="paper", head_rank_weight=0.5)
    assert any("score_head" in name for name in changed) and any("language_model" in name for name in changed)
    batch = trainer.data_collator(trainer.train_dataset.to_list())
    mos = [row.mos for row in train_rows[:2]]
    assert batch["mos"][:2].tolist() == pytest.approx(mos) and batch["mos"].isnan().tolist() == [False, False, True]
    policy = trainer.model.eval()
    plain = {name: value for name, value in batch.items() if name not in ("mos", "score_at")}
    with torch.no_grad():
        answers = policy(**plain).loss
        a, b = policy(**plain, score_at=batch["score_at"]).scores[:2].tolist()
        head = ((a - mos[0]) ** 2 + (b - mos[1]) ** 2) / 2 + 0.5 * max(0.0, -(a - b) * (mos[0] - mos[1]))
        found = trainer.compute_loss(policy, batch)
    assert found.item() == pytest.approx(answers.item() + 2 * head, rel=1e-4)
    scaled = trainer.compute_loss(policy, batch, num_items_in_batch=torch.tensor(1.0)) * 1.0
    trainer.current_gradient_accumulation_steps = 4
    parts = trainer.compute_loss(policy, batch, num_items_in_batch=torch.tensor(1.0))
    assert (scaled - parts).item() == pytest.approx(2 * head * 3 / 4, rel=1e-3)  # micro-batches are averaged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_only": True}, "head_only=True with head_weight=0"),
        ({"head_weight": -1.0}, "head_weight=-1.0, head_rank_weight=1.0: must be at least 0"),
        (
            {"head_rank": "paper"},
            r"\{'head_rank': 'paper', 'head_rank_weight': 1.0\} with head_weight=0: no score head",
        ),
        ({"head_rank_weight": 0.5}, r"'head_rank_weight': 0.5\} with head_weight=0: no score head is trained"),
        ({"head_rank": "triplet"}, r"head_rank='triplet': must be one of \['paper', 'fidelity', 'bradley_terry'\]"),
        ({"head_weight": 1.0}, "head_weight=1.0, but the policy has no score head: add one with score_head: hidden"),
    ],
)
def test_options_that_cannot_be(fit, changes, message):
    with pytest.raises(ValueError, match=message):
        fit("", **changes)


def test_a_head_that_does_not_learn_or_not_alone_is_refused(policy, base):
    policy.set_score_head("hidden")
    args = HeadArguments(head_weight=1.0)
    check_head_learns(policy, args)
    args.head_only = True
    with pytest.raises(
        ValueError, match=r"head_only=True, but \d+ other weights would be trained too \(first: model\.lang"
    ):
        check_head_learns(policy, args)
    prepare_head(policy, args)
    check_head_learns(policy, args)
    policy.freeze(["score_head"])
    with pytest.raises(ValueError, match=r"no weight of a score head is trained\. .*leave it out of freeze"):
        check_head_learns(policy, args)
    with pytest.raises(
        ValueError, match=r"score_head='visual' with head_weight=0: the new head would be saved untrained"
    ):
        check_new_head("visual", base, HeadArguments())
    for form, weight in (("visual", 1.0), ("", 0.0), (None, 0.0)):
        check_new_head(form, base, HeadArguments(head_weight=weight))


def test_terms_are_logged_where_they_are(caplog):
    loss = HeadLoss(HeadArguments(head_weight=2.0, head_rank="paper"), Accelerator(cpu=True))
    for scores, mos in (([1.0, 2.0], [2.0, 1.0]), ([3.0, 9.0], [1.0, math.nan]), ([5.0], [math.nan])):
        loss(torch.tensor(scores), torch.tensor(mos))
    assert loss.logged() == {"head/mse": pytest.approx((1 + 4) / 2), "head/rank_paper": 1.0}
    assert loss.logged() == {}
    warn_of_pairs(HeadArguments(head_weight=1.0), 2)
    warn_of_pairs(HeadArguments(head_weight=1.0, head_rank_weight=0.0), 1)
    assert not caplog.text
    warn_of_pairs(HeadArguments(head_weight=1.0), 1)
    assert "head_rank_weight=1 does nothing: a micro-batch of all processes together has 1 prompt" in caplog.text


def test_without_labels_there_is_nothing_to_learn(fit, train_rows):
    questions = [Sample("q", "choice", (train_rows[0].video,), "Blurred?", {"options": ["Yes", "No"], "answer": "A"})]
    with pytest.raises(ValueError, match="no sample has a MOS"):
        fit("hidden", questions, head_weight=1.0)


# ---------------------------------------------------------------------- GRPO


def by_text(completions, **columns):
    """Pays by the text, so that there is a gradient at random weights."""
    return [len(set(text)) / 20 for text in map(text_of, completions)]


@pytest.fixture
def grpo(base, train_rows, config):
    """Makes a trainer of a policy with a head: two labelled clips, one without a label, a question, and a pair."""

    def make(form, dtype=torch.float32, **changes):
        torch.manual_seed(0)
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base, score_head=form, dtype=dtype)
        processor = AutoProcessor.from_pretrained(base)
        target = {"options": ["Yes", "No"], "answer": "A"}
        asked = Sample("q", "choice", (train_rows[0].video,), "Is it blurred?", target)
        without = Sample("u", "score", (train_rows[2].video,), target={"mos": None})
        scores = score_samples(train_rows[:2])
        pair = pairs_of(scores, 1, seed=0)[0]
        rows = sample_dataset([*scores, asked, without, pair], processor)
        settings = {"per_device_train_batch_size": 10, "gradient_accumulation_steps": 1, "max_steps": 1}
        settings |= {"beta": 0.0, "max_completion_length": 4}
        return VQAGRPOTrainer(policy, [by_text], config(**(settings | changes)), rows, processor)

    return make


@pytest.mark.parametrize("form", ["hidden", "visual"])
def test_beside_grpo_the_head_reads_the_pass_of_the_loss(grpo, train_rows, form):
    trainer = grpo(form, torch.float64, head_weight=3.0, head_rank="bradley_terry", head_rank_weight=0.5)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 2
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    policy, prompts = trainer.model, inputs["clips"].prompts
    assert any(prompt.num_clips == 2 for prompt in prompts[:-1])  # clips behind it have other numbers than prompts
    losses, plain = [], GRPOTrainer._compute_loss(trainer, policy, inputs)
    for trainer._packs in (True, False):
        losses.append(trainer._compute_loss(policy, inputs))
    mos = inputs["head_mos"][::2]
    assert sorted(mos[~mos.isnan()].tolist()) == pytest.approx(sorted(row.mos for row in train_rows[:2]))
    found = []
    for prompt, place in zip(prompts, inputs["clips"].places, strict=True):  # each prompt in a pass of its own
        index, clips = trainer.processing_class.index_of([prompt]), inputs["clips"].clips[place]
        seen = {name: [clip[name] for clip in clips] for name in clips[0]} | {"visual_index": index}
        at = torch.tensor([0 if form == "visual" else len(prompt.ids) - 1])
        found.append(policy(torch.tensor([prompt.ids]), **seen, score_at=at).scores)
    error, rank = head_terms(torch.cat(found), mos, "bradley_terry")
    for loss in losses:
        assert (loss - plain).item() == pytest.approx(3 * (error + 0.5 * rank).item() / 2, rel=1e-5)
    assert trainer._metrics["train"]["head/mse"] == pytest.approx([error.item()] * 2, rel=1e-5)
    trainer.model.zero_grad()
    losses[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.model.score_head.parameters())


def test_grpo_steps_train_the_head_or_leave_it_as_it_is(grpo):
    before, after = [], []
    for changes in ({"head_weight": 1.0, "head_rank_weight": 0.5, "beta": 0.1}, {}, None):
        trainer = grpo("hidden" if changes is not None else "", **(changes or {}))
        before.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        trainer.train()
        after.append(trainer.model.state_dict())
        assert ("head/mse" in trainer.state.log_history[0]) == bool(changes)
    moved = [
        {name for name in own if "score_head" in name and not torch.equal(own[name], old[name])}
        for own, old in zip(after, before, strict=True)
    ]
    assert len(moved[0]) == 6 and not moved[1] and not moved[2]
    assert all(torch.equal(after[1][name], value) for name, value in after[2].items())  # all else: as without a head


def test_a_head_needs_whole_micro_batches_and_a_reference_of_its_kind(grpo, config):
    with pytest.raises(ValueError, match=r"max_tokens_per_batch=9 with head_weight=1.0: .* pairs of its clips"):
        config(max_tokens_per_batch=9, head_weight=1.0)
    with pytest.raises(ValueError, match="but the policy has no score head"):
        grpo("", head_weight=1.0)
    with pytest.raises(ValueError, match="sync_ref_model=True: the reference has score_head='', the policy 'hidden'"):
        grpo("hidden", beta=0.1, sync_ref_model=True)


TWO_PROCESSES = """
import math
import torch
from accelerate import Accelerator
from vqathinker.training.head_loss import HeadArguments, HeadLoss, head_terms

accelerator = Accelerator(cpu=True)
clips, mos = [[1.0, 2.0, 4.0], [3.0]], [[2.0, math.nan, 3.0], [1.5]]  # the processes have other numbers of clips
own, alone = (torch.tensor(0.5, requires_grad=True) for _ in range(2))
rank = accelerator.process_index
loss = HeadLoss(HeadArguments(head_weight=2.0), accelerator)(own * torch.tensor(clips[rank]), torch.tensor(mos[rank]))
loss.backward()
expected = 2 * sum(head_terms(alone * torch.tensor(sum(clips, [])), torch.tensor(sum(mos, [])), "fidelity"))
expected.backward()
torch.testing.assert_close(loss, expected)
torch.testing.assert_close(accelerator.reduce(own.grad, "mean"), alone.grad)  # as DDP and DeepSpeed do
print("the same")
"""


@pytest.mark.engine
def test_pairs_are_those_of_all_processes(torchrun, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    assert torchrun(2, script)[0].count("the same") == 2
