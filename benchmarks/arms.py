"""Three ways to train the same policy on the same clips: ours, stock TRL's and the published code's.

`Ours` is `VQAGRPOTrainer`. `Stock` is `trl.GRPOTrainer` itself on transformers' InternVL: the frames are a row's
images, decoded by the data set when TRL fetches the row, and TRL's own path makes model inputs of them. `Published` is
a loop made after the published code's description: every answer has a clip of its own, decoded and encoded for it, in
one row of its own, and every micro-batch its own rewards. What is computed for a row is the same in all: the same
decoder, TRL's fused head, the same loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor, GenerationConfig, InternVLForConditionalGeneration, PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from benchmarks.models import Size, make_policy, make_stock
from benchmarks.work import Shape
from vqathinker import clips, perturb, rewards
from vqathinker.data import LabelRow, clip_dataset
from vqathinker.policy import ClipInput, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.policy.configuration import IMAGENET_MEAN, IMAGENET_STD
from vqathinker.policy.prompts import LAYOUTS, instructed, joined, written
from vqathinker.policy.streams import streams_of
from vqathinker.training import VQAGRPOConfig, VQAGRPOTrainer
from vqathinker.training.groups import ClipBatch

TEMPERATURE, TOP_K, BETA, EPSILON, LEARNING_RATE = 0.9, 50, 0.04, 0.2, 1e-6
"""The paper's."""
MODES = ["global_shuffle"]
"""Temporal perturbations: one that keeps the number of frames and needs no black ones, so that all counts are exact."""


class Batch:
    """Clips and answers in memory, the same for all ways.

    Attributes:
        prompt: About one clip.
        prompts, answers: (C K, P) and (C K, L) ids.
        clips: (C, T, 3, S, S) uint8.
        pixels: (C K T, 3, S, S) what TRL's path makes of the frames of all rows.
        advantages: (C K,).
        reference: (C K, L) the reference's log-probabilities.
    """

    def __init__(self, processor: VQAThinkerProcessor, shape: Shape) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape, rows = shape, shape.clips * shape.answers
        self.prompt = processor.render(frames=[shape.frames])
        self.prompts = torch.tensor(self.prompt.ids).repeat(rows, 1)
        self.answers = torch.randint(10, 500, (rows, shape.tokens), generator=generator)
        side = processor.image_size
        sizes = (shape.clips, shape.frames, 3, side, side)
        self.clips = torch.randint(0, 256, sizes, dtype=torch.uint8, generator=generator)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = (self.clips.float() / 255 - mean) / std
        self.pixels = pixels.repeat_interleave(shape.answers, 0).flatten(0, 1)
        self.advantages = torch.randn(rows, generator=generator)
        self.reference = -torch.rand(rows, shape.tokens, generator=generator) - 6

    def trl_inputs(self) -> dict[str, Any]:
        """What TRL's loss takes."""
        return {
            "prompt_ids": self.prompts,
            "prompt_mask": torch.ones_like(self.prompts),
            "completion_ids": self.answers,
            "completion_mask": torch.ones_like(self.answers),
            "advantages": self.advantages,
            "ref_per_token_logps": self.reference,
            "num_items_in_batch": torch.tensor(self.answers.numel()),
        }

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`[prompt | answer]` and its mask."""
        ids = torch.cat([self.prompts, self.answers], dim=1)
        return ids, torch.ones_like(ids)


def settings(folder: Path, shape: Shape) -> dict[str, Any]:
    """Of both trainers. Without gradient checkpointing, which would have each of them compute its forward twice."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": shape.clips * shape.answers,
        "num_generations": shape.answers,
        "gradient_accumulation_steps": shape.micro_steps,
        "max_completion_length": shape.tokens,
        "beta": BETA,
        "temperature": TEMPERATURE,
        "top_k": TOP_K,
        "loss_type": "grpo",
        "use_bias_correction_kl": False,
        "learning_rate": LEARNING_RATE,
        "max_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def rubric_of(copies: bool) -> rewards.Rubric:
    """The paper's rewards, with or without the one that needs perturbed copies."""
    whole = rewards.preset("paper")
    return whole if copies else whole.without(["temporal"])


