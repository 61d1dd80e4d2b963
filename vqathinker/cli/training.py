"""`train`, `init`, `convert`, `merge`, `budget`, `inspect-rewards`: all that comes before a trained policy."""

from __future__ import annotations

import argparse
import inspect
import json
import runpy
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from vqathinker.arguments import add_command
from vqathinker.places import check_checkpoint, check_file, check_folder, check_output
from vqathinker.wording import counted, did_you_mean

RECIPES = {"grpo_lsvq": "GRPO on labels, questions or both", "sft_lsvq": "the supervised warm start before it"}
PER_FRAME = "per_frame"
"""What `--motion-tokens` takes beside numbers."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    for add in (_add_train, _add_init, _add_convert, _add_merge, _add_inspect, _add_budget):
        add(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "train",
        "run a recipe; for several processes use `accelerate launch recipes/RECIPE.py`",
        ["sft_lsvq --config warm_start.yaml", "grpo_lsvq --config mine.yaml --model runs/sft"],
        "\n".join(["recipes:", *(f"  {name:11}{text}" for name, text in RECIPES.items())])
        + "\n`vqathinker train RECIPE --help` lists the options of a recipe.",
        usage="vqathinker train RECIPE [OPTION ...]",
    )
    parser.add_argument("recipe", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=_train, parser=parser)


def _train(options: argparse.Namespace) -> None:
    name, *rest = options.recipe or [""]
    recipe = name.replace("-", "_")
    if recipe not in RECIPES:
        near = did_you_mean(recipe, RECIPES, f"name one of {', '.join(RECIPES)}.")
        options.parser.error(f"unknown recipe {name}: {near}" if name else f"name a recipe: {' or '.join(RECIPES)}.")
    sys.argv = [recipe, *rest]
    runpy.run_path(str(resources.files("vqathinker.recipes") / f"{recipe}.py"), run_name="__main__")


def _add_init(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "init",
        "make a policy from an InternVL3 or 3.5 checkpoint and SlowFast weights",
        [
            "--internvl InternVL3-8B-hf --slowfast SLOWFAST_8x8_R50.pyth --out models/8b",
            "--internvl InternVL3-1B-hf --slowfast random --motion-tokens 4 --out models/1b",
            "--internvl InternVL3-8B-hf --slowfast VQA2 --motion-tokens per_frame --out m/vqa2",
            "--policy models/8b --low-tokens 16 --low-level vit-base --out models/low",
        ],
    )
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--internvl", help="HF-format checkpoint, e.g. OpenGVLab/InternVL3-8B-hf")
    start.add_argument("--policy", help="a policy, to write once more with a low-level stream")
    parser.add_argument(
        "--slowfast",
        help="pytorchvideo checkpoint, e.g. SLOWFAST_8x8_R50.pyth, folder of a VQA² checkpoint, or 'random'",
    )
    _add_motion_tokens(parser)
    _add_low_level(parser)
    parser.add_argument(
        "--motion-run-length", type=int, default=1, help="frames per run of motion input; 1: sampled, more: dense"
    )
    parser.add_argument(
        "--layout",
        default="motion_last",
        choices=["motion_last", "interleaved"],
        help="a clip's motion tokens after its frames (published), or interleaved with them",
    )
    parser.add_argument(
        "--dtype", default="bfloat16", choices=["bfloat16", "float32"], help="type of the written weights"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write the policy to")
    parser.set_defaults(run=_init, parser=parser)


def _add_motion_tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--motion-tokens",
        type=_motion_tokens,
        default=1,
        metavar="NUMBER",
        help="motion tokens per clip; 0 leaves the motion branch out; "
        f"{PER_FRAME}: one for each frame of the clip, from SlowFast's fast pathway alone (VQA²)",
    )


def _motion_tokens(text: str) -> int | str:
    """A number, or one for each frame."""
    if text == PER_FRAME:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number or {PER_FRAME}.") from None


def _motion(options: argparse.Namespace) -> dict[str, Any]:
    """The policy's arguments on motion."""
    if options.motion_tokens != PER_FRAME:
        return {"motion_tokens": options.motion_tokens}
    from vqathinker.policy.motion import VQA2_MOTION

    published = options.slowfast != "random" and Path(options.slowfast or "").is_dir()
    return {"motion_tokens": 1, "motion_config": VQA2_MOTION if published else {"pathway": "fast"}}


