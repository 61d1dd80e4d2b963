"""The warm start's loss where not all tokens of an answer count alike: what decides weighs more, and level words may
be learnt as a distribution whose mean is the MOS."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import NormalDist
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from vqathinker.data import Sample
from vqathinker.data.pairs import sd_of
from vqathinker.tasks.level import level_in, words_of
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

LEVEL_TARGETS = ("word", "linear", "gaussian")
"""`word`: the right word alone. `linear`: `neighbours`. `gaussian`: `gaussian_levels`."""
LEAST_SD = 0.2
LARGEST_SHIFT = 0.1
"""DeQA-Score's bounds, in score units: of a standard deviation that is used, and of what a mean may be off."""
TARGETS = ("target_at", "target_ids", "target_weights", "target_entropy")
"""What a batch holds for this loss."""


@dataclass(kw_only=True)
class AnswerArguments:
    """What of an answer is learnt how much."""

    decision_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the tokens that decide an answer (number, option, level word) beside 1 of others."
        },
    )
    level_targets: str = field(
        default="word",
        metadata={
            "help": "How level words are learnt: 'word', the right one; 'linear', the two whose mean is the MOS; "
            "'gaussian', all five by the labels' standard deviations (columns sd or std)."
        },
    )


def check_answer_arguments(args: AnswerArguments) -> None:
    """Raise `ValueError` if a value is out of range, or would not be used."""
    if not (math.isfinite(args.decision_weight) and args.decision_weight > 0):
        raise ValueError(
            f"decision_weight={args.decision_weight}: must be a number above 0; 1 weighs all tokens alike."
        )
    if args.level_targets not in LEVEL_TARGETS:
        raise ValueError(f"level_targets={args.level_targets!r}: must be one of {LEVEL_TARGETS}.")
    if getattr(args, "head_only", False) and weighs(args):
        raise ValueError(
            f"head_only=True with decision_weight={args.decision_weight}, level_targets={args.level_targets!r}: no "
            "answer is learnt. Leave them out."
        )


def weighs(args: AnswerArguments) -> bool:
    """Whether the loss is another than the mean over the answers' tokens."""
    return args.decision_weight != 1 or args.level_targets != "word"


# ---------------------------------------------------------------- distributions over levels


def neighbours(mos: float) -> list[float]:
    """The two levels next to a MOS, weighed so that their mean is the MOS; of five, best first.

    Args:
        mos: In score units, 1 to 5.
    """
    upper = min(3, math.floor(5 - mos))
    share = 5 - mos - upper
    return [1 - share if place == upper else share if place == upper + 1 else 0.0 for place in range(5)]


def gaussian_levels(mos: float, sd: float) -> list[float]:
    """DeQA-Score's targets (arXiv 2501.11561): the mass of a normal distribution within half a level of each level, of
    five, best first, as alpha p + beta with the sum 1 and the mean of the MOS, negative ones at 0.

    Args:
        mos: In score units, 1 to 5.
        sd: In score units. Below `LEAST_SD`, or where the mean is off by more than `LARGEST_SHIFT` after that, the
            distribution is `neighbours`.
    """
    if sd < LEAST_SD:
        return neighbours(mos)
    cdf, levels = NormalDist(mos, sd).cdf, (5, 4, 3, 2, 1)
    mass = [cdf(level + 0.5) - cdf(level - 0.5) for level in levels]
    # sum: alpha sum(p) + 5 beta = 1; mean: alpha sum(p level) + 15 beta = mos
    skew = sum(p * (level - 3) for p, level in zip(mass, levels, strict=True))
    alpha = (mos - 3) / skew if abs(skew) > 1e-6 else 1.0
    beta = (1 - alpha * sum(mass)) / 5
    shares = [max(0.0, alpha * p + beta) for p in mass]
    shares = [share / sum(shares) for share in shares]
    mean = sum(share * level for share, level in zip(shares, levels, strict=True))
    return neighbours(mos) if abs(mean - mos) > LARGEST_SHIFT else shares


def level_distribution(sample: Sample, form: str) -> list[float] | None:
    """What a sample's level word is to be learnt as.

    Args:
        sample: Of any task.
        form: One of `LEVEL_TARGETS`.

    Returns:
        Five shares, best level first; `None` where the word alone is learnt: with the form "word", of other tasks, and
        of samples without a MOS that fits their word. Without a standard deviation "gaussian" is "linear".
    """
    mos = _fitting_mos(sample) if form != "word" and sample.task == "level" else None
    if mos is None:
        return None
    sd = sd_of(sample.target, f"sample {sample.id!r}") if form == "gaussian" else None
    return neighbours(mos) if sd is None else gaussian_levels(mos, sd)