class Ours:
    """`VQAGRPOTrainer`."""

    name: ClassVar[str] = "ours"

    def __init__(self, folder: Path, rows: Sequence[LabelRow], shape: Shape, copies: bool) -> None:
        self.policy = VQAThinkerForConditionalGeneration.from_pretrained(folder)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.num_frames = shape.frames
        args = VQAGRPOConfig(
            **settings(folder / "ours", shape), perturbation_modes=MODES, perturbation_variant="official"
        )
        data = clip_dataset(list(rows), self.processor)
        self.trainer = VQAGRPOTrainer(self.policy, rubric_of(copies), args, data, self.processor)
        self.trainer.current_gradient_accumulation_steps = 1
        self.reference_policy = self.trainer.ref_model

    def update(self, batch: Batch) -> None:
        """Loss and its gradients."""
        inputs = batch.trl_inputs() | {"clips": self._clips(batch)}
        self.trainer._compute_loss(self.policy.train(), inputs).backward()

    @torch.no_grad()
    def reference(self, batch: Batch) -> torch.Tensor:
        """(C K, L) log-probabilities under the reference."""
        self.trainer._clips = self._clips(batch)
        ids, mask = batch.rows()
        find = self.trainer._get_per_token_logps_and_entropies
        return find(self.reference_policy, ids, mask, batch.shape.tokens, batch_size=len(ids))[0]

    def sample(self, batch: Batch) -> list[list[int]]:
        """Answers to the clips."""
        with self.trainer._whole_policy() as policy, torch.no_grad():
            prompts = [policy.prompt_embeds(batch.prompt, [clip]) for clip in policy.encode(frames=batch.clips)]
            groups = self.trainer._engine(policy).generate(prompts, batch.shape.answers, self.trainer.sampling)
        return [answer.token_ids for group in groups for answer in group]

    def step(self) -> None:
        """One optimizer step, from the files on."""
        self.trainer.train()

    def _clips(self, batch: Batch) -> ClipBatch:
        shown = [{"frames": frames} for frames in batch.clips]
        return ClipBatch([batch.prompt] * len(shown), shown, [stream.name for stream in self.policy.streams])


class Stock:
    """`trl.GRPOTrainer`. It knows neither the motion branch nor perturbed copies."""

    name: ClassVar[str] = "stock TRL"

    def __init__(self, folder: Path, rows: Sequence[LabelRow], shape: Shape, copies: bool = False) -> None:
        if copies:
            raise ValueError("copies=True: stock TRL answers no perturbed copies.")
        source = VQAThinkerForConditionalGeneration.from_pretrained(folder)
        own = AutoProcessor.from_pretrained(folder)
        home = folder / "stock"
        processor = make_stock(home, source)
        self.policy = InternVLForConditionalGeneration.from_pretrained(home)
        self.trainer = GRPOTrainer(
            self.policy,
            list(rubric_of(copies=False).rewards),
            GRPOConfig(**settings(home / "run", shape)),
            image_dataset(rows, own, shape.frames),
            processing_class=processor,
        )
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.current_gradient_accumulation_steps = 1
        self.reference_policy = self.trainer.ref_model

    def update(self, batch: Batch) -> None:
        """As in `Ours`."""
        inputs = batch.trl_inputs() | self._images(batch)
        self.trainer._compute_loss(self.policy.train(), inputs).backward()

    @torch.no_grad()
    def reference(self, batch: Batch) -> torch.Tensor:
        """As in `Ours`."""
        ids, mask = batch.rows()
        find = self.trainer._get_per_token_logps_and_entropies
        images = self._images(batch)
        return find(self.reference_policy, ids, mask, batch.shape.tokens, batch_size=len(ids), **images)[0]

    def sample(self, batch: Batch) -> list[list[int]]:
        """As in `Ours`."""
        images = {"pixel_values": batch.pixels}
        return self.trainer._generate_single_turn(batch.prompts.tolist(), None, images, batch.shape.answers)[0]

    def step(self) -> None:
        """As in `Ours`."""
        self.trainer.train()

    def _images(self, batch: Batch) -> dict[str, Any]:
        return {"pixel_values": batch.pixels, "num_images": [batch.shape.frames] * len(batch.prompts)}