def _add_low_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--low-tokens",
        type=int,
        default=0,
        help="low-level tokens per key frame, from patches at the frame's own resolution; default 0: no such stream",
    )
    parser.add_argument(
        "--low-level",
        metavar="VIT",
        help="ViT checkpoint that the low-level encoder starts from; default random ViT-B/16",
    )


def _init(options: argparse.Namespace) -> None:
    check_checkpoint(options.internvl or options.policy)
    if options.policy:
        return _init_low_level(options)
    if options.slowfast is None:
        options.parser.error("--internvl needs --slowfast: name SlowFast's weights, or say random.")
    _check_slowfast(options.slowfast)
    check_output("--out", options.out)
    from vqathinker.policy import VQAThinkerForConditionalGeneration, VQAThinkerProcessor

    policy = VQAThinkerForConditionalGeneration.from_internvl(
        options.internvl,
        options.slowfast,
        **_motion(options),
        motion_run_length=options.motion_run_length,
        low_tokens=options.low_tokens,
        low_level=options.low_level,
        dtype=options.dtype,
    )
    processor = VQAThinkerProcessor.from_internvl(options.internvl, policy.config)
    processor.layout = options.layout
    processor.render()  # says where the motion tokens cannot be dealt out to the frames
    processor.save_pretrained(options.out)
    policy.save_pretrained(options.out)
    print(f"wrote {options.out}")


def _check_slowfast(path: str | None) -> None:
    """A file, the folder of a checkpoint, or the word."""
    if path != "random" and not Path(path or "").is_dir():
        check_file("--slowfast", path)


def _init_low_level(options: argparse.Namespace) -> None:
    """All but the stream is the policy's, so options on other parts are refused."""
    own = ("slowfast", "motion_tokens", "motion_run_length", "layout", "dtype")
    if given := [
        f"--{name.replace('_', '-')}" for name in own if getattr(options, name) != options.parser.get_default(name)
    ]:
        options.parser.error(f"{', '.join(given)} with --policy: all but the low-level stream stays the policy's.")
    if options.low_tokens < 1:
        options.parser.error(f"--policy needs --low-tokens of at least 1, got {options.low_tokens}.")
    check_output("--out", options.out)
    from vqathinker.policy import add_low_level

    add_low_level(options.policy, options.out, options.low_tokens, options.low_level)
    print(f"wrote {options.out}")


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "convert",
        "make a policy from published weights (InternVLChat remote-code layout)",
        [
            "downloads/VQAThinker-8B --out models/vqathinker-8b",
            "downloads/InternVL3-8B --slowfast SLOWFAST_8x8_R50.pyth --out models/8b",
        ],
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=Path,
        help="folder with config.json, weights and tokenizer; none of its code runs",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write the policy to")
    parser.add_argument(
        "--slowfast",
        help="for a checkpoint without motion weights: pytorchvideo file, folder of a VQA² checkpoint, or 'random'",
    )
    _add_motion_tokens(parser)
    parser.add_argument(
        "--frames", type=int, default=12, help="key frames per clip (published: 6 in training, 12 in test)"
    )
    parser.add_argument(
        "--image-size", type=int, default=560, help="side of the key frames in pixels (published: 448 and 560)"
    )
    parser.add_argument("--prompt-style", default="test", choices=["train", "test"], help="published prompt to use")
    _add_low_level(parser)
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    check_checkpoint(options.checkpoint)
    _check_slowfast(options.slowfast)
    check_output("--out", options.out)
    from vqathinker.policy import convert_internvlchat

    convert_internvlchat(
        options.checkpoint,
        options.out,
        slowfast=options.slowfast,
        **_motion(options),
        num_frames=options.frames,
        image_size=options.image_size,
        prompt_style=options.prompt_style,
        low_tokens=options.low_tokens,
        low_level=options.low_level,
    )
    print(f"wrote {options.out}")


