"""Read-outs: from a policy's probabilities to a score that is finer than its text."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from vqathinker.data.scales import LABEL_RANGE
from vqathinker.data.traces import LEVELS
from vqathinker.messages import Messages
from vqathinker.policy import ClipInput, FeatureCache, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rewards import LEVEL_WEIGHTS, LEVEL_WORDS, parse_answer, parse_level
from vqathinker.rewards.answer_number import SCORE_RANGE
from vqathinker.rewards.parsing import answer_block
from vqathinker.scoring.predict import embed_prompts
from vqathinker.tasks.level import STEM

READOUTS = ("answer", "expected", "levels", "head")
"""`answer`: the number in the text. `expected`: `expected_score`. `levels`: `level_score`. `head`: `head_score`."""
WITHOUT_ANSWERS = ("levels", "head")
"""Those that generate nothing, but for the level word behind a reasoning, see `generates`."""
LEVEL_PREFIX = STEM
"""What the level word goes on from (Q-Align, VQA²)."""
LEVEL_ASKED = {"score": LEVEL_PREFIX, "level": f"<answer>{STEM}", "reasoning": ""}
"""What is asked before a level word is read -> what the word goes on from. `score`: the policy's question for a score,
which needs no training. `level`: the task "level", at the place of its answer without reasoning. `reasoning`: the same
task, answered by the policy; the word goes on from this answer, reasoning and all."""
LEVEL_WEIGHTINGS = {"quarters": LEVEL_WEIGHTS, "fifths": (1.0, 0.8, 0.6, 0.4, 0.2)}
"""Name -> what the words are worth, best first. `quarters`: Q-Align's, VQA²'s paper. `fifths`: VQA²'s newer scripts; an
affine change, so that correlations are the same, of scores from 1.8 to 5."""


@torch.no_grad()
def expected_score(
    policy: VQAThinkerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    prompt: torch.Tensor,
    answer: Sequence[int],
) -> tuple[float, float]:
    """Expectation over the numbers 0.00, 0.01, ..., 5.00 that could stand in the answer, behind the reasoning given.

    The probability of a number is that of its digits, each given those before it, among the digits that could stand
    there. One pass of the language model over the prompt, the answer and every "d.d".

    Args:
        policy: The policy.
        tokenizer: Its tokenizer; one token per digit, as Qwen's.
        prompt: (L, D) prompt embeddings.
        answer: Token ids of an answer; only its part up to the number counts, see `before_number`.

    Returns:
        Mean and standard deviation, mean in [0, 5]; NaN if the answer has no number that counts as its score.

    Raises:
        ValueError: If a digit is not one token.
    """
    prefix = before_number(tokenizer, answer)
    if prefix is None:
        return math.nan, math.nan
    digits = [_token(tokenizer, str(digit)) for digit in range(10)]
    point = _token(tokenizer, ".")
    low, high = (round(limit) for limit in LABEL_RANGE)
    starts = [(first, second) for first in range(low, high + 1) for second in range(10 if first < high else 1)]
    logits = _branch_logits(policy, prompt, prefix, [[digits[a], point, digits[b]] for a, b in starts])
    among_digits = logits[..., digits].float()  # (branches, 4, 10): before each token of a branch, and behind the last
    first = among_digits[0, 0, low : high + 1].log_softmax(-1)
    numbers, logprobs = [], []
    for (a, b), branch in zip(starts, among_digits, strict=True):
        count = 10 if a < high else 1  # nothing above 5.00
        second, third = branch[2, :count].log_softmax(-1), branch[3, :count].log_softmax(-1)
        numbers.append(a + b / 10 + torch.arange(count) / 100)
        logprobs.append((first[a - low] + second[b] + third).cpu())
    return _moments(torch.cat(numbers), torch.cat(logprobs))


@torch.no_grad()
def level_score(
    policy: VQAThinkerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    prompt: torch.Tensor,
    words: Sequence[str] = LEVELS,
    prefix: str = LEVEL_PREFIX,
    weights: Sequence[float] = LEVEL_WEIGHTS,
) -> tuple[float, float]:
    """Softmax over level words with weights (VQA², Q-Align: 1, .75, .5, .25, 0), as a score 1 + 4 x in [1, 5].

    The policy has not reasoned: the words come right behind `prefix`. A word of several tokens counts as their product.

    Args:
        policy: The policy.
        tokenizer: Its tokenizer.
        prompt: (L, D) prompt embeddings.
        words: Five, best first, see `rewards.LEVEL_WORDS`.
        prefix: Beginning of the policy's answer.
        weights: What the words are worth, in [0, 1], see `LEVEL_WEIGHTINGS`.

    Returns:
        Mean and standard deviation in [1, 5].
    """
    start = _ids(tokenizer, prefix)
    ids = [_ids(tokenizer, f" {word}") for word in words]
    return _moments(_level_scores(weights), _word_logprobs(policy, prompt, start, ids))


@torch.no_grad()
def reasoned_level_score(
    policy: VQAThinkerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    prompt: torch.Tensor,
    answer: Sequence[int],
    words: Sequence[str] = LEVELS,
    weights: Sequence[float] = LEVEL_WEIGHTS,
) -> tuple[float, float]:
    """`level_score` at the place of the level word in an answer: behind its reasoning, inside its `<answer>` block.

    Args:
        policy: The policy.
        tokenizer: Its tokenizer.
        prompt: (L, D) prompt embeddings, of the task "level".
        answer: Token ids of an answer; only its part up to the word counts.
        words: Five, best first.
        weights: What they are worth.

    Returns:
        Mean and standard deviation in [1, 5]; NaN if the answer names no one level (`rewards.parse_level`).
    """
    found = before_level(tokenizer, answer, words)
    if found is None:
        return math.nan, math.nan
    return _moments(_level_scores(weights), _word_logprobs(policy, prompt, *found))


def _level_scores(weights: Sequence[float]) -> torch.Tensor:
    low, high = SCORE_RANGE
    return low + (high - low) * torch.tensor(weights)


def before_level(
    tokenizer: PreTrainedTokenizerBase, answer: Sequence[int], words: Sequence[str]
) -> tuple[list[int], list[list[int]]] | None:
    """Tokens of an answer up to the one level word in its last `<answer>` block, and the ids of each of the words as it
    would stand there: behind a space or not, in the case of the word.

    `None` if it names no one level, or the word does not begin with a token.
    """
    text = tokenizer.decode(answer)
    level, block = parse_level(text, words).level, answer_block(text, "last")
    if level is None or block is None:
        return None
    named = words[len(words) - level]
    *_, place = (block[0] + found.start() for found in re.finditer(rf"(?i)\b{named}\b", text[slice(*block)]))
    written = text[place : place + len(named)]
    case = str.upper if written.isupper() else str.capitalize if written[0].isupper() else str
    space = " " if text[place - 1] == " " else ""
    before = tokens_before(tokenizer, answer, place - len(space))
    if tokenizer.decode(before) != text[: place - len(space)]:
        return None
    return before, [_ids(tokenizer, space + case(word)) for word in words]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def generates(readout: str, asked: str) -> bool:
    """Whether a read-out needs answers; `asked` as `LEVEL_ASKED`."""
    return readout not in WITHOUT_ANSWERS or (readout == "levels" and asked == "reasoning")


def check_levels(readout: str, words: str, asked: str, weights: str) -> None:
    """Raise `ValueError` if level words, what is asked before them, or their weights are unknown or would not be
    used."""
    given = f"level_words={words!r}, level_asked={asked!r}, level_weights={weights!r}"
    if words not in LEVEL_WORDS or asked not in LEVEL_ASKED or weights not in LEVEL_WEIGHTINGS:
        raise ValueError(f"{given}: must be one of {[*LEVEL_WORDS]}, of {[*LEVEL_ASKED]} and of {[*LEVEL_WEIGHTINGS]}.")
    if readout != "levels" and (words, asked, weights) != ("itu", "score", "quarters"):
        raise ValueError(
            f"{given} with readout={readout!r}, which reads no level words: set readout='levels', or leave them out."
        )


@torch.no_grad()
def word_probabilities(
    policy: VQAThinkerForConditionalGeneration,
    prompt: torch.Tensor,
    prefix: Sequence[int],
    words: Sequence[Sequence[int]],
) -> torch.Tensor:
    """How probably each of some words comes next, given that one of them does.

    Args:
        policy: The policy.
        prompt: (L, D) prompt embeddings.
        prefix: P >= 1 ids behind it.
        words: W words, ids; none begins another. A word of several tokens counts as their product.

    Returns:
        (W,) probabilities, float64 on the CPU.
    """
    return _word_logprobs(policy, prompt, prefix, words).double().softmax(-1)


def _word_logprobs(
    policy: VQAThinkerForConditionalGeneration,
    prompt: torch.Tensor,
    prefix: Sequence[int],
    words: Sequence[Sequence[int]],
) -> torch.Tensor:
    """(W,) log-probabilities of whole words among all that may come."""
    logits = _branch_logits(policy, prompt, prefix, words).float().log_softmax(-1)
    rows = zip(logits, words, strict=True)
    return torch.stack([sum(branch[i, token] for i, token in enumerate(word)) for branch, word in rows]).cpu()


@torch.no_grad()
def head_score(
    policy: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    clip: ClipInput,
    question: Messages | None = None,
) -> float:
    """What the policy's score head says of a clip: of a `visual` one without the language model, of a `hidden` one
    after a pass over the prompt.

    Args:
        policy: The policy.
        processor: Its processor, whose question a hidden head reads.
        clip: The clip.
        question: A conversational prompt instead of the processor's question; a visual head reads none.

    Returns:
        A score in score units, 1-5 as far as it has learnt; not bounded.

    Raises:
        ValueError: If it has no head (`check_head`).
    """
    check_head(policy)
    first = torch.tensor([0], device=policy.device)
    if policy.config.score_head == "visual":
        [visual] = FeatureCache(policy).inputs([None], [clip])
        return float(policy(**{name: [value] for name, value in visual.items()}, score_at=first).scores)
    [prompt] = embed_prompts(policy, processor, [clip], None if question is None else [question])
    return float(policy(inputs_embeds=prompt[None], score_at=first + len(prompt) - 1, logits_to_keep=1).scores)


def check_head(policy: VQAThinkerForConditionalGeneration) -> None:
    """Raise `ValueError` if a policy has no score head."""
    if not policy.config.score_head:
        raise ValueError(
            f"readout='head', but the policy {policy.name_or_path!r} has no score head: use another read-out, or fit a "
            "head with `vqathinker train sft_lsvq --score-head hidden --head-weight 1 --head-only true ...`."
        )


def before_number(tokenizer: PreTrainedTokenizerBase, answer: Sequence[int]) -> list[int] | None:
    """Tokens of an answer up to the number in its first `<answer>` block that counts as its score (`parse_answer`).

    `None` if there is none, or its first token does not begin with its first digit: .5 and -3 begin otherwise.
    """
    text = tokenizer.decode(answer)
    start = parse_answer(text, which="first").start
    if start is None or not text[start].isdigit():
        return None

    before = tokens_before(tokenizer, answer, start)
    return before if tokenizer.decode(before) == text[:start] else None


def tokens_before(tokenizer: PreTrainedTokenizerBase, answer: Sequence[int], place: int) -> list[int]:
    """The tokens of an answer before the one that holds the character at `place` of its text."""

    def reached(count: int) -> bool:
        return len(tokenizer.decode(answer[:count])) > place

    # The first prefix that holds the character; whether it does only ever changes once.
    return list(answer[: bisect_left(range(len(answer) + 1), True, key=reached) - 1])


def _token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"readout 'expected' with {type(tokenizer).__name__}: {text!r} is {len(ids)} tokens {ids}, but each digit "
            "and the decimal point must be one token. Use readout 'answer' or 'levels'."
        )
    return ids[0]


def _branch_logits(
    policy: VQAThinkerForConditionalGeneration,
    prompt: torch.Tensor,
    prefix: Sequence[int],
    branches: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Logits along continuations that share a beginning, in one pass over `[prompt prefix | b1 | b2 | ...]`.

    A branch sees the beginning and itself only, and its positions go on from the beginning's.

    Args:
        policy: The policy.
        prompt: (L, D) prompt embeddings.
        prefix: P ids behind it, P >= 1.
        branches: B continuations of any lengths >= 1, ids.

    Returns:
        (B, longest + 1, V): before the first token of each branch, and behind each; padded with the last.
    """
    shared = len(prompt) + len(prefix)
    device = prompt.device
    ids = torch.tensor([*prefix, *(token for branch in branches for token in branch)], device=device)
    numbers = [0] * shared + [number for number, branch in enumerate(branches, start=1) for _ in branch]
    owner = torch.tensor(numbers, device=device)
    visible = ((owner[None, :] == 0) | (owner[None, :] == owner[:, None])).tril()
    places = [*range(shared), *(shared + i for branch in branches for i in range(len(branch)))]
    embeds = torch.cat([prompt, policy.get_input_embeddings()(ids).to(prompt.dtype)])
    logits = policy(
        inputs_embeds=embeds[None],
        attention_mask=visible[None, None],
        position_ids=torch.tensor(places, device=device)[None],
        logits_to_keep=len(ids) - len(prefix) + 1,
    ).logits[0]
    rows, start, longest = [], 1, max(map(len, branches))
    for branch in branches:
        own = [0, *range(start, start + len(branch))]
        rows.append(own + own[-1:] * (longest - len(branch)))
        start += len(branch)
    return logits[torch.tensor(rows, device=device)]


def _moments(values: torch.Tensor, logprobs: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation of values under a softmax."""
    weights = logprobs.double().softmax(-1)
    mean = (weights * values).sum()
    return float(mean), float((weights * (values - mean) ** 2).sum().sqrt())
