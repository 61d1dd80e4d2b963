"""GRPO on LSVQ-style labels (VQAThinker): learn from scores alone; or on questions, ladders, or all of them.

    accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/grpo_lsvq.py \\
        --config recipes/configs/lsvq_8gpu.yaml --video-root /data/LSVQ
    vqathinker train grpo_lsvq --config mine.yaml --model runs/sft --output-dir runs/mine

Labels of one's own without --config take recipes/configs/own.yaml, and a batch that fits the clips. Without any labels
it runs the embedded default: synthetic clips and a tiny policy, on any machine.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from torch.distributed.elastic.multiprocessing.errors import record
from transformers import EarlyStoppingCallback, set_seed
from transformers.trainer_utils import IntervalStrategy

from vqathinker.chatter import set_verbose
from vqathinker.data import Sample, read_questions
from vqathinker.policy import VQAThinkerForConditionalGeneration, check_checkpoint
from vqathinker.rewards import Contrast, Distortion, Rubric, named_rewards, preset
from vqathinker.tasks import TASKS, rotated, sample_dataset
from vqathinker.training import VQAGRPOConfig, VQAGRPOTrainer, load_dtype
from vqathinker.training.adapters import AdapterArguments, get_peft_config, get_quantization_config
from vqathinker.training.arguments import lacks_config, parse_recipe
from vqathinker.training.checkpoints import check_output_dir, delete_other_checkpoints
from vqathinker.training.console import closing_summary, parts_line
from vqathinker.training.head_loss import check_new_head, prepare_head
from vqathinker.training.preflight import preflight
from vqathinker.training.samples import (
    LadderArguments,
    LookArguments,
    distortion_reward,
    has_rungs,
    labelled_kinds,
    order_reward,
    with_tasks,
)
from vqathinker.training.small_set import with_own_config
from vqathinker.training.stopping import StopEarly

CONFIGS = Path(__file__).parent / "configs"
NO_RUNGS = "there are no rungs of ladders"
PAIR_REWARDS = ("pair_word", "pair_order", "pair_agreement", "product_hinge", "bradley_terry")
"""Those of `rewards.REWARDS` that pay for the task "compare"."""
RUNGS = "ladders, or labels with the columns ladder and rank"


@dataclass
class GRPOArguments(AdapterArguments, LadderArguments, LookArguments):
    """What to train on and what to reward, and which adapter; everything else is VQAGRPOConfig, and so GRPOConfig.

    `--reward-weights` of the latter, if given, are those of all rewards that are there: the preset's in its order, then
    distortion, contrast, order, those of questions, and those of pairs.
    """

    model: str = field(metadata={"help": "Policy folder, see `vqathinker init`."})
    preset: str = field(
        default="recommended",
        metadata={"help": "Reward preset for labelled clips: 'paper', 'official' or 'recommended'."},
    )
    rewards: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Rewards instead of a preset: NAME=WEIGHT each; NAME is one of rewards.REWARDS (format, "
            "regression, ...), or package.module:attribute for your own, in a package or the current folder."
        },
    )
    leave_out: list[str] = field(default_factory=list, metadata={"help": "Rewards of the preset to leave out."})
    distortion_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the distortion reward, for labels with kind and severity (default 1 there); 0 leaves "
            "it out."
        },
    )
    contrast_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the contrast reward, which also trains on the answers to perturbed copies and takes "
            "about 1.6 times as long (see perturb_every); 0 leaves it out."
        },
    )
    order_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the order reward, for ladders (default 1 there). With 0 it is left out, and the order "
            "of rungs unused."
        },
    )
    order_min_difference: float = field(
        default=0.0, metadata={"help": "Least difference of rank (CRF) at which the order of two rungs is paid for."}
    )
    choice_weight: float | None = field(
        default=None, metadata={"help": "Weight of the choice reward, for questions (default 1 there)."}
    )
    compare_weight: float | None = field(
        default=None, metadata={"help": "Weight of each reward for pairs (default 1 there)."}
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the loaded weights: 'float32', 'bfloat16', 'float16', or 'auto': float32, unless "
            "DeepSpeed keeps float32 master weights of 16-bit weights, or use_peft trains an adapter on them. "
            "bf16: true computes in bfloat16 either way."
        },
    )
    freeze: list[str] = field(default_factory=list, metadata={"help": "Parts to freeze: vision_tower, ..."})
    score_head: str | None = field(
        default=None,
        metadata={
            "help": "A new score head, which reads 'visual' tokens or the prompt's last 'hidden' state; '' takes one "
            "away. Default the policy's own, if any."
        },
    )
    val_labels: str | None = field(
        default=None,
        metadata={
            "help": "Held-out label file, scored when eval_strategy, eval_steps and eval_on_start say; '' for none, "
            "whatever they say."
        },
    )
    val_questions: str | None = field(
        default=None, metadata={"help": "Held-out question file, scored at the same steps; '' for none."}
    )
    val_rotations: bool = field(
        default=False,
        metadata={"help": "Ask each question of val_questions in every rotation of its options (choice_consistency)."},
    )
    val_pairs: float = field(default=0.0, metadata={"help": "Pairs in validation for each clip of val_labels."})
    early_stopping_patience: int = field(
        default=0,
        metadata={
            "help": "Stop after this many validations in a row without a better metric_for_best_model; 0: never."
        },
    )

    def __post_init__(self) -> None:
        AdapterArguments.__post_init__(self)
        LadderArguments.__post_init__(self)
        for name in ("distortion_weight", "contrast_weight", "order_weight", "choice_weight", "compare_weight"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0; 0 leaves the reward out.")
        if not self.val_pairs >= 0 or (self.val_pairs and not self.val_labels):
            raise ValueError(
                f"val_pairs={self.val_pairs} with val_labels={self.val_labels!r}: must be at least 0, and pairs are "
                "made of clips that val_labels lists."
            )
        if self.val_rotations and not self.val_questions:
            raise ValueError("val_rotations without val_questions: there are no options to rotate. Leave it out.")
        if self.early_stopping_patience < 0:
            raise ValueError(f"early_stopping_patience={self.early_stopping_patience}: must be at least 0.")


@record  # the launcher shows the traceback of the process that failed first
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if lacks_config(argv, GRPOArguments, VQAGRPOConfig):
        argv = with_own_config(argv, GRPOArguments, VQAGRPOConfig) or embedded_default(argv)
    data, args = parse_recipe(argv, GRPOArguments, VQAGRPOConfig, __doc__)
    set_verbose(data.verbose)
    if not data.overwrite_output_dir:
        check_output_dir(args)

    # Labels and policy
    check_validation(data, args)
    samples = data.training(args.seed)
    held_out = data.labelled(data.val_labels)
    held_out += data.paired(held_out, data.val_pairs, args.seed) if data.val_pairs else []
    asked = read_questions(data.val_questions, data.video_root or "") if data.val_questions else []
    held_out += rotated(asked) if data.val_rotations else asked
    if PartialState().is_main_process:
        print(preflight(samples, held_out, data.mos_scale))
    check_checkpoint(data.model)
    check_new_head(data.score_head, data.model, args)
    processor = data.processor(data.model)
    if {"dtype", "torch_dtype"} & set(args.model_init_kwargs or {}):
        raise ValueError(
            f"model_init_kwargs={args.model_init_kwargs}: set the type of the weights with `dtype`, not here."
        )
    dtype = load_dtype(data.dtype, args, data.use_peft)
    init = {"attn_implementation": "sdpa", "dtype": dtype} | (args.model_init_kwargs or {})
    init |= {"quantization_config": get_quantization_config(data, dtype)} if data.load_in_4bit else {}
    set_seed(args.seed)  # of a new score head; the trainer sets it again
    policy = VQAThinkerForConditionalGeneration.from_pretrained(data.model, score_head=data.score_head, **init)
    if data.use_peft or not args.beta:  # used up, but for the reference
        args.model_init_kwargs = None
    policy.freeze(data.freeze)
    prepare_head(policy, args)
    if PartialState().is_main_process:
        print(parts_line(policy, data.freeze, data.use_peft))

    # Trainer: K answers per clip, rewards over the global batch
    stopping, patience = StopEarly(data.max_minutes), data.early_stopping_patience
    trainer = VQAGRPOTrainer(
        policy,
        make_rubric(data, samples, args.reward_weights),
        args,
        train_dataset=sample_dataset(samples, processor),
        eval_dataset=sample_dataset(held_out, processor) if held_out else None,
        processing_class=processor,
        peft_config=get_peft_config(data, policy, data.freeze),
        callbacks=[stopping, *([EarlyStoppingCallback(patience)] if patience else [])],
    )

    # Train, or go on: --resume-from-checkpoint FOLDER, or true for the newest checkpoint of output_dir
    delete_other_checkpoints(args)
    resume = args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint={"true": True, "false": None}.get(str(resume).lower(), resume))
    stopping.exit_if_interrupted(trainer.state, args)
    trainer.save_model(args.output_dir)
    trainer.save_state()
    if trainer.is_world_process_zero():
        print(closing_summary(trainer.state, args, next_steps(data, args, samples)))


def check_validation(data: GRPOArguments, args: VQAGRPOConfig) -> None:
    """Held-out clips and when to score them: one does not go without the other."""
    held_out = {"val_labels": data.val_labels, "val_questions": data.val_questions}
    given = {name: file for name, file in held_out.items() if file}
    if given and args.eval_strategy == "no":
        told = ", ".join(f"{name}={file!r}" for name, file in given.items())
        raise ValueError(
            f"{told}, but eval_strategy='no': they would never be scored. Set eval_strategy: steps and eval_steps: 100 "
            f"(and eval_on_start: true for the untrained policy), or leave {' and '.join(given)} empty, on the command "
            f"line --{next(iter(given)).replace('_', '-')}=''."
        )
    if not given and "" in held_out.values():
        args.eval_strategy, args.eval_on_start = IntervalStrategy.NO, False
    needs = {"eval_strategy": IntervalStrategy(args.eval_strategy).value, "eval_on_start": args.eval_on_start}
    needs |= {"metric_for_best_model": args.metric_for_best_model}
    needs |= {"early_stopping_patience": data.early_stopping_patience}
    needs = {name: value for name, value in needs.items() if value not in (None, False, 0, "no")}
    if not given and needs:
        raise ValueError(
            f"{needs} without val_labels: there is nothing to validate on. Give val_labels, or leave these out."
        )
    if data.early_stopping_patience and args.metric_for_best_model is None:
        of_labels = "level_srcc" if data.ask == "level" else "srcc"
        args.metric_for_best_model, args.greater_is_better = of_labels if data.val_labels else "choice_accuracy", True
    metric = args.metric_for_best_model
    if metric and metric.endswith("compare_first_bias"):
        raise ValueError(
            f"metric_for_best_model={metric!r}: the best bias is 0, neither the highest nor the lowest. Set "
            "compare_accuracy."
        )
    if metric and metric.startswith("compare") and not data.val_pairs:
        raise ValueError(
            f"metric_for_best_model={metric!r} without val_pairs: there is nothing to compare. Set val_pairs."
        )
    if given and metric and metric.removeprefix("eval_") in TASKS["score"].metrics and not data.val_labels:
        raise ValueError(
            f"metric_for_best_model={metric!r} without val_labels: that is of scores, and questions have others, such "
            "as choice_accuracy. Set one of these, or give val_labels."
        )


def make_rubric(data: GRPOArguments, samples: list[Sample], weights: list[float] | None = None) -> Rubric:
    """The rewards that are named; or the preset's, distortion, contrast and order where they have a weight, and those
    of questions; with other weights, if given."""
    kinds, rungs = labelled_kinds(samples), has_rungs(samples)
    distortion, order = distortion_reward(samples), order_reward(data.order_min_difference)
    if data.order_min_difference and not rungs:
        raise ValueError(
            f"order_min_difference={data.order_min_difference}: {NO_RUNGS}. Leave it out, or give {RUNGS}."
        )
    if data.rewards:
        return named_rubric(data, weights, distortion, order)
    tasks = {sample.task for sample in samples}
    if data.choice_weight is not None and "choice" not in tasks:
        raise ValueError(
            f"choice_weight={data.choice_weight}: there are no questions. Leave it out, or give questions."
        )
    if data.compare_weight is not None and "compare" not in tasks:
        raise ValueError(f"compare_weight={data.compare_weight}: there are no pairs. Leave it out, or set pairs.")
    if data.compare_weight == 0:
        raise ValueError(
            f"compare_weight=0 with pairs={data.pairs}: steps would be spent on pairs that only the format pays. Leave "
            "pairs out, or give them a weight."
        )
    asked = {"choice": data.choice_weight, "compare": data.compare_weight}
    asked_weights = {task: 1.0 if weight is None else weight for task, weight in asked.items()}
    distortion_weight = float(bool(kinds)) if data.distortion_weight is None else data.distortion_weight
    if distortion_weight and not kinds:
        raise ValueError(
            f"distortion_weight={distortion_weight}: no label has a distortion, in the columns kind and severity. "
            "Leave it out, or add the columns."
        )
    order_weight = float(rungs) if data.order_weight is None else data.order_weight
    if data.order_min_difference and not order_weight:
        raise ValueError(
            f"order_min_difference={data.order_min_difference} with order_weight=0: there is no order reward to take "
            "it. Leave one of them out."
        )
    if order_weight and not rungs:
        raise ValueError(f"order_weight={order_weight}: {NO_RUNGS}. Leave it out, or give {RUNGS}.")
    further = [(distortion, distortion_weight), (Contrast(ladders=False), data.contrast_weight), (order, order_weight)]
    rubric = None
    if "score" in tasks:
        rubric = preset_of(data, samples)
        for reward, weight in further:
            rubric = rubric.plus(reward, weight) if weight else rubric
    rubric = without(with_tasks(rubric, samples, asked_weights), data.leave_out)
    return rubric if weights is None else rubric.weighted(weights)


def named_rubric(data: GRPOArguments, weights: list[float] | None, distortion: Distortion, order: Contrast) -> Rubric:
    """The rewards of `--rewards`; distortion and order know the labels' kinds and the least difference."""
    others = {"leave_out": data.leave_out, "distortion_weight": data.distortion_weight, "reward_weights": weights}
    others |= {"contrast_weight": data.contrast_weight or None, "order_weight": data.order_weight}
    others |= {"choice_weight": data.choice_weight, "compare_weight": data.compare_weight}
    if given := {name: value for name, value in others.items() if value not in (None, [])}:
        raise ValueError(
            f"rewards={data.rewards} with {given}: `rewards` already lists every reward with its weight. Leave the "
            "others out."
        )
    sys.path.append(str(Path.cwd()))  # where one's own may lie
    named = named_rewards(data.rewards)
    texts = [text.strip() for entry in data.rewards for text in entry.split(",")]
    names = [text.partition("=")[0].strip() for text in texts if text]
    check_named(data, names)
    set_up = {"distortion": distortion, "order": order}
    own = [set_up.get(name, reward) for name, reward in zip(names, named.rewards, strict=True)]
    return Rubric(own, named.weights)


