"""How a score head is trained: squared error and a term for the order of pairs, beside another loss or alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import logsigmoid, relu

from vqathinker.policy import VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

TIE = 0.1
"""Score units: a pair whose labels are not further apart is a tie. About the standard error of a MOS of 30 raters."""
K = 5.0
"""VideoAlign's k, arXiv 2501.13918: the larger, the likelier a tie."""
EPS = 1e-6
"""In the roots of the fidelity, whose slope at 0 has no bound."""


def paper_rank(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """CP-LLM's L1 (arXiv 2505.16025): max(0, -(q1 - q2)(p1 - p2)), q = label, p = score.

    Without a margin, and equal scores cost nothing: only the squared error keeps them apart. Args and return as in
    `fidelity_rank`.
    """
    return relu(-labels * scores)


def fidelity_rank(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - sqrt(P p) - sqrt((1 - P)(1 - p)), the fidelity loss between the chances that the first clip is better: P of
    the labels and p of the scores, both Phi(difference / sqrt(2)) (Thurstone's case V with a standard deviation of one
    score unit). Least where the differences are equal, as the squared error is.

    Args:
        scores: (P,) differences of the pairs' scores, first - second.
        labels: (P,) those of their labels.

    Returns:
        (P,).
    """
    p, q = (torch.special.ndtr(difference / math.sqrt(2)) for difference in (scores, labels))
    return 1 - (q * p + EPS).sqrt() - ((1 - q) * (1 - p) + EPS).sqrt()


def bradley_terry_rank(scores: torch.Tensor, labels: torch.Tensor, tie: float = TIE, k: float = K) -> torch.Tensor:
    """Bradley-Terry with ties (Rao and Kupper; VideoAlign): -log sigmoid(d - log k) where the first clip is better by d
    score units, and for a tie that with both signs, minus log(k^2 - 1). It pushes the scores of a pair on until they
    are far more than log k apart, against the squared error: give it a small weight.

    Args:
        scores, labels: As in `fidelity_rank`.
        tie: Labels that are not further apart are a tie.
        k: Above 1.
    """
    better = -logsigmoid(scores * labels.sign() - math.log(k))
    both = -logsigmoid(scores - math.log(k)) - logsigmoid(-scores - math.log(k)) - math.log(k**2 - 1)
    return torch.where(labels.abs() <= tie, both, better)


RANKS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "paper": paper_rank,
    "fidelity": fidelity_rank,
    "bradley_terry": bradley_terry_rank,
}
"""Name -> loss of pairs."""


@dataclass(kw_only=True)
class HeadArguments:
    """How the score head is trained beside a run's own loss, whose gradients the policy gets too."""

    head_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of the score head's loss beside the run's own; 0: the head stays as it is."},
    )
    head_rank: str = field(
        default="fidelity", metadata={"help": f"Term for the order of pairs in the head's loss: {', '.join(RANKS)}."}
    )
    head_rank_weight: float = field(
        default=1.0, metadata={"help": "Weight of that term beside the head's squared error; 0 leaves it out."}
    )


def check_head_arguments(args: HeadArguments) -> None:
    """Raise `ValueError` if a value is out of range, or would not be used."""
    if min(args.head_weight, args.head_rank_weight) < 0:
        raise ValueError(
            f"head_weight={args.head_weight}, head_rank_weight={args.head_rank_weight}: must be at least 0; 0 leaves "
            "the term out."
        )
    if args.head_rank not in RANKS:
        raise ValueError(f"head_rank={args.head_rank!r}: must be one of {[*RANKS]}.")
    own = {name: getattr(args, name) for name in ("head_rank", "head_rank_weight")}
    if not args.head_weight and own != {name: getattr(HeadArguments, name) for name in own}:
        raise ValueError(f"{own} with head_weight=0: no score head is trained. Set head_weight: 1, or leave them out.")


def check_new_head(form: str | None, model: str, args: HeadArguments) -> None:
    """Raise `ValueError` if a policy is given a new score head that the run does not train: it would be saved with its
    first, random weights.

    Args:
        form: `--score-head`.
        model: Folder of the policy, which may have such a head already.
        args: Of the run.
    """
    if form and not args.head_weight and VQAThinkerConfig.from_pretrained(model).score_head != form:
        raise ValueError(
            f"score_head={form!r} with head_weight=0: the new head would be saved untrained. Set head_weight: 1, or "
            "leave score_head out."
        )


def check_head_learns(model: nn.Module, args: HeadArguments) -> None:
    """Raise `ValueError` if a score head is to be trained and is not, or with `head_only` something else is too.

    Args:
        model: What the trainer optimizes: the policy, or a `PeftModel` of it.
        args: Of the run.
    """
    if not args.head_weight:
        return
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    others = sorted(name for name in trained if ".score_head." not in name)
    if len(others) == len(trained):
        raise ValueError(
            f"head_weight={args.head_weight}, but no weight of a score head is trained. Beside an adapter add "
            "score_head to the parts that are trained whole (lora_modules_to_save, in Python modules_to_save), else "
            "leave it out of freeze; or set head_weight: 0."
        )
    if others and getattr(args, "head_only", False):
        raise ValueError(
            f"head_only=True, but {counted(len(others), 'other weight')} would be trained too (first: {others[0]}): "
            "freeze all but the head, in Python prepare_head(policy, args), and train no adapter."
        )


def warn_of_pairs(args: HeadArguments, prompts: int) -> None:
    """Say once that the term for pairs is never there.

    Args:
        args: Of the run.
        prompts: Of a micro-batch, of all processes together.
    """
    if args.head_weight and args.head_rank_weight and prompts < 2:
        logger.warning(
            "head_rank_weight=%g does nothing: a micro-batch of all processes together has %s, and pairs are made of "
            "its clips. Raise per_device_train_batch_size, or set head_rank_weight: 0.",
            *(args.head_rank_weight, counted(prompts, "prompt")),
        )


def prepare_head(policy: VQAThinkerForConditionalGeneration, args: HeadArguments) -> None:
    """Freeze a head that a run does not train, in place; with `head_only` all but the head.

    Raises:
        ValueError: If there is no head to train.
    """
    form, alone = policy.config.score_head, getattr(args, "head_only", False)
    if not form:
        if args.head_weight:
            raise ValueError(
                f"head_weight={args.head_weight}, but the policy has no score head: add one with score_head: hidden "
                "(or visual), in Python from_pretrained(..., score_head='hidden'); or set head_weight: 0."
            )
        return
    if alone:
        policy.requires_grad_(False)
        policy.model.score_head.requires_grad_(True)
    if not args.head_weight:
        policy.model.score_head.requires_grad_(False)


def check_labels(args: HeadArguments, mos: Sequence[float | None]) -> None:
    """Raise `ValueError` if a head is to be trained and no row has a label."""
    if args.head_weight and all(label is None for label in mos):
        raise ValueError(
            f"head_weight={args.head_weight}, but no sample has a MOS, which the score head learns from: give "
            "train_labels, or set head_weight: 0."
        )


class HeadLoss:
    """Squared error of the head's scores, and the term for the order of all pairs of the processes' clips together.

    Args:
        args: Of the run.
        accelerator: Of the run; each call is collective.
    """

    def __init__(self, args: HeadArguments, accelerator: Accelerator) -> None:
        self.args, self.accelerator = args, accelerator
        self._logged: dict[str, list[float]] = {}

    def __call__(self, scores: torch.Tensor, mos: torch.Tensor) -> torch.Tensor:
        """The loss, weighed by `head_weight`; 0, with gradients, where no clip has a label.

        Args:
            scores: (N,) of this process's clips; others may have another number.
            mos: (N,) labels in score units, NaN = none.
        """
        scores, mos = of_all_processes(scores.float(), mos.to(scores.device), self.accelerator)
        error, rank = head_terms(scores, mos, self.args.head_rank)
        labelled = int((~mos.isnan()).sum())
        for name, value, clips in (("mse", error, 1), (f"rank_{self.args.head_rank}", rank, 2)):
            if labelled >= clips:
                self._logged.setdefault(name, []).append(value.item())
        return self.args.head_weight * (error + self.args.head_rank_weight * rank)

    def logged(self) -> dict[str, float]:
        """Means of both terms since the last time, over the batches that had them: of one labelled clip, of two."""
        found = {f"head/{name}": sum(values) / len(values) for name, values in self._logged.items()}
        self._logged.clear()
        return found


def head_terms(scores: torch.Tensor, mos: torch.Tensor, rank: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error over clips with a label, and mean loss over their pairs; 0 where there are none.

    Args:
        scores: (N,).
        mos: (N,), NaN = none.
        rank: One of `RANKS`.
    """
    known = ~mos.isnan()
    nothing = 0 * scores.sum()
    scores, mos = scores[known], mos[known]
    if not len(mos):
        return nothing, nothing
    first, second = torch.triu_indices(len(mos), len(mos), offset=1, device=mos.device)
    error = nothing + (scores - mos).square().mean()
    if not len(first):
        return error, nothing
    return error, RANKS[rank](scores[first] - scores[second], mos[first] - mos[second]).mean()


def of_all_processes(
    scores: torch.Tensor, mos: torch.Tensor, accelerator: Accelerator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and labels of all processes' clips, where only this one's have gradients: as many times as there are
    processes, whose gradients are averaged. Places without a clip have no label."""
    if accelerator.num_processes == 1:
        return scores, mos
    padded = accelerator.pad_across_processes(torch.stack([scores.detach(), mos], dim=1), pad_index=math.nan)
    whole, labels = accelerator.gather(padded).unbind(1)
    start = len(padded) * accelerator.process_index
    own = accelerator.num_processes * (scores - scores.detach())
    places = torch.arange(start, start + len(scores), device=whole.device)
    return whole.where(~labels.isnan(), 0.0).index_add(0, places, own), labels


@contextmanager
def scores_said(policy: VQAThinkerForConditionalGeneration) -> Iterator[list[torch.Tensor]]:
    """What the score head says in the passes of a policy in here; TRL's fused head hands on nothing but its own."""
    found: list[torch.Tensor] = []
    hook = policy.model.register_forward_hook(lambda module, inputs, outputs: found.append(outputs.scores))
    try:
        yield found
    finally:
        hook.remove()


def labels_of(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The MOS of rows that ask for a score, else NaN."""
    return [
        float(row["mos"]) if (row.get("task") or "score") == "score" and row.get("mos") is not None else math.nan
        for row in rows
    ]