def _fitting_mos(sample: Sample) -> float | None:
    """The MOS of a sample of the task "level"; `None` where it has none, or a word of its own for another level.

    Raises:
        ValueError: If the MOS is outside 1 to 5, or the word is none of its words.
    """
    mos = sample.target.get("mos")
    if mos is None:
        return None
    level = level_in(Sample(sample.id, "level", sample.clips, target={"mos": mos}))
    return float(mos) if level == level_in(sample) else None


def level_distributions(samples: Sequence[Sample], form: str) -> list[list[float] | None]:
    """`level_distribution` of all samples; those of the task "level" that have no MOS, or one of another level than
    their word, or no standard deviation where they should, are counted in a warning.

    Raises:
        ValueError: If the form is another than "word", and no sample allows it.
    """
    shares = [level_distribution(sample, form) for sample in samples]
    if form == "word":
        return shares
    asked = [sample for sample in samples if sample.task == "level"]
    fitting, fits = "MOS that fits its word", [_fitting_mos(sample) for sample in asked]
    needed: dict[str, Sequence[float | None]] = {fitting: fits}
    if form == "gaussian":  # of those with such a MOS: without one a deviation is not needed
        known = [sample for sample, mos in zip(asked, fits, strict=True) if mos is not None]
        needed["standard deviation (column sd or std)"] = [sd_of(sample.target, sample.id) for sample in known]
    for what, values in needed.items():
        missing = sum(value is None for value in values)
        if missing == len(values):
            raise ValueError(
                f"level_targets={form!r}, but none of {counted(len(values), 'sample')} of the task 'level' has a {what}"
                ": label them, ask for levels (ask: level), or set level_targets: word."
            )
        if missing:
            less = "the right word alone" if what == fitting else "the two words whose mean is the MOS"
            logger.warning(
                "%s of %d have no %s: there %s is learnt.", counted(missing, "level"), len(values), what, less
            )
    return shares


def level_wordings(sample: Sample, text: str, word: tuple[int, int], shares: Sequence[float]) -> list[dict[str, Any]]:
    """A gold answer with each level word that has a share in place of its own.

    Args:
        sample: Of the task "level".
        text: The answer.
        word: Where its word stands.
        shares: Of the five words, best first.

    Returns:
        `{"text", "end", "share"}` each: the answer, the end of its word, and the word's share.
    """
    start, end = word
    return [
        {"text": text[:start] + other + text[end:], "end": start + len(other), "share": share}
        for other, share in zip(words_of(sample), shares, strict=True)
        if share
    ]


# ---------------------------------------------------------------- targets of a batch


@dataclass
class _Row:
    """A row of a batch.

    Attributes:
        ids: Prompt and answer, and behind it the branches: of other level words the tokens but the last.
        targets: (place of the logits, id to be predicted, weight).
        branches: (first place, length, how many of the first ids it goes on from).
        entropy: Of the words' shares, weighed: what their cross-entropy cannot fall below.
    """

    ids: list[int]
    targets: list[tuple[int, int, float]] = field(default_factory=list)
    branches: list[tuple[int, int, int]] = field(default_factory=list)
    entropy: float = 0.0


def weighted_batch(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Mapping[str, Any]],
    nothing: Sequence[bool],
    decision_weight: float,
) -> dict[str, torch.Tensor]:
    """Prompts with their answers, padded right, and what is to be predicted where, with which weight.

    A level word that is learnt as a distribution is predicted as each of its words, weighed by the shares. A word's
    probability is the product of its tokens', as in the read-out `levels`: where words of several tokens branch off
    from the answer, these stand behind it, and nothing but the branch itself sees them.

    Args:
        tokenizer: The policy's; a fast one, which tells where tokens stand.
        prompts: B prompts, ids.
        rows: B rows of `sft_dataset`.
        nothing: Those of which there is nothing to learn.
        decision_weight: Of the tokens that decide.

    Returns:
        `input_ids` (B, L); `attention_mask` (B, L), or with branches (B, 1, L, L) and `position_ids` (B, L); of N
        targets `target_at`, places in B * L, `target_ids` and `target_weights`; `target_entropy` (B,).
    """
    made = [
        _Row(list(prompt)) if empty else _row(tokenizer, prompt, row, decision_weight)
        for prompt, row, empty in zip(prompts, rows, nothing, strict=True)
    ]
    width = max(len(row.ids) for row in made)
    targets = [(number * width + at, token, w) for number, row in enumerate(made) for at, token, w in row.targets]
    batch = {
        "input_ids": torch.tensor([row.ids + [tokenizer.pad_token_id] * (width - len(row.ids)) for row in made]),
        "attention_mask": (torch.arange(width) < torch.tensor([len(row.ids) for row in made])[:, None]).long(),
        "target_at": torch.tensor([at for at, _, _ in targets], dtype=torch.long),
        "target_ids": torch.tensor([token for _, token, _ in targets], dtype=torch.long),
        "target_weights": torch.tensor([weight for _, _, weight in targets]),
        "target_entropy": torch.tensor([row.entropy for row in made]),
    }
    if any(row.branches for row in made):
        seen, places = zip(*(_sight(row, width) for row in made), strict=True)
        batch |= {"attention_mask": torch.stack(seen)[:, None], "position_ids": torch.stack(places)}
    return batch


