"""However a micro-batch is computed, the update is the same."""

from functools import partial

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoProcessor

from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.groups import ClipBatch, Tree, rows_of
from vqathinker.training.micro_batches import merge, parts_of, shares, spread

TREES = [Tree((0,), 10), Tree((1, 4), 30), Tree((2,), 25), Tree((3,), 5)]
ANSWERS, LENGTHS = 2, [12, 7, 3, 0, 9, 1]


def reward(completions, **columns):
    return [0.0] * len(completions)


@pytest.fixture
def trainer(base, train_rows, config):
    processor = AutoProcessor.from_pretrained(base)
    policy = VQAThinkerForConditionalGeneration.from_pretrained(base).double()
    return VQAGRPOTrainer(policy, [reward], config(), clip_dataset(train_rows, processor), processor)


def micro_batch(trainer):
    """Three groups, of which the first and the last ask about the same clip."""
    processor, config = trainer.processing_class, trainer.model.config
    generator = torch.Generator().manual_seed(0)
    questions = [
        processor.messages("clip.mp4"),
        processor.messages("clip.mp4"),
        processor.messages("clip.mp4", "Is it?"),
    ]
    prompts = [processor.render(question) for question in questions]
    frames = (processor.num_frames, config.image_seq_length, config.text_config.hidden_size)
    motion = (config.motion_tokens, config.motion_config.feature_size)
    seen = [
        {
            "spatial_features": torch.randn(frames, generator=generator).double(),
            "motion_features": torch.randn(motion, generator=generator).double(),
        }
        for _ in range(2)
    ]
    clips = ClipBatch(
        prompts, [seen[0], seen[1], seen[0]], ["spatial", "motion"], ["a", "b", "a"], config.image_token_id
    )
    limit = max(len(prompt.ids) for prompt in prompts)
    ids = torch.zeros(6, limit, dtype=torch.long)
    for row in range(6):
        own = prompts[row // ANSWERS].ids
        ids[row, limit - len(own) :] = torch.tensor(own)
    answers = torch.randint(10, 400, (6, 12), generator=generator)
    noise = torch.randn(2, 6, 12, generator=generator).double()
    mask = (torch.arange(12) < torch.tensor(LENGTHS)[:, None]).long()
    return {
        "clips": clips,
        "prompt_ids": ids,
        "prompt_mask": (ids != 0).long(),
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5, 0.2, -0.2]),
        "num_items_in_batch": mask.sum(),
        "old_per_token_logps": -6 + 0.3 * noise[0],
        "ref_per_token_logps": -6 + 0.3 * noise[1],
    }


