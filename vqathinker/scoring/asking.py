"""Any question about a clip, or about two: with options to choose from, or answered in the policy's own words."""

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
from vqathinker.data.sample import named_clips
from vqathinker.messages import Messages, text_in, user_prompt
from vqathinker.policy import ClipInput, VQAThinkerProcessor
from vqathinker.policy.prompts import instructed
from vqathinker.rewards import choice
from vqathinker.rewards.choice import letter, parse_choice
from vqathinker.rewards.parsing import answer_block
from vqathinker.scoring.predict import encode_clips, reason_unreadable
from vqathinker.tasks import find_task

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScorer

QUESTIONS = 64
"""Questions at a time at most, unless more clips are: their prompts are held as embeddings."""


@dataclass(frozen=True)
class QualityAnswer:
    """The policy's answer to one question about one clip, or about several.

    Attributes:
        video: Path; "" for frames in memory. Of several clips "a.mp4 + b.mp4".
        question: As asked, without the options.
        answer: Text of the chosen option; without options, what stands in the last `<answer>` block. "" if there is
            none. Never a guess.
        status: `"ok"`, or why there is no answer: those of `rewards.ParsedChoice` (of the first answer), or
            `"unreadable"`. Without options `"no_answer"` is an empty block too.
        options: What there was to choose from; none for an answer in the policy's own words.
        index: Of the chosen option, from 0; `None` if there is none.
        agreement: Share of the sampled answers that say the same, in [0, 1]; NaN for one answer.
        answers: Whole texts.
        error: Why the clip (of several the first such, with its name) cannot be read, else "".
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
    def whole(self) -> str:
        """The first of the whole texts that says what `answer` says, else the first; "" without any."""
        said = [_said(text, self.options)[0] for text in self.answers]
        mine = self.index if self.options else _folded(self.answer)
        return self.answers[said.index(mine)] if mine in said else "".join(self.answers[:1])

    @property
    def reasoning(self) -> str:
        """`<think>` block of `whole`, "" without one."""
        return self.whole.partition("<think>")[2].partition("</think>")[0].strip()


def question_sample(video: str | Sequence[str], question: str, options: Sequence[str] | None = None) -> Sample:
    """A question as the tasks ask it.

    Args:
        video: Path, or those of the clips that are shown, in order; "" for frames in memory.
        question: What is asked, without the options.
        options: 2 to 26 texts; `None` for an answer in the policy's own words.

    Raises:
        ValueError: If the question is empty, or the options are no such list.
    """
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question {question!r:.80} must be a non-empty string: write the question.")
    clips = (video,) if isinstance(video, str) else tuple(video)
    if options is None:  # any question that is asked as it stands; the number that "score" reads is not taken from it
        return Sample("", "score", clips, question.strip())
    return Sample("", "choice", clips, question.strip(), {"options": check_options(options)})


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
        samples: Of any tasks, about any number of clips each.
        greedy: One greedy answer each, whatever the scorer's samples.
        read: From a path to a clip; default the processor's.

    Raises:
        ValueError: If a sample of the task "choice" has not 2 to 26 options, or a prompt is longer than the engine
            takes, which is told before anything is decoded.
        TypeError: If its options are no list of texts.
    """
    for sample in samples:
        _check(sample)
    check_lengths(scorer, samples)
    for chunk, clips, skipped in loaded_chunks(scorer, samples, read):
        readable = [clips.keys() >= {*sample.clips} for sample in chunk]
        shown = [sample for sample, known in zip(chunk, readable, strict=True) if known]
        answers = iter(ask_clips(scorer, shown, clips, greedy))
        yield [
            next(answers) if known else _unreadable(sample, skipped)
            for sample, known in zip(chunk, readable, strict=True)
        ]


def loaded_chunks(
    scorer: QualityScorer, samples: Sequence[Sample], read: Callable[[str], ClipInput] | None = None
) -> Iterator[tuple[list[Sample], dict[str, ClipInput], Mapping[str, str]]]:
    """Neighbouring samples about at most `scorer.batch_size` clips, these clips by name, and why others were skipped.

    Each clip of a chunk is decoded once, while the chunk before it is in use. Arguments as `ask_samples`.
    """
    loader: ClipLoader[ClipInput] = ClipLoader(read or scorer.processor.load_clip, scorer.decode_threads)
    chunks = list(_chunks(samples, scorer.batch_size))
    for number, chunk in enumerate(chunks):
        for ahead in chunks[number : number + 2]:
            loader.prefetch(name for sample in ahead for name in sample.clips)
        names = dict.fromkeys(name for sample in chunk for name in sample.clips)
        yield chunk, {name: clip for name in names if (clip := loader.get(name)) is not None}, loader.skipped


@torch.no_grad()
def ask_clips(
    scorer: QualityScorer, samples: Sequence[Sample], clips: Mapping[str, ClipInput], greedy: bool = False
) -> list[QualityAnswer]:
    """Ask about decoded clips. An answer depends on clip, question and settings, not on what else is asked.

    Args:
        scorer: Asks.
        samples: In any number, about any number of clips each: the engine makes batches.
        clips: Name in the samples -> clip.
        greedy: See `ask_samples`.

    Raises:
        ValueError: If a prompt is longer than the engine takes.
    """
    sampling, count = scorer.sampling, max(1, scorer.samples)
    if greedy or not scorer.samples:
        sampling, count = replace(sampling, temperature=0.0), 1
    prompts, seeds = ask_prompts(scorer, samples, clips)
    if not prompts:
        return []
    drawn = scorer.answering_engine().generate(prompts, count, sampling, seeds)
    decode = scorer.processor.tokenizer.batch_decode
    texts = [tuple(decode([one.token_ids for one in group], skip_special_tokens=True)) for group in drawn]
    return [answer_of(sample, own) for sample, own in zip(samples, texts, strict=True)]