def check_named(data: GRPOArguments, names: list[str]) -> None:
    """What `--rewards` must list: what pays for pairs and ladders, and what a least difference of rank is set on."""
    if data.order_min_difference and "order" not in names:
        raise ValueError(
            f"order_min_difference={data.order_min_difference} with rewards={data.rewards}: only `order` takes it. Add "
            "order, or leave it out; a reward of your own has its own settings."
        )
    pays = {"pairs": PAIR_REWARDS if data.pairs else (), "ladders": ("order",) if data.ladders else ()}
    for option, known in pays.items():
        if known and not any(name in known or ":" in name for name in names):
            raise ValueError(
                f"{option}={getattr(data, option)} with rewards={data.rewards}: none of them pays for {option}, on "
                f"which steps would be spent. Add {', '.join(known)}, or leave {option} out."
            )


def preset_of(data: GRPOArguments, samples: list[Sample]) -> Rubric:
    """The preset's rewards; where no clip has a label, those that need none."""
    rubric = preset(data.preset)
    if any(sample.target.get("mos") is not None for sample in samples):
        return rubric
    unlabelled = {"mos": None, "perturbed_completions": ""}
    return rubric.without([reward.__name__ for reward in rubric.rewards if not reward.applies(unlabelled)])


def without(rubric: Rubric, names: list[str]) -> Rubric:
    """A rubric without the rewards of `--leave-out`."""
    if unknown := sorted(set(names) - set(rubric.names)):
        raise ValueError(f"leave_out={unknown}: the only rewards are {rubric.names}. Leave out some of these.")
    return rubric.without(names)