def image_dataset(rows: Sequence[LabelRow], processor: VQAThinkerProcessor, frames: int) -> Dataset:
    """Prompts of the same words as ours with a place for each frame, which a row decodes whenever it is fetched."""
    lines = LAYOUTS[processor.layout](frames, streams_of(processor), processor.prompt_style)
    lines.append([instructed(processor.question, processor.prompt_style)])
    texts = written(joined(lines, processor.prompt_style), lambda slot: "\0").split("\0")
    blocks: list[dict[str, str | None]] = [{"type": "text", "text": texts[0]}]
    for text in texts[1:]:
        blocks += [{"type": "image", "text": None}, {"type": "text", "text": text}]
    prompt = [{"role": "user", "content": blocks}]

    def read(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return found | {"images": [pictures(path, frames, processor.image_size) for path in found["video"]]}

    columns = {"video": [row.video for row in rows], "video_id": [row.video_id for row in rows]}
    columns |= {"mos": [row.mos for row in rows], "prompt": [prompt] * len(rows)}
    return Dataset.from_dict(columns).with_transform(read)


def pictures(path: str, frames: int, side: int) -> list[Image.Image]:
    """A clip's key frames as square images: of others InternVL's processor makes up to twelve tiles each."""
    clip = clips.open_clip(path)
    found = clip.frames(clips.uniform_indices(clip.num_frames, frames))
    return [Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC) for frame in found]


