"""Does a policy prefer a clip to copies of it whose frames are out of order, frozen or lost?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from vqathinker import perturb
from vqathinker.clips import ClipError
from vqathinker.data import ClipLoader
from vqathinker.evaluation.report import Table
from vqathinker.perturb import MODES
from vqathinker.policy import ClipInput, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Sampling
from vqathinker.scoring.predict import PAPER_SAMPLING, answer_clips, mean_score
from vqathinker.scoring.scorer import QualityScorer, process_state

logger = logging.getLogger(__name__)
ORIGINAL = "original"
Order = Callable[[int, np.random.Generator], np.ndarray]


def _original(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """The first two thirds of the frames, so that a copy that loses a third is as long."""
    if num_frames < 3:
        raise ValueError(f"a clip of {num_frames} frames is too short: dropping frames needs at least 3.")
    return np.arange(num_frames - num_frames // 3)


def _shuffled(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    order = _original(num_frames, rng)
    return order[list(MODES["global_shuffle"](len(order), rng).source)]


def _frozen(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A third of the frames, at random places, repeat the one before."""
    order = _original(num_frames, rng)
    for t in sorted(1 + rng.choice(len(order) - 1, max(1, len(order) // 3), replace=False)):
        order[t] = order[t - 1]
    return order


def _thinned(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A third of the frames is missing, in two gaps at random places (one gap in a clip of under six)."""
    kept = _original(num_frames, rng)
    lost = num_frames - len(kept)
    gaps = [lost - lost // 2, lost // 2]
    starts = rng.choice(kept[1:], min(2, len(kept) - 1), replace=False)
    return kept + sum(gap * (kept >= start) for gap, start in zip(gaps, starts, strict=False))


COPIES: dict[str, Order] = {"shuffle": _shuffled, "stutter": _frozen, "drop": _thinned}
"""Name -> frames of the copy, as many as of the original."""


@dataclass(frozen=True)
class TemporalPreference:
    """How originals fare against one kind of copy. Without any preference, wins and ties / 2 add up to one half.

    Attributes:
        wins: Share of clips whose original outscores the copy.
        ties: Share with equal scores.
        margin: Mean of original minus copy, in score units.
        num_clips: Clips compared: readable, of at least three frames, with a score for both.
    """

    wins: float
    ties: float
    margin: float
    num_clips: int


def temporal_preference(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    videos: Sequence[str],
    samples: int = 4,
    sampling: Sampling = PAPER_SAMPLING,
    seed: int = 0,
    batch_size: int = 16,
) -> dict[str, TemporalPreference]:
    """Score originals and copies, made on all frames before the policy's own sampling of frames.

    The first two thirds of a clip's frames are the original and as many are in every copy, so that none is told by its
    length. They should be at least as many as the policy looks at (the processor's `num_frames` x `motion_run_length`):
    of a shorter clip it gets some frames twice, which looks like a fault. Only the copy that loses frames shows some of
    the last third.

    Args:
        policy: The policy. Samples are drawn from torch's global generator.
        processor: Its processor.
        videos: Paths; unreadable ones, and those of under three frames, are left out.
        samples: Answers per clip and copy, whose mean counts.
        sampling: How they are drawn.
        seed: Of the copies.
        batch_size: Clips at a time.

    Returns:
        Name in `COPIES` -> result.
    """
    videos = list(dict.fromkeys(videos))
    places = {video: place for place, video in enumerate(videos)}
    loader = ClipLoader(lambda video: _with_copies(processor, video, [seed, places[video]]), threads=2)
    margins: dict[str, list[float]] = {name: [] for name in COPIES}
    for _, loaded in loader.batches(videos, batch_size):
        clips = {(video, name): clip for video, shown in loaded.items() for name, clip in shown.items()}
        answers = answer_clips(policy, processor, clips, samples, False, sampling)
        scores = {key: mean_score(prediction.scores) for key, prediction in answers.items()}
        for name, margin in margins.items():
            margin += [scores[video, ORIGINAL] - scores[video, name] for video in loaded]
    return {name: _preference(np.array(values)) for name, values in margins.items()}


def temporal_sensitivity(
    scorer: QualityScorer, videos: Sequence[str], seed: int = 0, progress: bool = False
) -> dict[str, TemporalPreference]:
    """Originals against copies whose key frames the six perturbations of training re-index (VQAThinker Sec. 3.3).

    Under `accelerate launch` the processes share the clips.

    Args:
        scorer: Scores both.
        videos: Paths. Those that are unreadable, or have no score, are left out, as `num_clips` tells.
        seed: Of the perturbations.
        progress: Show a progress bar.

    Returns:
        Name in `perturb.MODES` -> result. A mode that cannot change a clip of so few key frames leaves it out.
    """
    state = process_state()
    own = list(enumerate(videos))[state.process_index :: state.num_processes]
    shown = progress and state.is_main_process
    margins = []
    for place, video in tqdm(own, desc="temporal sensitivity", unit="clip", disable=None if shown else True):
        try:
            clip = scorer.processor.load_clip(video)
        except ClipError as error:
            logger.warning("left out: %s", error)
            continue
        rng = np.random.default_rng([seed, place])
        maps = {mode: perturb.draw(len(clip.frames), rng, [mode]) for mode in MODES}
        maps = {mode: frame_map for mode, frame_map in maps.items() if not frame_map.is_identity}
        original, *copies = scorer.score_clips([clip, *(clip.moved(frame_map) for frame_map in maps.values())])
        margins += [(mode, original.score - copy.score) for mode, copy in zip(maps, copies, strict=True)]
    margins = gather_object(margins)
    return {mode: _preference(np.array([value for name, value in margins if name == mode])) for mode in MODES}


def sensitivity_table(results: Mapping[str, TemporalPreference]) -> Table:
    """For people: share of originals that outscore their copies, ties, mean margin."""
    rows = [[name.replace("_", " "), r.num_clips, r.wins, r.ties, r.margin] for name, r in results.items()]
    columns = ["perturbation", "clips", "original outscores", "ties", "mean margin"]
    return Table("Temporal sensitivity", columns, rows, "margin: score of the original minus that of its copy")


def _with_copies(processor: VQAThinkerProcessor, video: str, seed: Sequence[int]) -> dict[str, ClipInput]:
    """Original and copies of one file, which is decoded once."""

    def drawn(order: Order) -> Callable[[int], np.ndarray]:
        return lambda num_frames: order(num_frames, np.random.default_rng(seed))

    orders = {ORIGINAL: _original, **COPIES}
    try:
        return processor.load_copies(video, {name: drawn(order) for name, order in orders.items()})
    except ClipError:
        raise
    except ValueError as error:  # too few frames
        raise ClipError(video, str(error)) from error


def _preference(margins: np.ndarray) -> TemporalPreference:
    known = margins[~np.isnan(margins)]
    if not len(known):
        return TemporalPreference(np.nan, np.nan, np.nan, 0)
    return TemporalPreference(float((known > 0).mean()), float((known == 0).mean()), float(known.mean()), len(known))