def _add_merge(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "merge",
        "merge an adapter and its base into one whole checkpoint, with processor",
        ["runs/lsvq_lora --out models/mine", "runs/lsvq_lora --base models/vqathinker-8b --out models/mine"],
    )
    parser.add_argument(
        "adapter", metavar="ADAPTER", type=Path, help="folder with adapter_config.json, as use_peft writes it"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write the whole policy to")
    parser.add_argument("--base", help="base policy of the adapter; default the one it was trained on")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="type of the written weights; auto: the base's",
    )
    parser.set_defaults(run=_merge)


def _merge(options: argparse.Namespace) -> None:
    check_folder("ADAPTER", options.adapter)
    check_output("--out", options.out)
    from vqathinker.policy import merge_adapter

    merge_adapter(options.adapter, options.out, options.base, options.dtype)
    print(f"wrote {options.out}")


def _add_budget(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "budget",
        "estimate the memory and time that a GRPO config needs on each GPU",
        ["--config lsvq_8gpu.yaml --model 8B", "--config lsvq_lora.yaml --model 8B --gpus 1 --zero 0 --use-vllm false"],
    )
    parser.add_argument("--config", required=True, type=Path, help="config of recipes/grpo_lsvq.py")
    parser.add_argument("--model", help="policy folder, or 1B, 2B, 8B for InternVL3 of that size; default the config's")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of all machines together")
    parser.add_argument("--zero", type=int, default=2, choices=[0, 1, 2, 3], help="DeepSpeed ZeRO stage, 0 = DDP")
    parser.add_argument("--memory", type=float, default=80, help="memory of each GPU, in GiB")
    parser.add_argument("--tflops", type=float, default=312, help="bf16 peak of each GPU, in TFLOP/s (A100: 312)")
    parser.add_argument(
        "--bandwidth", type=float, default=2.0, help="memory bandwidth of each GPU, in TB/s (A100: 2.0)"
    )
    parser.add_argument("--clips", type=int, default=28_056, help="clips in the training set (LSVQ: 28,056)")
    parser.add_argument(
        "--clip-frames", type=int, default=300, help="frames of a clip, which count with motion tokens per frame"
    )
    parser.add_argument("--use-vllm", choices=["true", "false"], help="override the config")
    parser.add_argument("--load-in-4bit", choices=["true", "false"], help="override the config")
    parser.set_defaults(run=_budget)


