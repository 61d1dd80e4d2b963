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
    layout = inputs["packed"]
    assert layout.known.tolist() == [[False, True], [True, True]]
    # Where each answer's tokens stand behind the prompt: p 7 | p 5 6, and p 8 9 6 | p 8 5.
    assert layout.slots[0, :, :2].tolist() == [[0, 1], [2, 3]] and layout.slots[0, 1, 2] == 4
    assert layout.slots[1].tolist()[0] == [0, 1, 2, 3] and layout.slots[1, 1, :3].tolist() == [4, 5, 6]
    there = inputs["labels"][:, 2:] != -100
    back = layout.slots.flatten(1).gather(1, layout.back)
    assert (back == torch.arange(7))[there].all()
    prompts, answers = layout.masks(torch.float32)
    assert prompts[0, 0].tolist() == [[0, -torch.inf], [-torch.inf, 0]]  # padding sees itself, the token after it not
    assert answers.shape == (4, 1, 4, 6)
    assert answers[0, 0, 1].tolist() == [-torch.inf, 0, 0, 0, -torch.inf, -torch.inf]
    values = inputs["labels"][:, 1:].clone()  # as if the model predicted each label
    assert packed.unpack(values).tolist() == [[7, 0, 0], [5, 6, 0], [8, 9, 6], [8, 5, 0]]
