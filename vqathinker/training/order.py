"""The order of an epoch's clips, which a resumed run must know too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler


class EpochSampler(RepeatSampler):
    """TRL's sampler, with each epoch's order a function of (seed, epoch).

    TRL's own shuffles with a generator that goes on from epoch to epoch, so that a run resumed after the first epoch
    would begin with the first one's order again. An uninterrupted run sees the same orders with either.

    Attributes:
        arrange: From an epoch's order and the rows of a generation batch to another order, see `Rungs.arrange`; `None`
            leaves the order as it is.
    """

    epoch = 0
    arrange: Callable[[Sequence[int], int], list[int]] | None = None

    @classmethod
    def like(cls, other: RepeatSampler) -> EpochSampler:
        """With TRL's arguments."""
        names = ("data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed")
        return cls(**{name: getattr(other, name) for name in names})

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, epoch >= 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):  # what the epochs before drew
                torch.randperm(self.num_samples, generator=self.generator)
        if self.arrange is None:
            return super().__iter__()
        count = self.num_samples
        rows = torch.randperm(count, generator=self.generator) if self.shuffle else torch.arange(count)
        arranged = self.arrange(rows.tolist(), self.batch_size)
        places = RepeatSampler(arranged, self.mini_repeat_count, self.batch_size, self.repeat_count, shuffle=False)
        return (arranged[place] for place in places)


class EpochCallback(TrainerCallback):
    """Tells the sampler the epoch.

    `Trainer` does so too, but of several processes' loaders not the one that skips a resumed epoch's first batches:
    its three wrapped samplers are one more than `DataLoaderShard.set_epoch` of accelerate (1.15) looks into. The loader
    below it, which a callback is given, is reached.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """`state.epoch` is whole after an epoch, and says in the middle of which a run was resumed."""
        train_dataloader.set_epoch(int(state.epoch or 0))
