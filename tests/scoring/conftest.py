import pytest
import torch


@pytest.fixture
def words(policy, processor):
    """Gives the policy's vocabulary the words of comparisons, in two tokens each, and in one with a space before them.
    Letter by letter, as in the tiny tokenizer, the shortest word would be the only probable one."""
    processor.tokenizer.add_tokens(["fir", "st", "sec", "ond", "simi", "lar", " first", " second", " similar"])
    torch.manual_seed(0)
    policy.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
