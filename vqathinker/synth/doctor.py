"""Is a checkpoint what it claims to be? It must load whole, and score the worse of two copies of a scene lower."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vqathinker.clips import write_video
from vqathinker.metrics.correlation import srcc
from vqathinker.policy import (
    IncompleteCheckpoint,
    VQAThinkerForConditionalGeneration,
    VQAThinkerProcessor,
    check_checkpoint,
    load_policy,
    not_as_trained,
)
from vqathinker.policy.streams import visual_tokens
from vqathinker.scoring import QualityScorer, expected_score
from vqathinker.scoring.predict import embed_prompts
from vqathinker.scoring.scorer import process_state, torch_device
from vqathinker.synth.distortions import distort
from vqathinker.synth.scenes import render_scene

KINDS = ("blur", "noise", "underexposure", "overexposure")
"""Of the ladders: two pairs of opposites (less and more detail, darker and brighter), so that a network that has merely
some leaning, to bright pictures or to smooth ones, is right in one half and wrong in the other."""
SEVERITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Rungs of a ladder, best first."""
SCENES = 3
NUM_FRAMES, FPS, MIN_SIZE = 24, 12, 96
LONGEST_ANSWER = 512
"""Tokens, where neither the caller nor the checkpoint says."""
MIN_PARSED = 0.8
"""Share of answers with a number. The demo's policies have 0.98 and 1.00, with one of four language layers lost 0.63 at
most."""
MIN_SPREAD = 0.2
"""Standard deviation of scores. The demo's policies have 0.9 and 1.1, as labels would, random ones 0.15 to 0.3. Below,
a score says next to nothing, however right the order."""
MAX_SRCC, MIN_PAIRS = -0.8, 0.8
"""Mean SRCC of severity and score over the ladders, and share of neighbouring severities in the right order. The demo's
policies have -0.99 and 0.98 or better; ten random ones -0.57 to 0.45 and up to 0.71; with vision tower or projector
lost, in 20 cases, -0.77 to 0.49 and up to 0.79."""
SHOWN = 3
"""Names in a finding."""
PLACEHOLDERS = ("start_image_token", "context_image_token", "end_image_token")
UNREASONED = "<answer>3.00</answer>"
"""Where an answer has no number, the score is read at this one's place."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: What was checked, a key of `MEANING`.
        ok: Whether it passed.
        text: What was found.
    """

    check: str
    ok: bool
    text: str


MEANING = {
    "checkpoint": "the folder does not hold all weights of the policy",
    "values": "weights are damaged",
    "processor": "processor and policy do not match",
    "answers": "answers hold no number: the policy is untrained, or its language model is damaged",
    "spread": "the policy gives all clips nearly the same score: it is untrained, or its vision or motion branch is "
    "damaged",
    "order": "worse clips do not score lower: the policy is untrained, or its vision or motion branch is damaged",
}
"""Check -> what it means if it fails."""


def verdict(findings: Sequence[Finding]) -> str:
    """One sentence; of several failures the first counts, as the others may follow from it."""
    failed = [finding.check for finding in findings if not finding.ok]
    return (
        f"not sane: {MEANING[failed[0]]}" if failed else "sane: the checkpoint loads whole and scores worse clips lower"
    )


