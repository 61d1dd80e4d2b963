"""The order of clips over several epochs, in one run and in a resumed one."""

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from transformers import AutoProcessor, TrainerState
from trl.trainer.utils import RepeatSampler

from rewards import text_of
from vqathinker.data import clip_dataset
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.training import VQAGRPOTrainer
from vqathinker.training.order import EpochCallback, EpochSampler

SETTINGS = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "seed": 5}


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_epoch_has_trls_order(shuffle):
    trls = RepeatSampler(range(11), **SETTINGS, shuffle=shuffle)
    ours = EpochSampler.like(trls)
    expected = [list(trls) for _ in range(3)]
    assert (expected[0] != expected[1] != expected[2]) == shuffle
    for epoch in (2, 0, 1, 1):
        ours.set_epoch(epoch)
        assert list(ours) == expected[epoch]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("skipped", [0, 1])
def test_each_processs_loader_learns_the_epoch(processes, skipped):
    """As `Trainer` makes, resumes and walks through them."""

    def loader(process, sampler):
        plain = torch.utils.data.DataLoader(range(12), batch_size=3, sampler=sampler, drop_last=True)
        return prepare_data_loader(plain, num_processes=processes, process_index=process, put_on_device=False)

    for process in range(processes):
        whole = loader(process, RepeatSampler(range(12), **SETTINGS))
        epochs = [[batch.tolist() for batch in whole] for _ in range(2)]
        resumed = loader(process, EpochSampler(range(12), **SETTINGS))
        EpochCallback().on_epoch_begin(None, TrainerState(epoch=1 + skipped / len(epochs[0])), None, resumed)
        rest = skip_first_batches(resumed, skipped) if skipped else resumed
        rest.set_epoch(1)
        assert [batch.tolist() for batch in rest] == epochs[1][skipped:]


class Noted:
    """Pays by the text, so that there is a gradient at random weights, and notes the clips."""

    __name__ = "noted"

    def __init__(self):
        self.clips = []

    def __call__(self, completions, video_id, **columns):
        self.clips.append(list(dict.fromkeys(video_id)))
        return [len(set(text)) / 20 for text in map(text_of, completions)]


def test_a_run_resumed_after_the_first_epoch_continues_the_uninterrupted_one(base, train_rows, config, tmp_path):
    def run(checkpoint=None, **changes):
        noted = Noted()
        policy = VQAThinkerForConditionalGeneration.from_pretrained(base)
        args = config(max_steps=4, gradient_accumulation_steps=1, **changes)
        processor = AutoProcessor.from_pretrained(base)
        clips = clip_dataset(train_rows[:5], processor)  # 2 steps of 2 clips an epoch
        trainer = VQAGRPOTrainer(policy, [noted], args, clips, processor)
        trainer.train(resume_from_checkpoint=checkpoint)
        return noted.clips, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer.model

    clips, losses, model = run(save_strategy="steps", save_steps=1)
    assert len(clips) == len(losses) == 4 and clips[:2] != clips[2:]
    for steps in (2, 3):  # at the end of the first epoch, and in the middle of the second
        seen, known, resumed = run(str(tmp_path / "run" / f"checkpoint-{steps}"))
        assert seen == clips[steps:], steps
        assert known == pytest.approx(losses, abs=1e-6)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(resumed.state_dict()[name], tensor, msg=name)
