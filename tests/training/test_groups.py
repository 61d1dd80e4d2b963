import torch

from vqathinker.training.groups import pack_groups


def test_packed_rows_share_the_prompt_and_come_apart_again():
    # Two clips, two answers each; the first prompt is one token shorter, two answers are cut short.
    ids = torch.tensor([[0, 1, 2, 7, 0, 0], [0, 1, 2, 5, 6, 0], [3, 4, 2, 8, 9, 6], [3, 4, 2, 8, 5, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    packed = pack_groups(ids, mask, num_clips=2, completion_length=3)
    inputs = packed.inputs
    # The second clip's answers have most tokens, 1 + 3 and 1 + 2, and the first one's row is padded to these.
    assert inputs["input_ids"].tolist() == [[0, 1, 2, 7, 2, 5, 6, 0, 0], [3, 4, 2, 8, 9, 6, 2, 8, 5]]
    unscored = [-100, -100, -100]
    assert inputs["labels"].tolist() == [[*unscored, 7, -100, 5, 6, -100, -100], [*unscored, 8, 9, 6, -100, 8, 5]]
    assert inputs["position_ids"][:, :7].tolist() == [[0, 0, 1, 2, 1, 2, 3], [0, 1, 2, 3, 4, 5, 2]]
    seen = inputs["attention_mask"][0, 0]
    assert seen[3].nonzero().flatten().tolist() == [1, 2, 3]
    assert seen[6].nonzero().flatten().tolist() == [1, 4, 5, 6]  # not the first answer
    assert not seen[:7, 7:].any() and seen.any(1).all()
    values = inputs["labels"][:, 1:].clone()  # as if the model predicted each label
    assert packed.unpack(values).tolist() == [[7, 0, 0], [5, 6, 0], [8, 9, 6], [8, 5, 0]]
