import pytest

from benchmarks import work
from benchmarks.models import TOY, config_of
from vqathinker.training import budget
from vqathinker.training.step_time import BATCH_SIZE, OPTIMIZER_BYTES, Step, language_flops, step_work


@pytest.mark.parametrize("method", [False, True])
def test_operations_are_those_that_are_compared_with_torchs_count(method):
    """But for attention in a prompt and in an answer, which skips half here, and for the motion projector."""
    config, prompt = config_of(TOY, method), 41
    own = work.Shape(clips=2, answers=3, frames=2, tokens=5, micro_steps=2)
    prompts = 8 if method else 4
    step = Step(budget.Shape(2, 3, prompt, 5, 2), prompts, prompts - 4, 2)
    found = {name: part.flops for name, part in step_work(config, step).items()}
    of_pair = language_flops(config, 0, 1)[0] / 2
    own_pairs, prompts_pairs = 3 * (5 + 1) ** 2, (prompt - 1) ** 2
    counted = work.flops("ours", own, prompt, method, config)
    for name, phase, skipped in (
        ("rollouts", "sampling", prompts * prompts_pairs),
        ("reference", "reference", 4 * (prompts_pairs + own_pairs)),
        ("update", "update", 12 * (prompts_pairs + own_pairs)),
    ):
        assert found[name] + of_pair * skipped == pytest.approx(counted[phase], rel=0.01 if method else 1e-9), name


def test_checkpointing_adapters_and_frozen_vision_change_the_update_alone():
    config = config_of(TOY, False)

    def update(**changes):
        shape = {name: changes.pop(name) for name in ("frozen_vision", "rank") if name in changes}
        return step_work(config, Step(budget.Shape(1, 2, 20, 4, 2, **shape), 1, **changes))["update"].flops

    forward = step_work(config, Step(budget.Shape(1, 2, 20, 4, 2), 1))["reference"].flops
    head = 8 * language_flops(config, 1, 0)[1]
    assert update(checkpointing=True) - update() == forward - head
    language = (update(frozen_vision=True) - 4 * head) / 3
    assert 0 < 3 * language < update() - 4 * head
    assert update(frozen_vision=True, rank=4) == 2 * language + 3 * head
    assert update(micro_steps=2.5) == 2.5 * update()
    assert step_work(config, Step(budget.Shape(1, 2, 20, 4, 2), 1, updated=10))["update"].bytes == 10 * OPTIMIZER_BYTES


def test_single_tokens_read_the_weights_and_the_keys_of_all_before_them():
    config, shape = config_of(TOY, False), budget.Shape(1, 4, 20, 3, 2)
    layers, head = language_flops(config, 1, 0)
    weights, key = (layers + head) / 2 * 4, budget.cache_bytes_per_token(config, 4)
    shared = sum(19 + 4 * t for t in (1, 2, 3))  # the prompt's keys once, those of all answers
    alone = sum(4 * (19 + t) for t in (1, 2, 3))
    assert step_work(config, Step(shape, 2))["rollouts"].bytes == 3 * weights + 2 * shared * key
    assert step_work(config, Step(shape, 2, vllm=True))["rollouts"].bytes == 3 * weights + 2 * alone * key
    many = BATCH_SIZE // 4 + 1  # prompts, in two batches
    assert step_work(config, Step(shape, many))["rollouts"].bytes == 6 * weights + many * shared * key
