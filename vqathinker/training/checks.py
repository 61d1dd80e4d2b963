"""What a trainer is given, checked before anything is spent on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import PreTrainedModel

from vqathinker.messages import is_prompt, text_in, videos_in
from vqathinker.policy import VQAThinkerProcessor
from vqathinker.policy.packed_attention import NAME
from vqathinker.rewards import Rubric, preset
from vqathinker.rewards.contrast import check_rungs
from vqathinker.rewards.reward import missing_columns
from vqathinker.tasks import task_of
from vqathinker.training.groups import GROUP_COLUMNS, group_of
from vqathinker.training.rungs import Rungs
from vqathinker.wording import counted

if TYPE_CHECKING:
    from vqathinker.training.config import VQAGRPOConfig

logger = logging.getLogger(__name__)


def weighted_rubric(rubric: Rubric | str | Sequence[Callable[..., Any]], weights: Sequence[float] | None) -> Rubric:
    """A rubric with the configuration's weights; a ready one has its own, which they must not contradict."""
    ready = isinstance(rubric, Rubric)
    if not isinstance(rubric, Rubric):
        rubric = preset(rubric) if isinstance(rubric, str) else Rubric(list(rubric))
    if weights is None:
        return rubric
    weighted = rubric.weighted(weights)
    if ready and weighted.weights != rubric.weights:
        own = dict(zip(rubric.names, rubric.weights, strict=True))
        raise ValueError(
            f"reward_weights={list(weights)}, but the rubric's weights are {own}: a Rubric comes with its own. Leave "
            "reward_weights out, or pass rubric.weighted(reward_weights)."
        )
    return weighted


def check_columns(rubric: Rubric, dataset: Dataset) -> None:
    """Raise `ValueError` if a reward cannot be called without a column that the data set does not have."""
    for reward in rubric.rewards:
        if missing := missing_columns(reward, dataset.column_names):
            raise ValueError(
                f"reward {reward.__name__!r} needs {missing}, but the data set has the columns {dataset.column_names}: "
                "add them to the label file, or give the reward defaults."
            )


def check_rows(dataset: Dataset, processor: VQAThinkerProcessor) -> int:
    """Raise `ValueError` if a data set cannot be trained on as it stands.

    Every prompt must be conversational and show as many clips as its task says, and a group's name must stand for one
    prompt with one label, as the answers of a batch are grouped by it.

    Args:
        dataset: A `datasets.Dataset`, see `vqathinker.data.clip_dataset`.
        processor: The policy's.

    Returns:
        Tokens of the longest prompt.
    """
    columns = getattr(dataset, "column_names", None) or ()
    if not isinstance(dataset, Dataset) or "prompt" not in columns or not set(GROUP_COLUMNS) & set(columns):
        raise ValueError(
            f"a {type(dataset).__name__} with columns {list(columns)}: a data set must be a datasets.Dataset with "
            "prompt and video_id or sample_id, see vqathinker.data.clip_dataset."
        )
    known: dict[str, dict[str, Any]] = {}
    longest = 0
    for row in dataset:
        videos = _videos_of(row)
        longest = max(longest, len(processor.render(row["prompt"]).ids))
        own = {**row, "video": videos[0] if len(videos) == 1 else videos, "prompt": text_in(row["prompt"])}
        name = group_of(row)
        if (first := known.setdefault(name, own)) != own:
            raise ValueError(
                f"video_id {name!r} names {_told(first, own)} and {_told(own, first)}: answers are grouped by video_id "
                "(or sample_id), which must name one clip with one question and one label. Rename one, e.g. put the "
                "name of its set in front, or drop a row."
            )
    return longest


def _videos_of(row: Mapping[str, Any]) -> list[str]:
    """The clips of a row's prompt."""
    prompt = row["prompt"]
    if not is_prompt(prompt):
        raise ValueError(
            f"the prompt {str(prompt)[:120]!r} is not a conversation, so it is unknown which clip it shows: use "
            'vqathinker.data.clip_dataset(rows, processor), or write [{"role": "user", "content": [{"type": '
            '"video", "video": path}, {"type": "text", "text": ...}]}].'
        )
    videos, task = videos_in(prompt), task_of(row)
    wanted = 1 if task.perturbs else task.num_clips  # a perturbed copy is one of a single clip
    if not videos or len(videos) != (wanted or len(videos)):
        blocks = {None: "at least one block", 1: "exactly one block"}.get(wanted, f"exactly {wanted} blocks")
        raise ValueError(
            f"the prompt {str(prompt)[:200]} shows {counted(len(videos), 'clip')}: it must have {blocks} "
            f'{{"type": "video", "video": path}}, as its task is {task.name!r}.'
        )
    if len(videos) == 1 and row.get("video", videos[0]) != videos[0]:
        raise ValueError(
            f"the row's video is {row['video']!r}, but its prompt shows {videos[0]!r}, which would be judged: make "
            "them equal, or leave the column video out."
        )
    return videos


