"""Supervised warm start on LSVQ-style labels, questions, or both: teaches the answer's format from templated traces.

    accelerate launch recipes/sft_lsvq.py --config recipes/configs/lsvq_sft.yaml --video-root /data/LSVQ
    vqathinker train sft_lsvq --config warm_start.yaml --output-dir runs/sft

Labels of one's own without --config take recipes/configs/own_sft.yaml, and a batch that fits the clips. Without any
labels it runs the embedded default: synthetic clips and a tiny policy, on any machine.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from torch.distributed.elastic.multiprocessing.errors import record
from transformers import set_seed

from vqathinker.chatter import set_verbose
from vqathinker.data import ClipLoader
from vqathinker.policy import VQAThinkerForConditionalGeneration, check_checkpoint
from vqathinker.synth.default import prepare_default
from vqathinker.training import (
    SFTCollator,
    SFTTrainer,
    VQASFTConfig,
    check_precision,
    load_dtype,
    sft_dataset,
)
from vqathinker.training.adapters import (
    AdapterArguments,
    get_peft_config,
    get_quantization_config,
    with_adapter,
)
from vqathinker.training.arguments import lacks_config, parse_recipe
from vqathinker.training.checkpoints import check_output_dir, delete_other_checkpoints
from vqathinker.training.console import add_console, closing_summary, parts_line
from vqathinker.training.head_loss import check_new_head, prepare_head
from vqathinker.training.preflight import preflight
from vqathinker.training.samples import DataArguments, LookArguments
from vqathinker.training.small_set import with_own_config
from vqathinker.training.stopping import StopEarly
from vqathinker.training.trainer import GIVE_UP_AFTER

CONFIGS = Path(__file__).parent / "configs"


@dataclass
class SFTArguments(AdapterArguments, DataArguments, LookArguments):
    """What to train on, and which adapter; all else is VQASFTConfig, and so transformers' TrainingArguments."""

    model: str = field(metadata={"help": "Policy folder, see `vqathinker init`."})
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Type of the loaded weights: 'float32', 'bfloat16', 'float16', or 'auto': float32, unless "
            "DeepSpeed keeps float32 master weights of 16-bit weights, or use_peft trains an adapter on them. "
            "bf16: true computes in bfloat16 either way."
        },
    )
    freeze: list[str] = field(default_factory=list, metadata={"help": "Parts to freeze: vision_tower, ..."})
    unfreeze: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Parts to train that are frozen otherwise: motion_encoder (VQA²'s stages). Its features of a clip "
            "are then computed in every step."
        },
    )
    score_head: str | None = field(
        default=None,
        metadata={
            "help": "A new score head, which reads 'visual' tokens or the prompt's last 'hidden' state; '' takes one "
            "away. Default the policy's own, if any."
        },
    )
    reasoning: bool = field(default=True, metadata={"help": "False: teach answers without reasoning."})
    strict_clips: bool = field(default=False, metadata={"help": "Stop at the first unreadable clip."})
    decode_threads: int = field(default=2, metadata={"help": "Clips decoded in parallel."})
    frame_cache: str | None = field(default=None, metadata={"help": "Folder of the lossless frame cache; '' for none."})
    frame_cache_gib: float = field(default=64, metadata={"help": "Cap on the frame cache, in GiB (LSVQ needs 118)."})

    def __post_init__(self) -> None:
        AdapterArguments.__post_init__(self)
        DataArguments.__post_init__(self)
        if self.unfreeze and self.use_peft:
            raise ValueError(
                f"unfreeze={self.unfreeze} with use_peft=True: beside an adapter SlowFast stays as it is. Train all "
                "weights (use_peft: false), or leave unfreeze out."
            )


@record  # the launcher shows the traceback of the process that failed first
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if lacks_config(argv, SFTArguments, VQASFTConfig):
        argv = with_own_config(argv, SFTArguments, VQASFTConfig) or embedded_default(argv)
    data, args = parse_recipe(argv, SFTArguments, VQASFTConfig, __doc__)
    set_verbose(data.verbose)
    if not data.overwrite_output_dir:
        check_output_dir(args)

    # Labels and policy
    samples = data.training(args.seed)
    clips = len({clip for sample in samples for clip in sample.clips})
    if PartialState().is_main_process:
        print(preflight(samples, mos_scale=data.mos_scale))
    check_checkpoint(data.model)
    check_new_head(data.score_head, data.model, args)
    processor = data.processor(data.model)
    told = clips if PartialState().is_main_process else None
    processor.use_cache(data.frame_cache, data.frame_cache_gib, told)
    dtype = load_dtype(data.dtype, args, data.use_peft)
    quantized = {"quantization_config": get_quantization_config(data, dtype)} if data.load_in_4bit else {}
    set_seed(args.seed)  # of a new score head; the trainer sets it again
    policy = VQAThinkerForConditionalGeneration.from_pretrained(
        data.model, dtype=dtype, score_head=data.score_head, **quantized
    )
    policy.freeze(data.freeze)
    prepare_head(policy, args)
    policy.unfreeze(data.unfreeze)  # behind the head, which may be all that is trained: that is refused later
    if PartialState().is_main_process:
        print(parts_line(policy, data.freeze, data.use_peft))
    trained = with_adapter(policy, get_peft_config(data, policy, data.freeze), args)
    check_precision(trained, args)

    # Trainer
    loader = ClipLoader(
        processor.load_clip,
        data.decode_threads,
        data.strict_clips,
        f"{args.output_dir}/skipped.jsonl",
        give_up_after=min(GIVE_UP_AFTER, max(1, clips // args.world_size)),  # a process sees its share
    )
    head = ("alone" if args.head_only else "beside") if args.head_weight else ""
    trainer = SFTTrainer(
        trained,
        args,
        data_collator=SFTCollator(processor, loader, policy, head, args),
        train_dataset=sft_dataset(samples, processor, args.seed, data.reasoning, args.level_targets),
        processing_class=processor,
    )
    add_console(trainer)
    stopping = StopEarly(data.max_minutes)
    trainer.add_callback(stopping)

    # Train, or go on: --resume-from-checkpoint FOLDER, or true for the newest checkpoint of output_dir
    delete_other_checkpoints(args)
    resume = args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint={"true": True, "false": None}.get(str(resume).lower(), resume))
    stopping.exit_if_interrupted(trainer.state, args)
    trainer.save_model(args.output_dir)
    trainer.save_state()
    if trainer.is_world_process_zero():
        files = "--train-labels FILE --mos-scale SCALE" if data.train_labels else "--questions FILE"
        following = [f"vqathinker train grpo_lsvq --model {args.output_dir} {files} --video-root DIR"]
        if data.ask != "score" and not data.reasoning:
            read = f"--readout levels --level-asked level --level-words {data.level_words}"
            following = [f"vqathinker score CLIPS --model {args.output_dir} {read}", *following]
        if args.head_weight:
            following = [f"vqathinker score CLIPS --model {args.output_dir} --readout head", *following]
        print(closing_summary(trainer.state, args, following))


def embedded_default(argv: list[str]) -> list[str]:
    """The options with the embedded default's config; its clips and base policy are made on the first run."""
    print("No --config and no labels given: running the embedded default, recipes/configs/demo_sft.yaml.")
    prepare_default("runs/demo")
    return ["--config", str(CONFIGS / "demo_sft.yaml"), *argv]


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # else gloo's threads may abort the exit of a run that is done