def examine(
    path: str | Path,
    device: str | None = None,
    num_frames: int | None = None,
    image_size: int | None = None,
    frame_sampling: str | None = None,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    view: str | None = None,
    question: str | None = None,
) -> Iterator[Finding]:
    """Check a checkpoint, one finding after the other; ends where the next check needs what has failed.

    Args:
        path: Checkpoint folder or hub id.
        device: Default the accelerator where there is one, else CPU.
        num_frames: See `load_processor`, as `image_size`, `frame_sampling`, `view` and `question`.
        image_size: In pixels.
        frame_sampling: `"number"` or `"time"`.
        max_new_tokens: Longest answer; default the checkpoint's, else `LONGEST_ANSWER`.
        batch_size: Clips at a time; default 8.
        view: `"resize"` or `"center_crop"`.
        question: For scores.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If an argument is wrong.
    """
    check_checkpoint(path)
    device = str(torch_device(device or process_state().device))
    try:
        policy, processor = load_policy(path, device, num_frames, image_size, frame_sampling, view, question)
    except IncompleteCheckpoint as error:
        yield Finding("checkpoint", False, str(error))
        return
    changed = not_as_trained(processor)
    yield Finding(
        "checkpoint", True, f"all {len(policy.state_dict())} weights are there" + (f"; {changed}" if changed else "")
    )
    yield check_values(policy)
    longest = policy.generation_config.max_new_tokens or LONGEST_ANSWER
    longest = longest if max_new_tokens is None else max_new_tokens
    agreement = check_processor(policy, processor, longest)
    yield agreement
    if agreement.ok:
        scorer = QualityScorer(policy, processor, "expected", max_new_tokens=longest, batch_size=batch_size)
        yield from check_scores(*score_ladders(scorer))


def check_values(policy: nn.Module) -> Finding:
    """Every weight must be finite, and no weight of a layer all zero.

    Biases, tokens and positions may be zero, and so may weights of batch normalisation, as pytorchvideo starts the last
    one of a block.
    """
    infinite = [name for name, value in policy.state_dict().items() if not torch.isfinite(value).all()]
    norms = tuple(name for name, module in policy.named_modules() if isinstance(module, nn.BatchNorm3d))
    weights = [(name, value) for name, value in policy.named_parameters() if name.endswith(".weight")]
    zero = [name for name, value in weights if not value.any() and name.removesuffix(".weight") not in norms]
    found = {"not finite": infinite, "all zero": zero}
    faults = [f"{len(names)} {fault} ({_some(names)})" for fault, names in found.items() if names]
    return Finding("values", not faults, "; ".join(faults) or "every weight is finite, and none is all zero")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def check_processor(
    policy: VQAThinkerForConditionalGeneration, processor: VQAThinkerProcessor, max_new_tokens: int
) -> Finding:
    """The processor must show the policy what its configuration speaks of."""
    config, tokenizer = policy.config, processor.tokenizer
    absent = [name for name in PLACEHOLDERS if getattr(tokenizer, name, None) is None]
    if absent:
        return Finding("processor", False, f"the tokenizer has no {', '.join(absent)}: use InternVL's tokenizer")
    wanted = {
        "placeholder id": (tokenizer.convert_tokens_to_ids(tokenizer.context_image_token), config.image_token_id),
        "patch_size": (processor.patch_size, config.vision_config.patch_size[0]),
        "downsample_ratio": (processor.downsample_ratio, config.downsample_ratio),
        "motion_tokens": (processor.motion_tokens, config.motion_tokens),
        "motion_run_length": (processor.motion_run_length, config.motion_run_length),
        "motion_max_frames": (processor.motion_max_frames, config.motion_max_frames),
        "streams": (list(processor.streams), list(config.streams)),
        "motion_image_size": (processor.motion_image_size, config.motion_config.image_size),
    }
    if config.low_tokens:
        wanted |= {
            "low_tokens": (processor.low_tokens, config.low_tokens),
            "low_patches": (processor.low_patches, config.low_patches),
            "low_patch_size": (processor.low_patch_size, config.low_config.image_size),
        }
    faults = [
        f"{name} is {own} for the processor, {its} for the policy" for name, (own, its) in wanted.items() if own != its
    ]
    rows = policy.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        faults.append(f"the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows")
    prompt = processor.prompt_ids()
    visual = visual_tokens(config, processor.num_frames, processor.image_size)
    placeholders = prompt.count(config.image_token_id)
    if placeholders != visual:
        faults.append(f"the prompt has {placeholders} placeholders for {visual} visual tokens")
    longest = config.text_config.max_position_embeddings
    if len(prompt) + max_new_tokens > longest:
        faults.append(f"a prompt of {len(prompt)} tokens and an answer of {max_new_tokens} exceed {longest} positions")
    fits = f"the prompt's {len(prompt)} tokens ({visual} visual) and the tokenizer's {len(tokenizer)} are the policy's"
    return Finding("processor", not faults, "; ".join(faults) or fits)