def _told(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """A row's clip, its label, and in what else it differs from another row."""
    told = {"mos": "MOS", "answer": "answer"}
    known = [f"{name} {row[key]}" for key, name in told.items() if row.get(key) is not None]
    known += [f"{key} {row[key]!r:.60}" for key in row if key not in (*told, "video") and row[key] != other.get(key)]
    return f"{row['video']!r} with {' and '.join(known) or 'no label'}"


def evaluation_sets(datasets: Dataset | dict[str, Dataset] | str | None) -> list[Dataset]:
    """The data sets in `eval_dataset`: none, one, several by name; not the name of one."""
    if datasets is None or isinstance(datasets, str):
        return []
    return list(datasets.values()) if isinstance(datasets, dict) else [datasets]


def check_batch(rubric: Rubric, args: VQAGRPOConfig, dataset: Dataset) -> None:
    """Raise `ValueError` if a generation batch takes more clips than there are, or fewer than the rewards compare."""
    clips = args.generation_batch_size // args.num_generations
    if len(dataset) < clips:
        raise ValueError(
            f"the training set has {counted(len(dataset), 'row')}, one generation batch needs {clips} "
            f"(per_device_train_batch_size={args.per_device_train_batch_size} x "
            f"steps_per_generation={args.steps_per_generation} x {counted(args.world_size, 'process', 'processes')} / "
            f"num_generations={args.num_generations}): nothing would be trained. Lower one of the first three, or add "
            "clips."
        )
    if clips < 2 and any(getattr(reward, "compares_videos", False) for reward in rubric.rewards):
        raise ValueError(
            f"generation_batch_size={args.generation_batch_size} with num_generations={args.num_generations} is "
            f"{clips} clip per batch, but {rubric.names} compares clips: raise per_device_train_batch_size, "
            "gradient_accumulation_steps or the number of processes so that a batch holds at least 2."
        )


def check_ladders(rubric: Rubric, args: VQAGRPOConfig, dataset: Dataset) -> Rungs | None:
    """The data set's rungs, for rewards that compare them; `None` where no reward does, or there are none.

    Raises:
        ValueError: If a row has a ladder without a rank or the reverse, a reward that pays for nothing but ladders has
            none, a generation batch is too small for `ladder_rungs`, or no rung ever meets another to be compared with.
    """
    comparing = [reward for reward in rubric.rewards if getattr(reward, "compares_rungs", False)]
    if not comparing:
        return None
    least = max(getattr(reward, "min_difference", 0.0) for reward in comparing)
    there = set(dataset.column_names) if "ladder" in dataset.column_names else set()  # else a rank is somebody's own
    names, ranks = (
        list(dataset[column]) if column in there else [None] * len(dataset) for column in ("ladder", "rank")
    )
    check_rungs(names, ranks)
    ladders = {row: name for row, name in enumerate(names) if name is not None}
    if not ladders:
        only = [reward.__name__ for reward in comparing if not getattr(reward, "needs_perturbed", False)]
        if only:
            raise ValueError(
                f"the rewards {only} pay for rungs of ladders, but the data set has none (columns "
                f"{dataset.column_names}; needed are ladder and rank): add ladders, or leave the rewards out."
            )
        return None
    clips = args.generation_batch_size // args.num_generations
    if clips < args.ladder_rungs:
        raise ValueError(
            f"generation_batch_size={args.generation_batch_size} with num_generations={args.num_generations} is "
            f"{counted(clips, 'clip')} per batch, but ladder_rungs={args.ladder_rungs} are to meet in one: lower "
            "ladder_rungs, or raise per_device_train_batch_size, steps_per_generation or the number of processes."
        )
    known = {row: float(rank) for row, rank in enumerate(ranks) if rank is not None}
    rungs = Rungs(ladders, known, args.ladder_rungs, least)
    if len(rungs.alone(range(len(dataset)), len(dataset))) == len(ladders):
        raise ValueError(
            f"none of {counted(len(ladders), 'rung')} has another one in its ladder whose rank differs by at least "
            f"min_difference={least:g}: there is no order to pay for. Give ladders of at least two ranks, or lower it."
        )
    alone = len(rungs.alone(rungs.arrange(range(len(dataset)), clips), clips))
    if alone and args.process_index == 0:
        logger.warning(
            "%d of %s meet no other one of their ladder in a batch of %d clips and are not paid for their order, as "
            "their ladder has none whose rank differs by at least %g, or ladder_rungs=%d does not divide the batch.",
            *(alone, counted(len(ladders), "rung"), clips, least, args.ladder_rungs),
        )
    return rungs


def check_reference(model: PreTrainedModel | str, args: VQAGRPOConfig, adapter: bool = False) -> None:
    """Raise `ValueError` if the reference cannot be loaded from the policy's path, or nothing is with its arguments.

    Args:
        model: The policy, or its path.
        args: `VQAGRPOConfig`.
        adapter: Whether an adapter is trained, without which the policy is the reference.
    """
    loaded = args.beta and not adapter
    if loaded and not isinstance(model, str) and not model.config._name_or_path:
        raise ValueError(
            f"beta={args.beta} needs a reference model, which is loaded from the policy's path, but this policy "
            "was built in memory. Save it and pass from_pretrained(...) or its path, or set beta=0."
        )
    if args.model_init_kwargs and not (loaded or isinstance(model, str)):
        raise ValueError(
            f"model_init_kwargs={args.model_init_kwargs} with a loaded policy and beta=0 or an adapter, which need no "
            "reference: they would not be used. Pass the policy's path, or leave them out."
        )


def vllm_model_length(args: VQAGRPOConfig, prompt: int) -> int:
    """vLLM reserves memory by its model length: by default, what a prompt of `prompt` tokens and an answer need."""
    needed = prompt + args.max_completion_length
    if (args.vllm_max_model_length or needed) < needed:
        raise ValueError(
            f"vllm_max_model_length={args.vllm_max_model_length}, but a prompt takes {prompt} tokens and an answer "
            f"up to max_completion_length={args.max_completion_length}: set at least {needed}, or leave it unset."
        )
    return args.vllm_max_model_length or needed


def packs_rows(policy: PreTrainedModel, reference: PreTrainedModel | None, shared_prefix: str) -> bool:
    """Whether the answers to a clip share its prompt in one row: packed rows hold fewer tokens at every shape, so they
    are taken wherever they can be read.

    Args:
        policy: The policy.
        reference: Its reference, if there is one.
        shared_prefix: `VQAGRPOConfig.shared_prefix`.

    Raises:
        ValueError: If they must share it and a model's attention cannot read such rows.
    """
    found = {model.config.get_text_config()._attn_implementation for model in (policy, reference) if model is not None}
    if (others := sorted(found - {"sdpa", NAME})) and shared_prefix == "always":
        raise ValueError(
            f"shared_prefix='always' with attn_implementation={others[0]!r}: only 'sdpa' reads packed rows. Load the "
            "policy with it, and set it in model_init_kwargs too; or set shared_prefix='auto'."
        )
    return shared_prefix != "never" and not others


def check_models(
    policy: PreTrainedModel, reference: PreTrainedModel | None, longest_answer: int, prompt: int, synced: bool = False
) -> None:
    """Raise `ValueError` if policy or reference compute something else in the loss than in rollouts.

    TRL loads the reference from the policy's path; what lies there must be the same kind of model.

    Args:
        policy: The policy.
        reference: Its reference, if there is one.
        longest_answer: `max_completion_length`.
        prompt: Tokens of a prompt.
        synced: Whether the reference moves with the policy, weight by weight.
    """
    longest = prompt + longest_answer
    for model in filter(None, (policy, reference)):
        text = model.config.get_text_config()
        if text.rope_parameters["rope_type"] == "dynamic" and longest > text.max_position_embeddings:
            raise ValueError(
                f"a prompt and an answer of max_completion_length={longest_answer} take up to {longest} tokens, but "
                f"beyond max_position_embeddings={text.max_position_embeddings} the policy's rotary embedding rescales "
                "all positions, including those that rollouts keep. Lower max_completion_length or the number of "
                "frames."
            )
    if reference is not None and type(reference) is not type(policy):
        raise ValueError(
            f"the reference model at {policy.config._name_or_path!r} is a {type(reference).__name__}, the policy a "
            f"{type(policy).__name__}: save the policy and load it again, so that its path holds the policy, or set "
            "beta=0."
        )
    if reference is not None and (found := _shown_by(reference)) != (wanted := _shown_by(policy)):
        raise ValueError(
            f"the reference, loaded from {policy.config._name_or_path!r}, has {found}, the policy {wanted}: prompts "
            "for one do not fit the other. Save the policy and start from there, or set beta=0."
        )
    if reference is not None and synced and reference.config.score_head != policy.config.score_head:
        raise ValueError(
            f"sync_ref_model=True: the reference has score_head={reference.config.score_head!r}, the policy "
            f"{policy.config.score_head!r}, so their weights cannot be matched. Save the policy with its head and "
            "start from there."
        )


def _shown_by(model: PreTrainedModel) -> dict[str, Any]:
    """How a policy looks at clips: what must be the same where two see the same prompts."""
    config = model.config
    names = [stream.name for stream in model.streams]
    tokens = {name: getattr(config, name) for name in ("motion_tokens", "motion_max_frames", "low_tokens")}
    return {"streams": names, **tokens}