def update(trainer, batch):
    """Loss, gradients and what is logged."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()
    trainer.current_gradient_accumulation_steps = 2
    loss = trainer._compute_loss(trainer.model, batch)
    trainer.accelerator.backward(loss)
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, {name: values[:] for name, values in trainer._metrics["train"].items()}


def assert_same(found, expected, rounding=1e-5):
    """The norms of the language model, and log-probabilities in TRL's head, are in float32 whatever the policy's."""
    assert found[0] == pytest.approx(expected[0], abs=rounding)
    assert found[1].keys() == expected[1].keys() and len(found[1]) > 20
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, atol=rounding, rtol=1e-3, msg=name)
    assert found[2].keys() == expected[2].keys() and {"kl", "entropy"} <= expected[2].keys()
    for name, values in expected[2].items():
        assert found[2][name] == pytest.approx(values, abs=rounding), name


def test_parts_add_up_to_the_whole(trainer, monkeypatch):
    batch, passes = micro_batch(trainer), []
    trainer.model.model.language_model.register_forward_hook(
        lambda m, a, k, o: passes.append(k["inputs_embeds"].shape[1]), with_kwargs=True
    )
    for loss_type in ("grpo", "bnpo", "dapo", "dr_grpo"):
        monkeypatch.setattr(trainer, "loss_type", loss_type)
        monkeypatch.setattr(trainer.args, "max_tokens_per_batch", None)
        whole = update(trainer, batch)
        for limit, number in ((10**6, 1), (250, 2), (1, 3)):
            monkeypatch.setattr(trainer.args, "max_tokens_per_batch", limit)
            passes.clear()
            assert_same(update(trainer, batch), whole)
            assert len(passes) == number and (limit == 1 or max(passes) <= limit)


def test_one_clip_is_shown_once_and_single_rows_give_the_same(trainer, monkeypatch):
    batch, shown = micro_batch(trainer), []
    tree = update(trainer, batch)
    apart = {**batch, "clips": ClipBatch(batch["clips"].prompts, batch["clips"].clips, batch["clips"].streams)}
    hook = trainer.model.model.language_model.register_forward_hook(
        lambda m, a, k, o: shown.append(k["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    update(trainer, batch)
    assert_same(update(trainer, apart), tree)
    prompts = [len(prompt.ids) for prompt in batch["clips"].prompts]
    [whole] = [tree.shared for tree in batch["clips"].trees if len(tree.groups) == 2]
    answers = sum(1 + length for length in LENGTHS)
    assert shown[0] == (1, sum(prompts) - 3 - whole + answers) and shown[1] == (1, sum(prompts) - 3 + answers)
    monkeypatch.setattr(trainer, "_packs", False)
    assert_same(update(trainer, batch), tree)
    assert shown[2] == (6, max(prompts) + 12)
    hook.remove()
    monkeypatch.setattr(trainer.args, "max_tokens_per_batch", 1)
    assert_same(update(trainer, batch), tree)


def test_parts_have_the_groups_that_fit_together():
    cost = {0: 10, 1: 30, 2: 25, 3: 5, 4: 20}
    single, accelerator = [Tree((group,), 4) for group in range(4)], Accelerator(cpu=True)
    parts = parts_of(single, lambda tree: cost[tree.groups[0]], 36, accelerator)
    assert [[tree.groups for tree in part] for part in parts] == [[(1,), (3,)], [(0,), (2,)]]
    tokens = partial(sum_of, cost)
    parts = parts_of(TREES, tokens, 75, accelerator)
    assert [[tree.groups for tree in part] for part in parts] == [[(1, 4), (2,)], [(0,), (3,)]]
    alone = parts_of(TREES, tokens, 1, accelerator)
    assert sorted(tree.groups for part in alone for tree in part) == [(0,), (1,), (2,), (3,), (4,)]
    one = parts_of(TREES, tokens, 90, accelerator)
    assert one == [TREES] and rows_of(one[0], 2) == list(range(10))


def sum_of(cost, tree):
    return sum(cost[group] for group in tree.groups)


def test_every_process_has_as_many_rows_in_each_part():
    """Whatever its answers' lengths: TRL gathers metrics row by row."""
    for count in range(1, 8):
        sizes = set()
        for costs in ([10, 5, 5, 1, 1, 1, 1], [1, 1, 30, 1, 2, 3, 4], [7] * 7):
            trees = [Tree((group,), 1) for group in range(7)]
            parts = spread(trees, lambda tree: costs[tree.groups[0]], count)  # noqa: B023
            sizes.add(tuple(sum(len(tree.groups) for tree in part) for part in parts))
            together = [Tree((0, 1, 2), 1), Tree((3,), 1), Tree((4, 5), 1), Tree((6,), 1)]
            parts = spread(together, partial(sum_of, costs), count)
            sizes.add(tuple(sum(len(tree.groups) for tree in part) for part in parts))
        assert len(sizes) == 1, count


@pytest.mark.parametrize(("loss_type", "expected"), [("grpo", [1 / 3, 2 / 3]), ("bnpo", [0.2, 0.8]), ("dapo", [1, 1])])
def test_the_parts_losses_are_weighed_by_what_the_loss_is_a_mean_over(loss_type, expected):
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    assert shares(loss_type, [mask[:1], mask[1:]]) == pytest.approx(expected)


def test_what_parts_log_becomes_one_entry():
    nan = float("nan")
    metrics = {
        "kl": [9.0, 1.0, 4.0],
        "clip_ratio/low_min": [0.5, nan],
        "clip_ratio/high_max": [1.0, 2.0],
        "reward": [3.0],
    }
    merge(metrics, {"kl": 1, "reward": 1}, [1.0, 3.0], [1.0, 1.0])
    assert metrics == {"kl": [9.0, 3.25], "clip_ratio/low_min": [0.5], "clip_ratio/high_max": [2.0], "reward": [3.0]}