def _budget(options: argparse.Namespace) -> None:
    check_file("--config", options.config)
    from tabulate import tabulate

    from vqathinker.training import budget
    from vqathinker.training.step_time import seconds_per_step

    settings = budget.read_settings(options.config)
    for name in ("use_vllm", "load_in_4bit"):
        if getattr(options, name):
            settings[name] = getattr(options, name) == "true"
    model = options.model or settings["model"]
    config = budget.load_config(model, settings.get("image_size"))
    shape = budget.shape_of(settings, config, settings.get("frames") or 6, clip_frames=options.clip_frames)
    machine = budget.Machine(options.gpus, options.zero, options.memory, options.tflops, options.bandwidth)
    parts = budget.memory(settings, config, shape, machine)
    print(
        f"{model}: {counted(shape.clips, 'clip')} x {counted(shape.answers, 'answer')} on each of "
        f"{counted(machine.gpus, 'GPU')}, ZeRO-{machine.zero};"
    )
    print(f"a prompt of {shape.prompt} tokens, answers of up to {shape.completion}\n")
    print(tabulate([(name, size / budget.GIB) for name, size in parts.items()], ["on each GPU", "GiB"], floatfmt=".1f"))
    seconds = seconds_per_step(settings, config, shape, machine)
    shares = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    print(f"\nabout {sum(seconds.values()):.0f} s per step with answers of full length: {shares}")
    if line := budget.frame_cache(settings, config, shape, options.clips):
        print(line)
    left = machine.memory - parts["total"] / budget.GIB
    verdict = "fits" if left > 0 else "does NOT fit"
    print(f"{verdict} {machine.memory:g} GiB: {abs(left):.1f} GiB {'left' if left > 0 else 'too much'}")


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands,
        "inspect-rewards",
        "score answers from a file; needs no GPU and no model",
        ["answers.jsonl --preset official", "answers.jsonl --rewards format=1 regression=0.5 my_rewards:long"],
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help='JSON lines: {"completion", "mos", "video_id"}; optional: "perturbed_completion", and any column that '
        'rewards read ("kind" with "severity", "answer_count" ...); "mos" only if one needs it',
    )
    parser.add_argument("--preset", default="recommended", help="reward preset: paper, official or recommended")
    parser.add_argument(
        "--rewards", nargs="+", help="rewards instead of a preset: NAME=WEIGHT each, or package.module:attribute=WEIGHT"
    )
    parser.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> None:
    check_file("FILE", options.file)
    from tabulate import tabulate

    from vqathinker import rewards
    from vqathinker.rewards.reward import required_columns

    sys.path.append(str(Path.cwd()))  # where rewards of one's own may lie
    rubric = rewards.named_rewards(options.rewards) if options.rewards else rewards.preset(options.preset)
    rows = _read_answers(options.file, any("mos" in required_columns(reward) for reward in rubric.rewards))
    ids = [row["video_id"] for row in rows]
    if any({"kind", "severity"} <= row.keys() for row in rows) and not options.rewards:
        rubric = rubric.plus(rewards.Distortion())
    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    completions, perturbed = columns.pop("completion"), columns.pop("perturbed_completion", [None])
    if any(text is not None for text in perturbed):
        columns["perturbed_completions"] = perturbed
    if options.rewards:
        for reward in rubric.rewards:
            _check_applies(reward, columns, options.file)
    table = rubric.score(completions, **columns)
    advantages = rewards.advantages(table.total, ids)
    names = list(table.rewards)
    lines = [
        [ids[i], rows[i]["mos"], table.scores[i], *(table.rewards[n][i] for n in names), table.total[i], advantages[i]]
        for i in range(len(rows))
    ]
    header = ["video_id", "mos", "score", *names, "total", "advantage"]
    print(tabulate(lines, header, floatfmt=".3f", missingval="-", disable_numparse=[0]))
    print(", ".join(f"{name} {count}" for name, count in table.counters.items()))
    for name in rewards.zero_gradient_groups(table.total, ids):
        print(f"warning: all answers to {name!r} earn the same total: this group has zero gradient")


def _check_applies(reward: Any, columns: Mapping[str, list], file: Path) -> None:
    """Raise ValueError if a reward can be paid for no row, as the file lacks the columns that it reads."""
    from vqathinker.rewards.reward import required_columns

    applies = getattr(reward, "applies", lambda row: True)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    missing = [name for name in required_columns(reward) if name not in columns]
    if missing or not any(applies(row) for row in rows):
        parameters = inspect.signature(reward).parameters.values()
        reads = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "log_metric"]
        names = ", ".join(missing or reads or ["mos"]).replace("perturbed_completions", "perturbed_completion")
        raise ValueError(
            f"reward {reward.__name__!r} applies to no row of {file}: it reads {names}. Add what is missing to the "
            "rows, or leave the reward out."
        )


def _read_answers(file: Path, needs_mos: bool) -> list[dict]:
    """The rows, each with `mos`, which is None in a row without a label."""
    from vqathinker.rewards.parsing import wrong_label

    keys = ("completion", "mos", "video_id") if needs_mos else ("completion", "video_id")
    taken = ("self", "completions", "perturbed_completions", "log_metric")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}:{number}: not valid JSON ({error}).") from None
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise ValueError(f"{file}:{number}: lacks {missing}; a line has {', '.join(keys)}.")
        if wrong := [key for key in taken if key in row]:
            raise ValueError(
                f"{file}:{number}: {wrong} cannot be keys: an answer is called completion or perturbed_completion."
            )
        row.setdefault("mos", None)
        for key, kinds in (("completion", (str, list)), ("mos", (int, float)), ("video_id", (str, int))):
            if key == "mos" and row[key] is None:  # a row of another task
                continue
            if not isinstance(row[key], kinds) or isinstance(row[key], bool):  # True is an int
                raise ValueError(
                    f"{file}:{number}: {key} {row[key]!r} must be {' or '.join(k.__name__ for k in kinds)}."
                )
        if off := wrong_label(row["mos"]):
            raise ValueError(f"{file}:{number}: mos {row['mos']!r}: {off}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{file} holds no answers.")
    return rows
