"""A LoRA trained with GRPO on one GPU.

    pip install -c constraints.txt '.[train,lora,vllm]'
    vqathinker init --internvl OpenGVLab/InternVL3-8B-hf --slowfast SLOWFAST_8x8_R50.pyth --out models/8b
    python examples/lora.py --model models/8b --labels train.csv --videos clips/ --use-vllm
    vqathinker score clips/ --model runs/lora --csv scores.csv

`train.csv` has the columns `video` and `mos`, from 1 to 5. `vqathinker budget --config recipes/configs/lsvq_lora.yaml
--model 8B --gpus 1 --zero 0` says what this takes: 43 GiB. That config is the same as a recipe, with further options.
"""

import argparse

import torch
from peft import LoraConfig
from transformers import AutoProcessor

from vqathinker import VQAGRPOConfig, VQAGRPOTrainer, VQAThinkerForConditionalGeneration
from vqathinker.data import clip_dataset, read_labels


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="policy folder, made by `vqathinker init`")
    parser.add_argument("--labels", required=True, help="CSV with the columns video,mos")
    parser.add_argument("--videos", required=True, help="folder of the clips it names")
    parser.add_argument("--out", default="runs/lora", help="folder of the adapter")
    parser.add_argument("--use-vllm", action="store_true", help="draw the answers with vLLM")
    parser.add_argument("--clips", type=int, default=16, help="clips in a step, even; each gets four answers")
    parser.add_argument("--tokens", type=int, default=2048, help="longest answer")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args(argv)

    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32  # of the base, which stays; what is trained is float32
    policy = VQAThinkerForConditionalGeneration.from_pretrained(options.model, dtype=dtype)
    processor = AutoProcessor.from_pretrained(options.model)
    rows = read_labels(options.labels, options.videos, "identity")
    args = VQAGRPOConfig(
        options.out,
        per_device_train_batch_size=8,  # answers: 2 clips x 4
        num_generations=4,
        gradient_accumulation_steps=options.clips // 2,
        max_steps=options.steps,
        max_completion_length=options.tokens,
        learning_rate=1e-5,  # an adapter takes larger steps than all weights
        bf16=on_gpu,
        gradient_checkpointing=on_gpu,
        use_vllm=options.use_vllm,
        vllm_gpu_memory_utilization=0.3,
        vllm_enable_sleep_mode=options.use_vllm,
        logging_steps=1,
        save_steps=100,
        report_to="none",
    )
    adapter = LoraConfig(r=16, lora_alpha=32)  # in each linear layer of the language model
    trainer = VQAGRPOTrainer(policy, "recommended", args, clip_dataset(rows, processor), processor, peft_config=adapter)
    trainer.train()
    trainer.save_model(options.out)


if __name__ == "__main__":
    main()
