"""Follow-up questions about a clip: each is asked behind all that was said before."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from vqathinker.messages import text_in, user_prompt
from vqathinker.policy import ClipInput
from vqathinker.policy.prompts import instructed
from vqathinker.scoring.asking import QualityAnswer, answer_of, question_sample
from vqathinker.scoring.predict import embed_prompts
from vqathinker.tasks import find_task

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScorer


@dataclass(frozen=True)
class Turn:
    """A question with its options, and the policy's whole answer with its reasoning (`QualityAnswer.whole`)."""

    question: str
    answer: str


@torch.no_grad()
def ask_again(
    scorer: QualityScorer,
    clip: ClipInput,
    turns: Sequence[Turn],
    question: str,
    options: Sequence[str] | None = None,
) -> QualityAnswer:
    """The policy's answer to a question behind a conversation.

    The prompt is the clip with the first question, then answers and questions in turn, in the chat template's form. A
    policy that was trained on single questions has never seen such a prompt.

    Args:
        scorer: Asks, with its own number of samples.
        clip: What the conversation is about.
        turns: What was said before, in order.
        question: What is asked now, without its options.
        options: 2 to 26 texts to choose from; `None` for an answer in the policy's own words.

    Raises:
        ValueError: If the question is empty, the options are no such list, or the prompt is longer than the policy can
            read.
    """
    sample = question_sample("", question, options)
    last = Turn(find_task(sample.task).text(sample), "")
    messages = conversation([*turns, last], scorer.processor.prompt_style)[:-1]
    length = len(scorer.processor.render(messages, [clip.length]).ids)
    left = _longest(scorer) - length
    if left < 1:
        raise ValueError(
            f"the conversation has grown to {length} tokens, and the policy reads {_longest(scorer)}: start a new one, "
            "or ask in fewer words."
        )
    [prompt] = embed_prompts(scorer.policy, scorer.processor, [clip], [messages])
    sampling = replace(scorer.sampling, max_new_tokens=min(scorer.sampling.max_new_tokens, left))
    seed = zlib.crc32(json.dumps([text_in(messages, role) for role in ("user", "assistant")]).encode(), scorer.seed)
    seed = zlib.crc32(clip.frames.numpy().data, seed)
    [drawn] = scorer.answering_engine().generate([prompt], max(1, scorer.samples), sampling, [seed])
    texts = scorer.processor.tokenizer.batch_decode([one.token_ids for one in drawn], skip_special_tokens=True)
    return answer_of(sample, texts)


def turn_of(answer: QualityAnswer) -> Turn:
    """What was asked, with its options, and answered, for the next prompt."""
    sample = question_sample("", answer.question, answer.options or None)
    return Turn(find_task(sample.task).text(sample), answer.whole)


def conversation(turns: Sequence[Turn], style: str) -> list[dict[str, Any]]:
    """Messages of a conversation about one clip, which the first of them shows.

    Args:
        turns: At least one.
        style: Of the prompts, see `VQAThinkerProcessor`.
    """
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        messages += user_prompt([] if number else [None], instructed(turn.question, style))
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return messages


def _longest(scorer: QualityScorer) -> int:
    """Tokens that a prompt and its answer may have together."""
    reserved = getattr(scorer.engine, "max_model_length", math.inf)
    return int(min(reserved, scorer.policy.config.get_text_config().max_position_embeddings))