def next_steps(data: GRPOArguments, args: VQAGRPOConfig, samples: list[Sample]) -> list[str]:
    """Commands for the policy that was trained."""
    folder, tasks = args.output_dir, {sample.task for sample in samples}
    steps = [f"vqathinker score CLIPS --model {folder} --csv scores.csv"] if "score" in tasks else []
    steps += [f"vqathinker eval --labels FILE --videos DIR --model {folder}"] if "score" in tasks else []
    if tasks - {"score", "compare"}:
        steps.append(f"vqathinker eval --questions FILE --video-root {data.video_root} --model {folder}")
    steps += [f"vqathinker compare A B --model {folder}"] if "compare" in tasks else []
    return steps + ([f"vqathinker merge {folder} --out DIR"] if data.use_peft else [])


def embedded_default(argv: list[str]) -> list[str]:
    """The options with the embedded default's config; clips, base policy and warm start are made on the first run."""
    print("No --config and no labels given: running the embedded default, recipes/configs/demo.yaml.")
    if not Path("runs/demo/sft/config.json").exists():
        sys.path.insert(0, str(Path(__file__).parent))
        import sft_lsvq

        sft_lsvq.main([])
        PartialState().wait_for_everyone()
    return ["--config", str(CONFIGS / "demo.yaml"), *argv]


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # else gloo's threads may abort the exit of a run that is done
