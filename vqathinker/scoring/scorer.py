"""`QualityScorer`: what is the quality of my video, and what is wrong with it?"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from vqathinker.data import ClipLoader, Sample
from vqathinker.data.sample import named_clips
from vqathinker.data.stalls import COLUMN, parse_stalls
from vqathinker.messages import Messages, text_in
from vqathinker.policy import ClipInput, VQAThinkerForConditionalGeneration, VQAThinkerProcessor, load_policy
from vqathinker.rewards import LEVEL_WORDS, parse_level
from vqathinker.rollout import ENGINES, RolloutEngine, Sampling, make_engine
from vqathinker.scoring.asking import QualityAnswer, ask_clips, ask_samples, longest_prompt, question_sample
from vqathinker.scoring.calibration import ScoreCalibration, calibration_for, find_score_calibration
from vqathinker.scoring.comparing import QualityComparison, compare_clips, compare_pairs
from vqathinker.scoring.predict import PAPER_SAMPLING, Prediction, embed_prompts, mean_score
from vqathinker.scoring.readouts import (
    LEVEL_ASKED,
    LEVEL_WEIGHTINGS,
    READOUTS,
    check_head,
    check_levels,
    expected_score,
    generates,
    head_score,
    level_score,
    reasoned_level_score,
)
from vqathinker.tasks import find_task

Video = str | Path | np.ndarray | torch.Tensor
"""A path, or frames (N, H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class QualityScore:
    """The policy's judgement of one clip.

    Attributes:
        video: Path; "" for frames in memory.
        score: In score units, 1-5, higher is better (down to 0 for a policy trained on MOS / 20; a score head's may lie
            beyond). NaN if no answer gives a number in 0-5, or the clip cannot be read. Never a guess.
        spread: How far apart the model's own answers lie, which is not how far the score is from the truth. A standard
            deviation, same units: over the sampled answers, or, of read-outs from probabilities, under these; NaN for
            one answer's text and for a score head.
        status: `"ok"`, or why there is no score: `"out_of_range"`, `"no_answer"`, `"no_number"` (of the first answer,
            see `rewards.ParsedAnswer`; of level words, see `rewards.ParsedLevel`), `"unreadable"`.
        answers: Whole texts; none for the read-outs `head` and, but for words behind a reasoning, `levels`.
        num_parsed: How many of them give a number, or a level word.
        frames: Key frames that the policy saw, as indices into the clip.
        error: Why the clip cannot be read, else "".
        notes: What was done to the file's frames before they were shown, see `vqathinker.clips.Clip`, and what the
            policy saw of them where that is a crop: "sees the central 64x64 of 480x270, 3 %".
        calibrated: The score on the user's own scale, where the scorer has a calibration; else, and without a score,
            NaN.
        low: End of the interval in which the clip's label lies, see `ScoreCalibration`.
        high: Its other end.
    """

    video: str
    score: float
    spread: float
    status: str
    answers: tuple[str, ...] = ()
    num_parsed: int = 0
    frames: tuple[int, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    calibrated: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def std(self) -> float:
        """`spread`, by its name of before."""
        return self.spread

    @property
    def parsed(self) -> bool:
        """Whether there is a score."""
        return not math.isnan(self.score)

    @property
    def reasoning(self) -> str:
        """Text of the first answer's `<think>` block, "" without one."""
        return self.answers[0].partition("<think>")[2].partition("</think>")[0].strip() if self.answers else ""


class QualityScorer:
    """Scores clips with a trained policy, and asks it about them. What it says of a clip does not depend on what else
    is scored or asked, nor on the order: clips are encoded one by one, batches always have one shape, and samples are
    seeded by the clip's frames (and the question).

    (With vLLM the samples are seeded so too, but its arithmetic follows its schedule, in the last bits.)

    Args:
        policy: The policy.
        processor: Its processor.
        readout: `"answer"`, `"expected"`, `"levels"` or `"head"`, see `vqathinker.scoring.readouts`.
        samples: Answers K to sample, whose mean counts (of questions: what most of them say); 0 = one greedy answer.
        max_new_tokens: Longest answer; default what the policy was trained for, else 2048.
        sampling: How samples are drawn.
        batch_size: Clips at a time; default 8, with vLLM 64.
        engine: `"transformers"` or `"vllm"`.
        seed: Of the samples.
        decode_threads: Clips decoded at a time.
        vllm_memory: Share of the device's memory (on a CPU: of the machine's) that vLLM may take.
        clips_per_prompt: How many clips a prompt shows at most, for which vLLM reserves memory: 2 to compare.
        level_words: Of the read-out "levels": a name of `rewards.LEVEL_WORDS`.
        level_asked: What it asks first, see `vqathinker.scoring.readouts.LEVEL_ASKED`: "score"; "level" for a policy
            that was trained on the task "level" without reasoning; "reasoning" for one that reasons before the word.
        level_weights: What its words are worth: a name of `vqathinker.scoring.readouts.LEVEL_WEIGHTINGS`.
        events_tokens: Tokens that `events` may take in a prompt, for which vLLM reserves memory too.

    Raises:
        ValueError: On an unknown name or a number out of range, or for the read-out "head" of a policy without one.

    Example:
        >>> scorer = QualityScorer.from_pretrained("runs/demo/grpo")  # doctest: +SKIP
        >>> scorer.score("clip.mp4").score  # doctest: +SKIP
        3.42
    """

    def __init__(
        self,
        policy: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        readout: str = "answer",
        samples: int = 0,
        max_new_tokens: int | None = None,
        sampling: Sampling = PAPER_SAMPLING,
        batch_size: int | None = None,
        engine: str = "transformers",
        seed: int = 0,
        decode_threads: int = 2,
        vllm_memory: float = 0.5,
        clips_per_prompt: int = 1,
        level_words: str = "itu",
        level_asked: str = "score",
        level_weights: str = "quarters",
        events_tokens: int = 0,
    ) -> None:
        if readout not in READOUTS or engine not in ENGINES:
            raise ValueError(
                f"{readout=}, {engine=}: readout must be one of {READOUTS}, engine one of {list(ENGINES)}."
            )
        batch_size = {"vllm": 64}.get(engine, 8) if batch_size is None else batch_size
        if min(samples, seed, events_tokens) < 0 or min(batch_size, decode_threads, clips_per_prompt) < 1:
            given = f"{samples=}, {seed=}, {events_tokens=}, {batch_size=}, {decode_threads=}, {clips_per_prompt=}"
            raise ValueError(f"{given}: must be at least 0, 0, 0, 1, 1 and 1.")
        if not generates(readout, level_asked) and (samples or engine != "transformers"):
            raise ValueError(f"{samples=}, {engine=} with {readout=}, which generates nothing: leave both out.")
        if readout == "head":
            check_head(policy)
        check_levels(readout, level_words, level_asked, level_weights)
        self.level_words, self.level_asked, self.level_weights = level_words, level_asked, level_weights
        self.policy, self.processor = policy.eval(), processor
        self.readout, self.samples, self.batch_size, self.seed = readout, samples, batch_size, seed
        self.decode_threads, self.clips_per_prompt = decode_threads, clips_per_prompt
        self.events_tokens = events_tokens
        longest = policy.generation_config.max_new_tokens or sampling.max_new_tokens
        longest = longest if max_new_tokens is None else max_new_tokens
        temperature = sampling.temperature if samples else 0.0
        self.sampling = replace(sampling, max_new_tokens=longest, temperature=temperature)
        self.engine_name = engine
        self.engine: RolloutEngine | None = None
        if generates(readout, level_asked):
            self.engine = self._make_engine(vllm_memory)
        self._asked: RolloutEngine | None = None
        self.calibration: ScoreCalibration | None = None

    def _make_engine(self, vllm_memory: float = 0.5) -> RolloutEngine:
        sequences = self.batch_size * max(1, self.samples)
        longest = self.sampling.max_new_tokens
        prompt = longest_prompt(self.processor, self.clips_per_prompt) + self.events_tokens
        return make_engine(self.policy, self.processor, self.engine_name, sequences, longest, vllm_memory, prompt)

    def answering_engine(self) -> RolloutEngine:
        """What generates answers. With a read-out that needs none it is made for the first question."""
        if self.engine is not None:
            return self.engine
        self._asked = self._asked or self._make_engine()
        return self._asked

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        num_frames: int | None = None,
        image_size: int | None = None,
        frame_sampling: str | None = None,
        view: str | None = None,
        question: str | None = None,
        calibration: str | Path | None = None,
        **settings: Any,
    ) -> QualityScorer:
        """Load a checkpoint folder or hub id.

        Args:
            path: With policy and processor.
            device: Default this process's accelerator where there is one, else CPU.
            num_frames: Key frames per clip; default the checkpoint's (paper: 6 in training, 12 in inference).
            image_size: Side of the key frames in pixels; default the checkpoint's (paper: 448 and 560).
            frame_sampling: Key frames evenly spaced by `"number"` or by `"time"`; default the checkpoint's.
            view: `"resize"`, whole frames, or `"center_crop"`, their central pixels; default the checkpoint's.
            question: What is asked for a score; default the checkpoint's.
            calibration: Name of a calibration beside the checkpoint, made by `vqathinker calibrate`, or its .json file.
            settings: Further arguments of the class.

        Raises:
            FileNotFoundError: If there is no such folder or calibration.
            ValueError: On an unknown name or a number out of range, or if the calibration is of other settings.
        """
        asked = settings.get("level_asked", "score")
        if question is not None and asked != "score":
            raise ValueError(
                f"question={question!r} with level_asked={asked!r}, which asks for the level in words of its own: "
                "leave one of them out."
            )
        known = None if calibration is None else find_score_calibration(calibration, path)  # before what takes long
        device = torch_device(device or process_state().device)
        policy, processor = load_policy(path, str(device), num_frames, image_size, frame_sampling, view, question)
        scorer = cls(policy, processor, **settings)
        scorer.calibration = None if known is None else calibration_for(scorer, known)
        return scorer

    def load(self, video: Video) -> ClipInput:
        """A clip as the policy sees it.

        Args:
            video: A path, or frames (N, H, W, 3) uint8 RGB as array or tensor.

        Raises:
            ClipError: If a file cannot be read.
            ValueError: If an array is anything else.
        """
        if isinstance(video, str | Path):
            return self.processor.load_clip(video)
        return self.processor.from_array(video)

    def score(self, video: Video, events: Any = None) -> QualityScore:
        """Judge one clip.

        Args:
            video: A path, or frames (N, H, W, 3) uint8 RGB as array or tensor.
            events: When its playback stood still, which the prompt then tells: `vqathinker.data.Stalls`, or its list or
                object, e.g. `[[4.0, 2.0]]`, a stall at 4 s for 2 s. `[]` says that there was none, `None` nothing.

        Raises:
            ClipError: If a file cannot be read.
            ValueError: If an array is anything else; if the events are none, end after the clip, or the read-out is a
                visual score head's, which reads no text.
        """
        question = self._question(name_of(video), events)
        return replace(self.score_clips([self.load(video)], [question])[0], video=name_of(video))

    def score_many(
        self, videos: Sequence[str | Path], events: Mapping[str, Any] | None = None
    ) -> Iterator[list[QualityScore]]:
        """Judge files, batch by batch and in order; the next batch is decoded meanwhile.

        Args:
            videos: Paths. An unreadable one gets status `"unreadable"` and `error`.
            events: Path -> when its playback stood still, as in `score`; of others the prompt tells nothing.

        Raises:
            TypeError: If it is a single path.
            ValueError: As `score`, of events.
        """
        if isinstance(videos, str | Path):
            raise TypeError(f"videos={str(videos)!r} is one path: use `score`, or give a list.")
        names = [str(video) for video in videos]
        told = {str(video): stalls for video, stalls in (events or {}).items()}
        loader: ClipLoader[ClipInput] = ClipLoader(self.processor.load_clip, self.decode_threads)
        for chunk, clips in loader.batches(names, self.batch_size):
            asked = [self._question(name, told.get(name)) for name in clips]
            known = dict(zip(clips, self.score_clips(list(clips.values()), asked), strict=True))
            yield [
                replace(known[name], video=name) if name in known else unreadable(name, loader.skipped[name])
                for name in chunk
            ]

    def ask(self, video: Video | Sequence[Video], question: str, options: Sequence[str] | None = None) -> QualityAnswer:
        """Ask any question about a clip, or about several: "the first video", "the second video". With `samples`, the
        answer that most of the samples give counts.

        Args:
            video: As in `score`; a list or tuple shows its clips in this order.
            question: What is asked, without the options.
            options: 2 to 26 texts to choose from, e.g. `["Yes", "No"]`; `None` for an answer in the policy's own words.

        Raises:
            ClipError: If a file cannot be read.
            ValueError: If the question is empty, the options are no such list, the array is no clip, or the prompt is
                longer than vLLM has reserved memory for.
        """
        # Another sequence is refused as a clip.
        videos: list[Video] = list(video) if isinstance(video, list | tuple) else [video]  # type: ignore[list-item]
        sample = question_sample([str(place) for place in range(len(videos))], question, options)
        clips = {str(place): self.load(one) for place, one in enumerate(videos)}
        return replace(ask_clips(self, [sample], clips)[0], video=named_clips(list(map(name_of, videos))))

    def ask_many(self, samples: Sequence[Sample]) -> Iterator[list[QualityAnswer]]:
        """Ask about files, batch by batch and in order; the next batch is decoded meanwhile.

        Each clip is decoded and encoded once for all neighbouring samples about it. A sample's right answer is not
        needed, and is shown to nobody.

        Args:
            samples: About one clip or several: of the task "choice" with `options`, of others answered in the policy's
                own words (`read_questions`). One with a clip that is unreadable gets status `"unreadable"` and `error`.

        Raises:
            ValueError: As `ask`.
        """
        return ask_samples(self, samples)

    def compare(self, first: Video, second: Video) -> QualityComparison:
        """Which of two clips is better? Both orders are shown, and one greedy answer each counts, whatever the samples.

        Args:
            first: As in `score`.
            second: Likewise.

        Raises:
            ClipError: If a file cannot be read.
            ValueError: If an array is no clip, or the prompt is longer than vLLM has reserved memory for.
        """
        clips = {"first": self.load(first), "second": self.load(second)}
        [found] = compare_clips(self, [("first", "second")], clips)
        return replace(found, first=name_of(first), second=name_of(second))

    def compare_many(self, pairs: Sequence[tuple[str | Path, str | Path]]) -> Iterator[list[QualityComparison]]:
        """Compare pairs of files, batch by batch and in order; the next batch is decoded meanwhile.

        Args:
            pairs: Paths. A pair with an unreadable clip gets status `"unreadable"` and `error`.

        Raises:
            ValueError: As `compare`.
        """
        return compare_pairs(self, [(str(first), str(second)) for first, second in pairs])

    @property
    def reads_text(self) -> bool:
        """Whether what a prompt says counts: a visual score head reads frames only."""
        return not (self.readout == "head" and self.policy.config.score_head == "visual")

    def _question(self, video: str, events: Any) -> Messages | None:
        """The prompt of a clip of which events are known; `None` for the processor's own."""
        stalls = parse_stalls(events)
        if stalls is None:
            return None
        if self.calibration is not None and not self.calibration.stalls:
            raise ValueError(
                f"events={events!r:.80} with a calibration whose labels told of no stalls: leave the events out, or "
                "calibrate with labels that have the column 'stalls'."
            )
        if not self.reads_text:
            raise ValueError(
                f"events={events!r:.80} with a visual score head, which reads no text: use another read-out, or leave "
                "the events out."
            )
        task = "score" if self.level_asked == "score" else "level"
        sample = Sample("", task, (video,), target={COLUMN: stalls.to_json(), "words": self.level_words})
        return find_task(sample.task).messages(sample, self.processor)

    @torch.no_grad()
    def score_clips(
        self, clips: Sequence[ClipInput], questions: Sequence[Messages | None] | None = None
    ) -> list[QualityScore]:
        """Judge decoded clips, in order; their `video` is "". Any number of them: the engine makes batches.

        Args:
            clips: C clips.
            questions: A conversational prompt for each; `None` for the processor's question.
        """
        asked = [None] * len(clips) if questions is None else list(questions)
        asked = [question or self.level_question() for question in asked]
        found = self._judged(clips, asked)
        return found if self.calibration is None else [self.calibration.applied(result) for result in found]

    def _judged(self, clips: Sequence[ClipInput], asked: Sequence[Messages | None]) -> list[QualityScore]:
        if self.engine is None:
            moments = [self._moments(clip, question) for clip, question in zip(clips, asked, strict=True)]
            return [
                QualityScore("", score, std, "ok", frames=tuple(clip.indices.tolist()), notes=clip.notes)
                for clip, (score, std) in zip(clips, moments, strict=True)
            ]
        prompts = [self._prompt(clip, question) for clip, question in zip(clips, asked, strict=True)]
        seeds = [self._seed(clip, question) for clip, question in zip(clips, asked, strict=True)]
        drawn = self.engine.generate(prompts, max(1, self.samples), self.sampling, seeds)
        return [
            self._result(clip, prompt, [completion.token_ids for completion in group])
            for clip, prompt, group in zip(clips, prompts, drawn, strict=True)
        ]

    def _prompt(self, clip: ClipInput, question: Messages | None) -> torch.Tensor:
        return embed_prompts(self.policy, self.processor, [clip], None if question is None else [question])[0]

    def _seed(self, clip: ClipInput, question: Messages | None) -> int:
        seed = zlib.crc32(clip.frames.numpy().data, self.seed)
        return seed if question is None else zlib.crc32(text_in(question).encode(), seed)

    def _moments(self, clip: ClipInput, question: Messages | None) -> tuple[float, float]:
        """Score and spread of a read-out without answers."""
        if self.readout == "head":
            return head_score(self.policy, self.processor, clip, question), math.nan
        prompt = self._prompt(clip, question)
        words, stem = LEVEL_WORDS[self.level_words], LEVEL_ASKED[self.level_asked]
        weights = LEVEL_WEIGHTINGS[self.level_weights]
        return level_score(self.policy, self.processor.tokenizer, prompt, words, stem, weights)

    def level_question(self) -> Messages | None:
        """What the read-out "levels" asks about a clip; `None` for the processor's question for a score, and of other
        read-outs."""
        if self.level_asked == "score":
            return None
        sample = Sample("", "level", ("",), target={"words": self.level_words})
        return find_task("level").messages(sample, self.processor)

    def _result(self, clip: ClipInput, prompt: torch.Tensor, answers: Sequence[list[int]]) -> QualityScore:
        texts = tuple(self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True))
        prediction = Prediction("", texts, greedy=not self.samples)
        first = prediction.parsed[0].status
        values, spread = prediction.scores, math.nan
        if self.readout == "expected":  # of answers that say something: a failure stays one
            moments = [
                (value, math.nan)
                if math.isnan(value)
                else expected_score(self.policy, self.processor.tokenizer, prompt, ids)
                for value, ids in zip(values, answers, strict=True)
            ]
            values, spread = [mean for mean, _ in moments], moments[0][1]
        elif self.readout == "levels":
            words, weights = LEVEL_WORDS[self.level_words], LEVEL_WEIGHTINGS[self.level_weights]
            first = parse_level(texts[0], words).status
            reading = self.policy, self.processor.tokenizer, prompt
            moments = [reasoned_level_score(*reading, ids, words, weights) for ids in answers]
            values, spread = [mean for mean, _ in moments], moments[0][1]
        known = [value for value in values if not math.isnan(value)]
        if len(values) > 1:
            spread = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
        without = "no_level" if self.readout == "levels" else "no_number"
        status = "ok" if known else without if first == "ok" else first
        frames = tuple(clip.indices.tolist())
        return QualityScore("", mean_score(values), spread, status, texts, len(known), frames, notes=clip.notes)


def name_of(video: Video) -> str:
    """A path as text; "" for frames in memory."""
    return str(video) if isinstance(video, str | Path) else ""


def torch_device(name: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        ValueError: If it is not.
    """
    try:
        return torch.empty(0, device=name).clone().device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {str(name)!r} cannot be used ({reason}): give 'cpu', 'cuda', 'cuda:1' ...") from None


def process_state() -> PartialState:
    """This process among those of the launch; on machines without an accelerator they talk by gloo."""
    return PartialState(cpu=not torch.accelerator.is_available())


def unreadable(video: str, reason: str) -> QualityScore:
    """The result for a clip that cannot be read."""
    return QualityScore(video, math.nan, math.nan, "unreadable", error=reason)
