"""Any question about a clip: with options to choose from, or answered in the policy's own words."""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from vqathinker.data import ClipLoader, Sample
from vqathinker.data.options import check_options
from vqathinker.messages import Messages, text_in
from vqathinker.policy import ClipInput
from vqathinker.rewards import choice
from vqathinker.rewards.choice import letter, parse_choice
from vqathinker.rewards.parsing import answer_block
from vqathinker.rollout import RolloutEngine, Sampling
from vqathinker.scoring.predict import encode_clips
from vqathinker.tasks import find_task
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScorer

QUESTIONS = 64
"""Questions at a time at most, unless more clips are: their prompts are held as embeddings."""


@dataclass(frozen=True)
class QualityAnswer:
    """The policy's answer to one question about one clip.

    Attributes:
        video: Path; "" for frames in memory.
        question: As asked, without the options.
        answer: Text of the chosen option; without options, what stands in the last `<answer>` block. "" if there is
            none. Never a guess.
        status: `"ok"`, or why there is no answer: those of `rewards.ParsedChoice` (of the first answer), or
            `"unreadable"`. Without options `"no_answer"` is an empty block too.
        options: What there was to choose from; none for an answer in the policy's own words.
        index: Of the chosen option, from 0; `None` if there is none.
        agreement: Share of the sampled answers that say the same, in [0, 1]; NaN for one answer.
        answers: Whole texts.
        error: Why the clip cannot be read, else "".
    """

    video: str
    question: str
    answer: str
    status: str
    options: tuple[str, ...] = ()
    index: int | None = None
    agreement: float = math.nan
    answers: tuple[str, ...] = ()
    error: str = ""

    @property
    def letter(self) -> str:
        """Of the chosen option; "" without one."""
        return "" if self.index is None else letter(self.index)

    @property
    def parsed(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"

    @property
    def reasoning(self) -> str:
        """`<think>` block of the first answer that says what `answer` says (else of the first), "" without one."""
        said = [_said(text, self.options)[0] for text in self.answers]
        mine = self.index if self.options else _folded(self.answer)
        whole = self.answers[said.index(mine)] if mine in said else "".join(self.answers[:1])
        return whole.partition("<think>")[2].partition("</think>")[0].strip()


def question_sample(video: str, question: str, options: Sequence[str] | None = None) -> Sample:
    """A question as the tasks ask it.

    Args:
        video: Path; "" for frames in memory.
        question: What is asked, without the options.
        options: 2 to 26 texts; `None` for an answer in the policy's own words.

    Raises:
        ValueError: If the question is empty, or the options are no such list.
    """
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question {question!r:.80} must be a non-empty string: write the question.")
    if options is None:  # any question that is asked as it stands; the number that "score" reads is not taken from it
        return Sample("", "score", (video,), question.strip())
    return Sample("", "choice", (video,), question.strip(), {"options": check_options(options)})


def ask_samples(
    scorer: QualityScorer,
    samples: Sequence[Sample],
    greedy: bool = False,
    read: Callable[[str], ClipInput] | None = None,
) -> Iterator[list[QualityAnswer]]:
    """Ask about files, batch by batch and in order; the next batch is decoded meanwhile.

    A batch is at most `scorer.batch_size` clips. Each is decoded and encoded once for all its questions in the batch:
    put questions about one clip next to each other.

    Args:
        scorer: Asks.
        samples: Of any tasks, with one clip each.
        greedy: One greedy answer each, whatever the scorer's samples.
        read: From a path to a clip; default the processor's.

    Raises:
        ValueError: If a sample has several clips or, of the task "choice", not 2 to 26 options.
        TypeError: If its options are no list of texts.
    """
    for sample in samples:
        _check(sample)
    loader: ClipLoader[ClipInput] = ClipLoader(read or scorer.processor.load_clip, scorer.decode_threads)
    chunks = list(_chunks(samples, scorer.batch_size))
    for number, chunk in enumerate(chunks):
        for ahead in chunks[number : number + 2]:
            loader.prefetch(sample.clips[0] for sample in ahead)
        names = dict.fromkeys(sample.clips[0] for sample in chunk)
        clips = {name: clip for name in names if (clip := loader.get(name)) is not None}
        known = iter(ask_clips(scorer, [sample for sample in chunk if sample.clips[0] in clips], clips, greedy))
        yield [
            next(known) if sample.clips[0] in clips else _unreadable(sample, loader.skipped[sample.clips[0]])
            for sample in chunk
        ]


@torch.no_grad()
def ask_clips(
    scorer: QualityScorer, samples: Sequence[Sample], clips: Mapping[str, ClipInput], greedy: bool = False
) -> list[QualityAnswer]:
    """Ask about decoded clips. An answer depends on clip, question and settings, not on what else is asked.

    Args:
        scorer: Asks.
        samples: In any number, with one clip each: the engine makes batches.
        clips: Name in the samples -> clip.
        greedy: See `ask_samples`.

    Raises:
        ValueError: If a prompt is longer than the engine takes.
    """
    policy, processor = scorer.policy, scorer.processor
    sampling, count = scorer.sampling, max(1, scorer.samples)
    if greedy or not scorer.samples:
        sampling, count = replace(sampling, temperature=0.0), 1
    features = {name: encode_clips(policy, [clips[name]])[0] for name in {s.clips[0]: None for s in samples}}
    prompts, seeds = [], []
    for sample in samples:
        clip, messages = clips[sample.clips[0]], find_task(sample.task).messages(sample, processor)
        prompt = processor.render(messages, [len(clip.frames)])
        prompts.append(policy.prompt_embeds(prompt, [features[sample.clips[0]]]))
        seeds.append(_seed(scorer.seed, clip, messages))
    if not prompts:
        return []
    engine = scorer.answering_engine()
    _check_lengths(engine, samples, prompts, sampling)
    drawn = engine.generate(prompts, count, sampling, seeds)
    decode = processor.tokenizer.batch_decode
    texts = [tuple(decode([one.token_ids for one in group], skip_special_tokens=True)) for group in drawn]
    return [answer_of(sample, own) for sample, own in zip(samples, texts, strict=True)]


def answer_of(sample: Sample, texts: Sequence[str]) -> QualityAnswer:
    """What K >= 1 whole answers say together: what most of those say that say something; of equally many the first.

    Args:
        sample: What was asked.
        texts: The answers.
    """
    options = tuple(sample.target.get("options", ()))
    said = [_said(text, options) for text in texts]
    counts = Counter(key for key, _, _ in said if key is not None)
    asked = QualityAnswer(sample.clips[0], sample.question, "", said[0][2], options, answers=tuple(texts))
    if not counts:
        return asked
    [(key, count)] = counts.most_common(1)
    answer = next(text for own, text, _ in said if own == key)
    agreement = count / len(texts) if len(texts) > 1 else math.nan
    return replace(asked, answer=answer, status="ok", index=key if isinstance(key, int) else None, agreement=agreement)


def _said(text: str, options: Sequence[str]) -> tuple[int | str | None, str, str]:
    """What an answer says: what makes it equal to others (`None` if it says nothing), as text, and its status."""
    if options:
        found = parse_choice(text, options)
        return found.index, "" if found.index is None else options[found.index], found.status
    block = answer_block(text, "last")
    content = "" if block is None else text[slice(*block)].strip()
    return (_folded(content), content, "ok") if content else (None, "", "no_answer")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _chunks(samples: Sequence[Sample], clips: int) -> Iterator[list[Sample]]:
    """Neighbouring samples about so many clips, but never more than `QUESTIONS` (or one per clip)."""
    chunk: list[Sample] = []
    names: set[str] = set()
    for sample in samples:
        name = sample.clips[0]
        if chunk and (len(chunk) == max(QUESTIONS, clips) or len(names | {name}) > clips):
            yield chunk
            chunk, names = [], set()
        chunk.append(sample)
        names.add(name)
    if chunk:
        yield chunk


def _seed(seed: int, clip: ClipInput, messages: Messages) -> int:
    """Of a question's samples: follows from the clip's frames and the prompt's texts, not from the path."""
    texts = [text_in(messages, role) for role in ("system", "user")]
    return zlib.crc32(json.dumps(texts).encode(), zlib.crc32(clip.frames.numpy().data, seed))


def _check(sample: Sample) -> None:
    where = f"sample {sample.id or sample.question!r:.120}"
    if len(sample.clips) != 1:
        raise ValueError(
            f"{where} shows {counted(len(sample.clips), 'clip')} {sample.clips}: a question is about one clip."
        )
    if sample.task == "choice" and "options" not in sample.target:
        raise ValueError(f"{where} has the task 'choice' and no options: its target needs 2 to 26 'options'.")
    if "options" in sample.target:
        choice.check_options(sample.target["options"])


def _check_lengths(
    engine: RolloutEngine, samples: Sequence[Sample], prompts: Sequence[torch.Tensor], sampling: Sampling
) -> None:
    """Raise for a prompt that does not fit into what the engine has reserved, which vLLM does for its life."""
    reserved = getattr(engine, "max_model_length", math.inf)
    sample, prompt = max(zip(samples, prompts, strict=True), key=lambda pair: len(pair[1]))
    if len(prompt) + sampling.max_new_tokens > reserved:
        raise ValueError(
            f"question {sample.question!r:.80}: its prompt of {len(prompt)} tokens and an answer of up to "
            f"{sampling.max_new_tokens} must fit into the {reserved} tokens that vLLM reserved. Shorten question and "
            "options, lower max_new_tokens, or use engine='transformers', which reserves nothing."
        )


def _unreadable(sample: Sample, reason: str) -> QualityAnswer:
    options = tuple(sample.target.get("options", ()))
    return QualityAnswer(sample.clips[0], sample.question, "", "unreadable", options, error=reason)
