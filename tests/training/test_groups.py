import torch

from vqathinker.training.groups import pack_groups


def test_packed_rows_share_the_prompt_and_come_apart_again():
    # Two clips, two answers each; the first prompt is one token shorter, one answer is cut short.
    ids = torch.tensor([[0, 1, 2, 5, 6], [0, 1, 2, 7, 0], [3, 4, 2, 8, 9], [3, 4, 2, 8, 5]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    packed = pack_groups(ids, mask, num_clips=2, completion_length=2)
    inputs = packed.inputs
    assert inputs["input_ids"].tolist() == [[0, 1, 2, 5, 6, 2, 7, 0], [3, 4, 2, 8, 9, 2, 8, 5]]
    assert inputs["labels"].tolist() == [[-100, -100, -100, 5, 6, -100, 7, -100], [-100, -100, -100, 8, 9, -100, 8, 5]]
    assert inputs["position_ids"].tolist() == [[0, 0, 1, 2, 3, 1, 2, 2], [0, 1, 2, 3, 4, 2, 3, 4]]
    seen = inputs["attention_mask"][0, 0]
    assert seen[4].tolist() == [False, True, True, True, True, False, False, False]
    assert seen[6].tolist() == [False, True, False, False, False, True, True, False]  # not the first answer
    values = inputs["labels"][:, 1:]  # as if the model predicted each label
    assert packed.unpack(values).tolist() == [[5, 6], [7, -100], [8, 9], [8, 5]]
