from types import SimpleNamespace

import pytest
import torch

from vqathinker.policy.packed_attention import FORMS, PackedLayout, Segment
from vqathinker.policy.prompts import Prompt, Slot
from vqathinker.training.groups import ClipBatch, Tree, pack_groups, split_groups, take_groups

# Two groups, two answers each; the first prompt is one token shorter, two answers are cut short, one is empty.
IDS = torch.tensor([[0, 1, 2, 7, 0, 0], [0, 1, 2, 5, 6, 0], [3, 4, 2, 8, 9, 6], [3, 4, 2, 8, 5, 0]])
MASK = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def test_packed_rows_share_the_prompts_and_come_apart_again():
    packed = pack_groups(IDS, MASK, num_groups=2, completion_length=3)
    inputs = packed.inputs
    #                              prompt | p 7 | p 5 6 | prompt | p 8 9 6 | p
    assert inputs["input_ids"].tolist() == [[1, 2, 7, 2, 5, 6, 3, 4, 2, 8, 9, 6, 2]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 1, 2, 3, 0, 1, 2, 3, 4, 5, 2]]
    assert packed.targets.tolist() == [[7, 5, 6, 8, 9, 6]] and inputs["keep"].tolist() == [1, 3, 4, 8, 9, 10]
    segments = [(0, 1, 6), (1, 3, 3), (3, 6, 6), (6, 8, 13), (8, 12, 12), (12, 13, 13)]
    assert inputs["packed"].segments == tuple(Segment(*numbers) for numbers in segments)
    assert packed.unpack(packed.targets).tolist() == [[7, 0, 0], [5, 6, 0], [8, 9, 6], [0, 0, 0]]


def test_prompts_about_one_clip_share_what_they_begin_with():
    ids = torch.tensor([[9, 9, 1, 2, 7, 0], [9, 9, 1, 2, 5, 6], [0, 9, 9, 4, 8, 9], [0, 9, 9, 4, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    packed = pack_groups(ids, mask, 2, 2, [Tree((0, 1), 2)])
    #                                            clip | 1 | 2 7 | 2 5 6 | 4 8 9 | 4 3
    assert packed.inputs["input_ids"].tolist() == [[9, 9, 1, 2, 7, 2, 5, 6, 4, 8, 9, 4, 3]]
    assert packed.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 2, 3, 4, 2, 3]]
    segments = [(0, 2, 13), (2, 3, 8), (3, 5, 5), (5, 8, 8), (8, 11, 11), (11, 13, 13)]
    assert packed.inputs["packed"].segments == tuple(Segment(*numbers) for numbers in segments)
    assert packed.unpack(packed.targets).tolist() == [[7, 0], [5, 6], [8, 9], [3, 0]]


def test_groups_form_a_tree_where_they_are_about_one_clip():
    clip, other = (Slot("spatial"),), (Slot("motion"),)
    prompts = [
        Prompt((1, 9, 9, 2, 3), clip, (2,)),
        Prompt((1, 9, 9, 2, 4, 5), clip, (2,)),
        Prompt((1, 9, 9, 2, 3), clip, (2,)),
        Prompt((6, 9, 9, 2, 3), other, (2,)),
        Prompt((1, 9, 9, 2, 3), clip, (2,)),
    ]
    seen = [{"frames": torch.full((2, 1), i)} for i in range(5)]
    batch = ClipBatch(prompts, seen, ["spatial", "motion"], ["a", "a", None, "a", "b"], placeholder=9)
    assert batch.trees == [Tree((0, 1), 4), Tree((2,), 4), Tree((3,), 4), Tree((4,), 4)]
    assert [int(frames[0, 0]) for frames in batch.inputs()["frames"]] == [0, 2, 3, 4]
    assert batch.take([1, 3]).trees == [Tree((0,), 5), Tree((1,), 4)]
    rows = {"completion_ids": torch.arange(20).view(10, 2), "clips": batch, "num_items_in_batch": torch.tensor(7)}
    first, second = split_groups(take_groups(rows, range(4)), 2)
    assert second["completion_ids"].tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]] and len(second["clips"]) == 2
    assert first["num_items_in_batch"] == 7 and first["clips"].trees == [Tree((0, 1), 4)]
    calls = []
    policy = SimpleNamespace(encode=lambda frames: calls.append(len(frames)) or [int(one[0, 0]) for one in frames])
    assert batch.encode(policy) == [0, 0, 2, 0, 4] and calls == [3]  # each clip once
    lengths = [3, 0, 1, 1, 2, 2, 2, 2, 1, 1]
    assert batch.tokens(batch.trees[0], lengths) == 4 + (0 + 4 + 1) + (1 + 2 + 2)


SEGMENTS = [
    [(0, 5, 5)],
    [(0, 70, 103), (70, 100, 100), (100, 101, 101), (101, 103, 103), (103, 105, 109), (105, 109, 109)],
    [(0, 6, 40), (6, 7, 23), (7, 17, 17), (17, 18, 18), (18, 23, 23), (23, 24, 40), (24, 26, 26), (26, 40, 40)],
]


@pytest.mark.parametrize("segments", SEGMENTS)
def test_attention_by_parts_is_that_under_a_mask(segments):
    layout = PackedLayout(tuple(Segment(*numbers) for numbers in segments))
    torch.manual_seed(0)
    states = [torch.randn(1, heads, layout.length, 16, dtype=torch.float64, requires_grad=True) for heads in (6, 2, 2)]
    gradient = torch.randn_like(states[0])
    found = {}
    for form in ("parts", "dense"):
        out = FORMS[form](*states, layout, 0.3)
        found[form] = [out, *torch.autograd.grad(out, states, gradient)]
    for ours, exact in zip(found["parts"], found["dense"], strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-10)


def test_padding_within_parts_does_not_overflow():
    """Queries and keys of trained models are large; fillers meet keys that are not theirs."""
    layout = PackedLayout(tuple(Segment(*numbers) for numbers in [(0, 40, 130), (40, 90, 90), (90, 130, 130)]))
    torch.manual_seed(0)
    states = [8 * torch.randn(1, 2, 130, 16) for _ in range(3)]
    for dtype in (torch.float32, torch.bfloat16):
        own = [state.to(dtype).requires_grad_() for state in states]
        found = torch.autograd.grad(FORMS["parts"](*own, layout, None).sum(), own)
        exact = torch.autograd.grad(FORMS["dense"](*own, layout, None).sum(), own)
        for ours, dense in zip(found, exact, strict=True):
            torch.testing.assert_close(ours, dense, atol=0.05 * float(dense.abs().max()), rtol=0)


def test_flex_attention_skips_what_the_mask_hides():
    from torch.nn.attention.flex_attention import create_mask

    from vqathinker.policy.packed_attention import _dense_masks, sees

    layout = PackedLayout(tuple(Segment(*numbers) for numbers in SEGMENTS[1]))
    cpu, length = torch.device("cpu"), layout.length
    mask = create_mask(sees(layout, cpu), None, None, length, length, device="cpu")
    for tree, dense in _dense_masks(layout, cpu):
        assert torch.equal(mask[0, 0, tree, tree], dense) and not mask[0, 0, tree, tree.stop :].any()
        assert not mask[0, 0, tree, : tree.start].any()