def _row(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], row: Mapping[str, Any], decision_weight: float
) -> _Row:
    """A row with its targets."""
    start, end = row["decision"]
    ids, spans = _tokens(tokenizer, row["completion"])
    deciding = [a < end and b > start for a, b in spans]
    first = len(prompt) - 1  # gives the logits of the answer's first token
    made = _Row([*prompt, *ids])
    words = [(_until(tokenizer, one["text"], one["end"]), one["share"]) for one in row.get("levels") or ()]
    own = _until(tokenizer, row["completion"], end)
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(own, *(word for word, _ in words), strict=False))
    branching = min(len(list(alike)), deciding.index(True))
    replaced = range(branching, len(own)) if words else range(0)
    for place, token in enumerate(ids):
        if place not in replaced:
            made.targets.append((first + place, token, decision_weight if deciding[place] else 1.0))
    for word, share in words:
        made.entropy -= decision_weight * share * math.log(share)
        at = [first + place for place in replaced]
        if word != own:
            at = [first + branching, *_branch(made, word[branching:-1], len(prompt) + branching)]
        made.targets += [(at, token, decision_weight * share) for at, token in zip(at, word[branching:], strict=True)]
    return made


def _branch(row: _Row, tokens: Sequence[int], seen: int) -> range:
    """Put tokens behind a row that go on from its first `seen` ids; returns their places."""
    places = range(len(row.ids), len(row.ids) + len(tokens))
    if tokens:
        row.ids += tokens
        row.branches.append((places.start, len(tokens), seen))
    return places


def _sight(row: _Row, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What each place of a row sees, (L, L), true = visible, and which position it has, (L,)."""
    places = torch.arange(width)
    owner, goes_on_from, positions = torch.zeros(width), torch.full((width,), width), places.clone()
    for number, (start, length, seen) in enumerate(row.branches, start=1):
        own = slice(start, start + length)
        owner[own], goes_on_from[own], positions[own] = number, seen, seen + torch.arange(length)
    answer = (owner == 0) & (places < goes_on_from[:, None])
    return (answer | (owner == owner[:, None])).tril(), positions


def _tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of an answer with its end token, and which characters each of them writes."""
    found = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], found["offset_mapping"]


def _until(tokenizer: PreTrainedTokenizerBase, answer: str, end: int) -> list[int]:
    """Ids of an answer up to the one that writes the character before `end`."""
    ids, spans = _tokens(tokenizer, answer)
    return [token for token, (start, _) in zip(ids, spans, strict=True) if start < end]


# ---------------------------------------------------------------- the loss


def take_targets(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Out of a batch what this loss needs; nothing of one without."""
    return {name: inputs.pop(name) for name in TARGETS if name in inputs}


def answer_loss(
    logits: torch.Tensor, targets: Mapping[str, torch.Tensor], total: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Weighted mean of the cross-entropy over targets; at level words less the entropy of their shares, which makes it
    the Kullback-Leibler divergence from these. 0, with gradients, where there is nothing to learn.

    Args:
        logits: (B, L, V).
        targets: See `weighted_batch`.
        total: Sum of the weights that it is a mean over; default that of the targets.
    """
    said = logits.flatten(0, 1)[targets["target_at"]].float()
    losses = cross_entropy(said, targets["target_ids"], reduction="none")
    weights = targets["target_weights"].float()
    total = weights.sum() if total is None else torch.as_tensor(total, device=losses.device)
    return ((weights * losses).sum() - targets["target_entropy"].float().sum()) / total.clamp(min=1e-8)
