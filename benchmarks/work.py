"""How much each way computes in one optimizer step of one process, by formula: counts, and floating-point operations.

All answers have their full length; perturbed copies show as many frames as their clips, in another order. Sampling is
transformers' in all ways, in one batch. `benchmarks.work_counters` compares this with what hooks count in real steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vqathinker.policy import VQAThinkerConfig
from vqathinker.training.step_time import frame_flops, language_flops, motion_flops

PHASES = ("sampling", "reference", "update")
COUNTERS = ("language tokens", "language passes", "vision frames", "motion clips", "opens")
Counts = dict[str, dict[str, int]]
"""Counter -> phase -> how many; files are opened in the phase "data"."""


@dataclass(frozen=True)
class Shape:
    """What one process does in a step.

    Attributes:
        clips: In a micro-batch.
        answers: To each clip, K.
        frames: Key frames of each, T.
        tokens: Of each answer, L.
        micro_steps: Micro-batches in a step.
    """

    clips: int = 1
    answers: int = 4
    frames: int = 6
    tokens: int = 200
    micro_steps: int = 1


@dataclass(frozen=True)
class Pass:
    """Equal passes of the language model.

    Attributes:
        phase: One of `PHASES`.
        rows, queries: Its batch and the new tokens of each row.
        pairs: Query-key pairs of all rows and times, as a kernel computes them that skips nothing.
        scored: Positions of each row that the head takes.
        times: How often.
    """

    phase: str
    rows: int
    queries: int
    pairs: int
    scored: int
    times: int = 1

    @property
    def tokens(self) -> int:
        """All new tokens."""
        return self.rows * self.queries * self.times


def passes(way: str, shape: Shape, prompt: int, copies: bool, compact: bool = False) -> Iterator[Pass]:
    """What the language model does in a step.

    Args:
        way: Name of one of `benchmarks.arms`.
        shape: What a step takes.
        prompt: Tokens P of a prompt.
        copies: With perturbed copies, which are answered too.
        compact: Whether TRL's head takes the answers' positions only, as ours does, or all, as without Triton.
    """
    answers, tokens, micro = shape.answers, shape.tokens, shape.micro_steps
    shown = shape.clips * micro * (2 if copies else 1)
    if way == "ours":
        yield Pass("sampling", shown, prompt - 1, shown * (prompt - 1) ** 2, 0)
        keys = tokens * (prompt - 1) + answers * tokens * (tokens + 1) // 2
        yield Pass("sampling", shown * answers, 1, shown * answers * keys, 1, tokens)
        length = prompt - 1 + answers * (tokens + 1)
        for phase in PHASES[1:]:
            answer = tokens + 1  # its prompt's last token before it
            each = (prompt - 1) ** 2 + answers * answer * (prompt - 1 + answer)
            yield Pass(phase, shape.clips, length, micro * shape.clips * each, answers * tokens, micro)
        return
    batches = micro * (2 if copies else 1) if way == "published way" else 1
    rows = shown * answers
    yield Pass("sampling", rows // batches, prompt, rows * prompt**2, 1, batches)
    keys = (tokens - 1) * prompt + tokens * (tokens - 1) // 2
    yield Pass("sampling", rows // batches, 1, rows * keys, 1, batches * (tokens - 1))
    rows, length = shape.clips * answers, prompt + tokens
    for phase in PHASES[1:]:
        yield Pass(phase, rows, length, micro * rows * length**2, tokens if compact else length - 1, micro)


def counts(way: str, shape: Shape, prompt: int, method: bool) -> Counts:
    """All counters of one step.

    Args:
        way, shape, prompt: As in `passes`.
        method: With motion branch and perturbed copies.
    """
    clips, answers = shape.clips * shape.micro_steps, shape.answers
    found: Counts = {counter: {} for counter in COUNTERS}
    for one in passes(way, shape, prompt, copies=method):
        _add(found, "language tokens", one.phase, one.tokens)
        _add(found, "language passes", one.phase, one.times)
    each = 1 if way == "ours" else answers
    for phase in PHASES:
        again = 2 if phase == "sampling" and method and way != "ours" else 1
        _add(found, "vision frames", phase, clips * each * shape.frames * again)
    if method and way == "ours":
        _add(found, "motion clips", "sampling", 2 * clips)  # features are kept
    elif method:
        for phase, times in zip(PHASES, (2, 1, 1), strict=True):
            _add(found, "motion clips", phase, times * clips * answers)
    opened = {"ours": 1, "stock TRL": answers * shape.micro_steps, "published way": answers * (2 if method else 1)}
    _add(found, "opens", "data", clips * opened[way])
    return found


def _add(found: Counts, counter: str, phase: str, number: int) -> None:
    if number:
        found[counter][phase] = found[counter].get(phase, 0) + number


def flops(
    way: str, shape: Shape, prompt: int, method: bool, config: VQAThinkerConfig, compact: bool = False
) -> dict[str, int]:
    """Floating-point operations of one step by phase: 2 a multiplication with addition; attention skips nothing.

    The backward pass takes twice the forward's; of the head three times, which computes its logits again; of the patch
    embedding once, as pixels need no gradient.
    """
    found = dict.fromkeys(PHASES, 0)
    text = config.get_text_config()
    for one in passes(way, shape, prompt, method, compact):
        body, head = language_flops(config, one.tokens, one.pairs)
        scores = head * one.rows * one.scored * one.times
        found[one.phase] += 3 * body + 4 * scores if one.phase == "update" else body + scores
    counted = counts(way, shape, prompt, method)
    for phase, frames in counted["vision frames"].items():
        patches, rest = frame_flops(config)
        found[phase] += frames * (2 * patches + 3 * rest if phase == "update" else patches + rest)
    if method:
        clips = shape.clips * shape.micro_steps
        each = 1 if way == "ours" else shape.answers
        projected = zip(PHASES, (2, 1, 1), (1, 1, 3), strict=True)
        for phase, times, cost in projected:
            width, features = text.hidden_size, config.motion_config.feature_size
            found[phase] += 2 * width * (features + width) * config.motion_tokens * clips * each * times * cost
            encoded = counted["motion clips"].get(phase, 0)
            found[phase] += encoded * motion_flops(config, shape.frames * config.motion_run_length)
    return found
