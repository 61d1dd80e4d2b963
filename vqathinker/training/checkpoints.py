"""Checkpoints that are complete once they have their name, and a card that says what the policy does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from trl import GRPOTrainer

from vqathinker.policy import has_adapters, import_peft
from vqathinker.policy.adapters import NAME, adapter_weights, save_adapter
from vqathinker.policy.complete import check_names
from vqathinker.rewards import Rubric
from vqathinker.tasks import Count, When, Where

CARD = """\
---
library_name: vqathinker
tags: [{tags}]
---

# {name}

Judges the quality of a video: {answers}. Trained with vqathinker by reinforcement learning
(GRPO) from `{base}`; rewards: {rewards}.

```python
from vqathinker import QualityScorer

scorer = QualityScorer.from_pretrained("{folder}")
{calls}
```

Training does not measure how good its answers are; to do so: `vqathinker eval --model {folder}`.
"""
ANSWERS = {
    "score": ("a reason and a score from 1 to 5", 'print(scorer.score("clip.mp4"))'),
    "choice": (
        "answers to questions with options",
        'print(scorer.ask("clip.mp4", "Is the picture sharp?", options=["Yes", "No"]))',
    ),
    "when": (
        "intervals in seconds",
        f'print(scorer.ask("clip.mp4", "The clip lasts 8 s. When is there noise? {When.asked_for}"))',
    ),
    "where": ("boxes", f'print(scorer.ask("clip.mp4", "Where is there noise? {Where.asked_for}"))'),
    "count": ("counts", f'print(scorer.ask("clip.mp4", "How often does it freeze? {Count.asked_for}"))'),
}
"""Task -> what a policy that was trained on it gives, and how to get it."""


def check_output_dir(args: TrainingArguments) -> None:
    """Raise `ValueError` if the folder of a run that begins holds another run, whose policy it would replace."""
    others = _other_checkpoints(args)
    if _goes_on(args) or not (others or Path(args.output_dir, TRAINER_STATE_NAME).exists()):
        return
    go_on = "go on from its newest checkpoint with --resume-from-checkpoint true, " if others else ""
    raise ValueError(
        f"output_dir={args.output_dir!r} holds a run already, whose policy a new one would replace. Name another "
        f"folder, {go_on}or replace it with --overwrite-output-dir true."
    )


def delete_other_checkpoints(args: TrainingArguments) -> None:
    """Delete what another run left in the folder of a run that begins: of checkpoints side by side, going on takes the
    one with the highest number. To be called when the policy, which may be one of them, is loaded."""
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        for checkpoint in _other_checkpoints(args):
            shutil.rmtree(checkpoint)


def _other_checkpoints(args: TrainingArguments) -> list[Path]:
    return [] if _goes_on(args) else sorted(Path(args.output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))


def _goes_on(args: TrainingArguments) -> bool:
    return str(args.resume_from_checkpoint).lower() not in ("none", "false")


class WholeCheckpointTrainer(Trainer):
    """transformers' `Trainer`, which warns of weights that a checkpoint lacks or has besides, and trains on; this one
    raises `IncompleteCheckpoint`. Of a policy with an adapter a checkpoint holds the adapter."""

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        tied = self.model.all_tied_weights_keys  # are not saved, and loaded with those they are tied to
        missing = [name for name in load_result.missing_keys if name not in tied]
        total = len(self.model.state_dict())
        check_names("the checkpoint to resume from", total, missing, load_result.unexpected_keys)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        model = self.model if model is None else model
        if not has_adapters(model):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        weights = adapter_weights(resume_from_checkpoint, model)
        import_peft("use_peft=True").set_peft_model_state_dict(model, weights, NAME)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if not has_adapters(self.model):
            return super()._save(output_dir, state_dict)
        folder = output_dir or self.args.output_dir
        save_adapter(self.model, folder, state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        torch.save(self.args, Path(folder, TRAINING_ARGS_NAME))


class CheckpointTrainer(WholeCheckpointTrainer, GRPOTrainer):
    """What a `VQAGRPOTrainer` leaves on disk."""

    rubric: Rubric
    _staging: str | None = None
    """Where a checkpoint is being written."""

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:  # an upload before the checkpoint has its name would miss it
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As TRL's, but beside the others until all processes have written all of it: a `checkpoint-N` is complete.

        The main process renames it, so that several nodes must share `output_dir`.
        """
        folder, name = Path(self.args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = folder / "_saving"  # uploads to the hub leave out what starts with _
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = str(staging)
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            error.add_note(f"This is about the checkpoint {folder / name}, which is written in {staging} first.")
            raise
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
        if self.args.should_save:
            self.state.save_to_json(str(staging / name / TRAINER_STATE_NAME))  # it names the best checkpoint
            shutil.rmtree(folder / name, ignore_errors=True)
            (staging / name).rename(folder / name)
            staging.rmdir()
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(folder), self.args.save_total_limit, best, use_mtime=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder / name))

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """A card that says where the policy comes from and how it judges a clip; TRL's shows a chat."""
        if self.is_world_process_zero():
            named = zip(self.rubric.names, self.rubric.weights, strict=True)
            own = [tags] if isinstance(tags, str) else tags or ()
            rows = self.train_dataset
            tasks = set(rows["task"]) if "task" in rows.column_names else {"score"}
            told = [ANSWERS[name] for name in ANSWERS if name in tasks] or [("in its own words", "")]
            card = CARD.format(
                name=model_name or Path(self.args.output_dir).name,
                base=self.model.config._name_or_path,
                answers=", ".join(what for what, _ in told),
                calls="\n".join(call for _, call in told),
                rewards=", ".join(f"{weight:g} x {name}" for name, weight in named),
                folder=self.args.output_dir,
                tags=", ".join(dict.fromkeys([*self._tag_names, *own])),  # an upload hands over the model's again
            )
            (Path(self.args.output_dir) / "README.md").write_text(card, encoding="utf-8")
