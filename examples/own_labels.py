"""Own labels, a trained policy, a report: the whole way in Python.

    python examples/own_labels.py                                           # synthetic clips, some minutes on two cores
    python examples/own_labels.py --labels mine.csv --videos clips/ --scale 1,10 --steps 200

A table of ratings has a column for the video and one for each rater, or `video,mos`. `vqathinker fit` does the same
with settings that are fitted to the set; docs/own_clips.md.
"""

import argparse
from pathlib import Path

from transformers import AutoProcessor

from vqathinker import QualityScorer, VQAGRPOConfig, VQAGRPOTrainer, VQAThinkerForConditionalGeneration
from vqathinker.data import (
    ClipLoader,
    clip_dataset,
    label_table,
    read_ratings,
    score_samples,
    split_by_source,
    write_labels,
)
from vqathinker.evaluation.benchmark import run_benchmarks
from vqathinker.synth import SynthSpec, make_set
from vqathinker.synth.default import copy_base
from vqathinker.training import SFTCollator, SFTTrainer, VQASFTConfig, sft_dataset

PRETRAINED = ["vision_tower", "multi_modal_projector"]  # few clips teach a vision tower little


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="table of ratings; default: synthetic clips are made")
    parser.add_argument("--videos", type=Path, help="folder of the clips it names")
    parser.add_argument("--scale", help="lowest and highest rating, e.g. 1,10; default 1,5")
    parser.add_argument("--clips", type=int, default=120, help="synthetic clips")
    parser.add_argument("--steps", type=int, default=60, help="of the warm start, and of GRPO")
    parser.add_argument("--out", type=Path, default=Path("runs/own_labels"), help="folder for what is made")
    options = parser.parse_args(argv)
    out, labels, videos = options.out, options.labels, options.videos
    out.mkdir(parents=True, exist_ok=True)
    if labels is None:
        labels = make_set(out / "clips", SynthSpec(splits={"clips": options.clips}))["clips"]
        videos = out / "clips"

    # Clips to train on, and clips that no step sees
    clips = split_by_source(read_ratings(labels, videos, scale=options.scale).rows, 0.25)
    write_labels(clips.held_out, out / "test.csv")

    # Warm start: the shipped tiny policy learns the answer's form (a larger one, made by `vqathinker init`, knows it)
    copy_base(out / "base")
    policy = VQAThinkerForConditionalGeneration.from_pretrained(out / "base")
    processor = AutoProcessor.from_pretrained(out / "base")
    policy.freeze(PRETRAINED)
    common = {"max_steps": options.steps, "report_to": "none", "save_strategy": "no", "bf16": False}
    args = VQASFTConfig(out / "sft", per_device_train_batch_size=16, learning_rate=1e-3, **common)
    collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy)
    dataset = sft_dataset(score_samples(clips.train), processor, seed=0)
    trainer = SFTTrainer(policy, args, data_collator=collator, train_dataset=dataset, processing_class=processor)
    trainer.train()
    trainer.save_model(out / "sft")

    # GRPO: eight answers to each of four clips a step
    policy = VQAThinkerForConditionalGeneration.from_pretrained(out / "sft")
    policy.freeze(PRETRAINED)
    sizes = {"per_device_train_batch_size": 32, "num_generations": 8, "max_completion_length": 40, "perturb_every": 4}
    args = VQAGRPOConfig(out / "grpo", learning_rate=2e-4, scale_rewards="batch", **sizes, **common)
    trainer = VQAGRPOTrainer(policy, "recommended", args, clip_dataset(clips.train, processor), processor)
    trainer.train()
    trainer.save_model(out / "grpo")

    # The report: out/report/report.html, results.json and a CSV of the scores
    test = label_table(out / "test.csv", videos)
    scorer = QualityScorer.from_pretrained(out / "grpo")
    [result] = run_benchmarks(scorer, [test], [], out / "report", "examples/own_labels.py")
    print(f"{result.num_scored} of {result.num_videos} held-out clips scored, SRCC {result.srcc:.3f}")


if __name__ == "__main__":
    main()