@torch.no_grad()
def ask_prompts(
    scorer: QualityScorer, samples: Sequence[Sample], clips: Mapping[str, ClipInput]
) -> tuple[list[torch.Tensor], list[int]]:
    """Embedded prompts (L_i, D) of samples about decoded clips, each of which is encoded once, and their seeds.

    Raises:
        ValueError: If a prompt and its answer are longer than the engine takes.
    """
    policy, processor = scorer.policy, scorer.processor
    check_lengths(scorer, samples, clips)
    shown = dict.fromkeys(name for sample in samples for name in sample.clips)
    features = {name: encode_clips(policy, [clips[name]])[0] for name in shown}
    prompts, seeds = [], []
    for sample in samples:
        own, messages = [clips[name] for name in sample.clips], _messages(sample, processor)
        prompt = processor.render(messages, [clip.length for clip in own])
        prompts.append(policy.prompt_embeds(prompt, [features[name] for name in sample.clips]))
        seeds.append(_seed(scorer.seed, own, messages))
    return prompts, seeds


def _messages(sample: Sample, processor: VQAThinkerProcessor) -> Messages:
    """A sample's prompt, as its task asks it; a question in the policy's own words may be about several clips."""
    if sample.task == "score" and sample.question:
        asked = find_task(sample.task).asked(sample)
        return user_prompt(sample.clips, instructed(asked, processor.prompt_style), sample.system)
    return find_task(sample.task).messages(sample, processor)


def answer_of(sample: Sample, texts: Sequence[str]) -> QualityAnswer:
    """What K >= 1 whole answers say together: what most of those say that say something; of equally many the first.

    Args:
        sample: What was asked.
        texts: The answers.
    """
    options = tuple(sample.target.get("options", ()))
    said = [_said(text, options) for text in texts]
    counts = Counter(key for key, _, _ in said if key is not None)
    asked = QualityAnswer(named_clips(sample.clips), sample.question, "", said[0][2], options, answers=tuple(texts))
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
        if chunk and (len(chunk) == max(QUESTIONS, clips) or len(names.union(sample.clips)) > clips):
            yield chunk
            chunk, names = [], set()
        chunk.append(sample)
        names.update(sample.clips)
    if chunk:
        yield chunk


def _seed(seed: int, clips: Sequence[ClipInput], messages: Messages) -> int:
    """Of a question's samples: follows from the clips' frames and the prompt's texts, not from the paths."""
    texts = [text_in(messages, role) for role in ("system", "user")]
    for clip in clips:
        seed = zlib.crc32(clip.frames.numpy().data, seed)
    return zlib.crc32(json.dumps(texts).encode(), seed)


def _check(sample: Sample) -> None:
    where = f"sample {sample.id or sample.question!r:.120}"
    if sample.task == "choice" and "options" not in sample.target:
        raise ValueError(f"{where} has the task 'choice' and no options: its target needs 2 to 26 'options'.")
    if "options" in sample.target:
        choice.check_options(sample.target["options"])


def longest_prompt(processor: VQAThinkerProcessor, clips: int) -> int:
    """Tokens of a prompt that shows so many clips: the processor's question, or of several clips a comparison."""
    if clips == 1:
        return len(processor.prompt_ids())
    asked = find_task("compare").messages(Sample("", "compare", ("", "")), processor)
    return len(processor.render(user_prompt(("",) * clips, text_in(asked))).ids)


def check_lengths(
    scorer: QualityScorer, samples: Sequence[Sample], clips: Mapping[str, ClipInput] | None = None
) -> None:
    """Raise for a prompt that does not fit into what the engine has reserved, which vLLM does for its life.

    Args:
        scorer: Asks.
        samples: About any number of clips each.
        clips: Name in the samples -> clip; without them, each counts as the longest one.

    Raises:
        ValueError: If the longest prompt and its answer do not fit.
    """
    reserved = getattr(scorer.engine, "max_model_length", math.inf)
    if not samples or reserved == math.inf:
        return
    lengths = []
    for sample in samples:
        frames = None if clips is None else [clips[name].length for name in sample.clips]
        lengths.append(len(scorer.processor.render(_messages(sample, scorer.processor), frames).ids))
    longest, answer = max(lengths), scorer.sampling.max_new_tokens
    if longest + answer > reserved:
        sample = samples[lengths.index(longest)]
        several = len(sample.clips) > scorer.clips_per_prompt
        fix = (
            f"Make the scorer with clips_per_prompt={len(sample.clips)}" if several else "Shorten question and options"
        )
        raise ValueError(
            f"{_named(sample)}: its prompt of {longest} tokens and an answer of up to {answer} must fit into the "
            f"{reserved} tokens that vLLM reserved. {fix}, lower max_new_tokens, or use engine='transformers', which "
            "reserves nothing."
        )


def _named(sample: Sample) -> str:
    """A question as messages name it: by its text, and where it is about several clips by these."""
    asked = f"question {sample.question!r:.80}" if sample.question else f"task {sample.task!r}"
    return asked if len(sample.clips) == 1 else f"{asked} about {named_clips(sample.clips)!r:.200}"


def _unreadable(sample: Sample, skipped: Mapping[str, str]) -> QualityAnswer:
    options, error = tuple(sample.target.get("options", ())), reason_unreadable(sample.clips, skipped)
    return QualityAnswer(named_clips(sample.clips), sample.question, "", "unreadable", options, error=error)