def score_ladders(scorer: QualityScorer) -> tuple[np.ndarray, float]:
    """Make the ladders, as video files, and score them.

    Returns:
        (scenes, kinds, severities) expected scores; and the share of answers that have a number.
    """
    policy, processor = scorer.policy, scorer.processor
    beginning = processor.tokenizer(UNREASONED, add_special_tokens=False)["input_ids"]

    def unreasoned(video: str) -> float:
        [prompt] = embed_prompts(policy, processor, [processor.load_clip(video)])
        return expected_score(policy, processor.tokenizer, prompt, beginning)[0]

    with tempfile.TemporaryDirectory() as folder:
        # as large as the policy looks at them, so that no enlarging blurs what is sharp
        videos = write_ladders(Path(folder), max(MIN_SIZE, processor.image_size))
        results = [result for batch in scorer.score_many(videos) for result in batch]
        scores = [result.score if result.parsed else unreasoned(result.video) for result in results]
    shape = (SCENES, len(KINDS), len(SEVERITIES))
    return np.reshape(scores, shape), float(np.mean([result.parsed for result in results]))


def write_ladders(folder: Path, size: int) -> list[str]:
    """Files of every scene, kind and severity, in this order.

    Args:
        folder: Gets them.
        size: Side in pixels, even.
    """
    videos = []
    for scene in range(SCENES):
        frames = render_scene(np.random.default_rng([scene, 0]), NUM_FRAMES, size)
        for kind in KINDS:
            for severity in SEVERITIES:
                made = distort(frames, {kind: severity}, np.random.default_rng([scene, 1]))
                videos.append(str(folder / f"{scene}_{kind}_{severity}.mp4"))
                write_video(videos[-1], made.frames, FPS, made.crf)
    return videos


def check_scores(scores: np.ndarray, parsed: float) -> list[Finding]:
    """Do answers have numbers, do these differ, and do they fall with the severity?

    Args:
        scores: (scenes, kinds, severities), rising severity; NaN counts as wrong.
        parsed: Share of answers with a number.
    """
    ladders = scores.reshape(-1, scores.shape[-1])
    spread = float(ladders.std())
    kinds = {kind: float(np.mean([_order(ladder) for ladder in scores[:, i]])) for i, kind in enumerate(KINDS)}
    order = float(np.mean(list(kinds.values())))
    pairs = float(np.mean([better > worse for ladder in ladders for better, worse in pairwise(ladder)]))
    by_kind = ", ".join(f"{kind} {value:+.2f}" for kind, value in kinds.items())
    return [
        Finding(
            "answers",
            parsed >= MIN_PARSED,
            f"{parsed:.0%} of {scores.size} answers have a number; at least {MIN_PARSED:.0%} must",
        ),
        Finding(
            "spread",
            spread >= MIN_SPREAD,
            f"scores have a standard deviation of {spread:.2f}; it must be {MIN_SPREAD} or more",
        ),
        Finding(
            "order",
            order <= MAX_SRCC and pairs >= MIN_PAIRS,
            f"mean SRCC of severity and score {order:+.2f} ({by_kind}); it must be {MAX_SRCC} or less; of neighbouring "
            f"severities {pairs:.0%} are in the right order; at least {MIN_PAIRS:.0%} must be",
        ),
    ]


def _order(ladder: np.ndarray) -> float:
    """SRCC of severity and score; 0 without an order."""
    value = math.nan if np.isnan(ladder).any() else srcc(SEVERITIES, ladder)
    return 0.0 if math.isnan(value) else value