class Published:
    """The published code's way."""

    name: ClassVar[str] = "published way"

    def __init__(self, folder: Path, rows: Sequence[LabelRow], shape: Shape, copies: bool) -> None:
        self.policy, self.reference_policy = (
            VQAThinkerForConditionalGeneration.from_pretrained(folder) for _ in range(2)
        )
        self.reference_policy.eval().requires_grad_(False)
        add_fused_lm_head(self.policy, TEMPERATURE, outputs=("log_probs", "entropy"))
        add_fused_lm_head(self.reference_policy, TEMPERATURE)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.num_frames = shape.frames
        self.clip_rows, self.shape, self.rubric, self.copies = list(rows), shape, rubric_of(copies), copies
        self.optimizer = torch.optim.AdamW(
            [weight for weight in self.policy.parameters() if weight.requires_grad], LEARNING_RATE, weight_decay=0.0
        )
        self.generation = GenerationConfig(
            max_new_tokens=shape.tokens,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=TOP_K,
            eos_token_id=self.policy.generation_config.eos_token_id,
            pad_token_id=self.policy.generation_config.pad_token_id,
            suppress_tokens=[self.policy.config.image_token_id],
        )

    def update(self, batch: Batch) -> None:
        """As in `Ours`."""
        self._loss(self._visual(self._repeated(batch)), batch).backward()

    @torch.no_grad()
    def reference(self, batch: Batch) -> torch.Tensor:
        """As in `Ours`."""
        visual = self._visual(self._repeated(batch))
        return self._log_probs(self.reference_policy, batch.prompts, batch.answers, visual)

    def sample(self, batch: Batch) -> list[list[int]]:
        """As in `Ours`."""
        return self._answers(self._visual(self._repeated(batch)), batch.prompts).tolist()

    def step(self) -> None:
        """As in `Ours`."""
        size = self.shape.clips
        for start in range(0, size * self.shape.micro_steps, size):
            batch = self._rollouts(self.clip_rows[start : start + size])
            (self._loss(batch.visual, batch) / self.shape.micro_steps).backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def load(self, rows: Sequence[LabelRow], perturbed: bool = False) -> list[ClipInput]:
        """K clips for each of some rows, each decoded anew."""
        found = [self.processor.load_clip(row.video) for row in rows for _ in range(self.shape.answers)]
        if not perturbed:
            return found
        maps = [perturb.draw(self.shape.frames, np.random.default_rng(i), MODES, "official") for i in range(len(rows))]
        return [_shown(clip, maps[i // self.shape.answers]) for i, clip in enumerate(found)]

    def _rollouts(self, rows: Sequence[LabelRow]) -> _Scored:
        visual = self._visual(self.load(rows))
        prompts = torch.tensor([self.processor.prompt_ids(self.shape.frames)] * len(rows) * self.shape.answers)
        answers, heard = self._answers(visual, prompts), None
        if self.copies:
            heard = self._texts(self._answers(self._visual(self.load(rows, perturbed=True)), prompts))
        with torch.no_grad():
            reference = self._log_probs(self.reference_policy, prompts, answers, visual)
        owners = [row for row in rows for _ in range(self.shape.answers)]
        columns = {"mos": [row.mos for row in owners], "video_id": [row.video_id for row in owners]}
        total = self.rubric.score(self._texts(answers), perturbed_completions=heard, **columns).total
        advantages = torch.tensor(rewards.advantages(total, columns["video_id"]), dtype=torch.float32)
        return _Scored(visual, prompts, answers, advantages, reference)

    def _loss(self, visual: dict[str, Any], batch: Any) -> torch.Tensor:
        """Eq. 3: clipped ratios, and the KL penalty to the reference."""
        self.policy.train()
        logps = self._log_probs(self.policy, batch.prompts, batch.answers, visual)
        ratio, gain = (logps - logps.detach()).exp(), batch.advantages[:, None]
        clipped = torch.min(ratio * gain, ratio.clamp(1 - EPSILON, 1 + EPSILON) * gain)
        apart = batch.reference - logps
        known = self._known(batch.answers)
        losses = (BETA * (apart.exp() - apart - 1) - clipped) * known
        return (losses.sum(1) / known.sum(1)).mean()

    def _log_probs(self, model: Any, prompts: torch.Tensor, answers: torch.Tensor, visual: Any) -> torch.Tensor:
        ids = torch.cat([prompts, answers], dim=1)
        labels = ids.clone()
        labels[:, : prompts.shape[1]] = -100
        found = model(ids, torch.ones_like(ids), labels=labels, fused_lm_head=True, **visual)
        return found.log_probs[:, -answers.shape[1] :]

    @torch.no_grad()
    def _answers(self, visual: dict[str, Any], prompts: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(prompts)
        return self.policy.eval().generate(prompts, attention_mask=mask, generation_config=self.generation, **visual)

    def _known(self, answers: torch.Tensor) -> torch.Tensor:
        """Tokens up to the first that ends an answer."""
        ends = answers == self.generation.eos_token_id
        return (ends.cumsum(1) - ends.int() == 0).float()

    def _texts(self, answers: torch.Tensor) -> list[str]:
        return self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def _repeated(self, batch: Batch) -> list[ClipInput]:
        blank = self.processor.blank_clip()
        return [
            ClipInput(frames, blank.motion_frames, blank.indices)
            for frames in batch.clips
            for _ in range(batch.shape.answers)
        ]

    def _visual(self, found: Sequence[ClipInput]) -> dict[str, Any]:
        shown = {stream.takes: [getattr(clip, stream.takes) for clip in found] for stream in self.policy.streams}
        prompt = self.processor.render(frames=[len(found[0].frames)])
        return shown | {"visual_index": self.processor.index_of([prompt] * len(found))}


@dataclass(frozen=True)
class _Scored:
    """Rows of `Published`, ready for the loss."""

    visual: dict[str, Any]
    prompts: torch.Tensor
    answers: torch.Tensor
    advantages: torch.Tensor
    reference: torch.Tensor


def _shown(clip: ClipInput, frame_map: perturb.FrameMap) -> ClipInput:
    return ClipInput(frame_map.apply(clip.frames), frame_map.apply(clip.motion_frames), clip.indices)


Arm = Ours | Stock | Published


def make_arms(folder: Path, size: Size, rows: Sequence[LabelRow], shape: Shape, method: bool = False) -> list[Arm]:
    """The ways, on the same weights.

    Args:
        folder: For the policy's weights and the trainers' files.
        size: The policy's.
        rows: Clips; as many as a step takes.
        shape: What a step takes.
        method: With motion branch and perturbed copies, as in the paper, which stock TRL knows not; else InternVL
            alone, and rewards that need no copies.

    Returns:
        `Ours`, `Stock` if it can, `Published`.
    """
    make_policy(folder, size, motion=method)
    kinds: list[type[Ours] | type[Stock] | type[Published]] = [Ours, Published] if method else [Ours, Stock, Published]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [kind(folder, rows, shape, method) for kind in kinds]
