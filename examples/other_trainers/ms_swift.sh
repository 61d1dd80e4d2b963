#!/usr/bin/env bash
# GRPO in ms-swift 4.6 with the rewards of this project: a LoRA of a vision-language model, on one GPU.
#
#   pip install ms-swift vllm qwen_vl_utils torchvision decord && pip install .      # this project: the rewards need numpy only
#   bash examples/other_trainers/ms_swift.sh labels.csv clips/ [further options of swift rlhf]
#
# A generation batch has 64 answers, 8 to a clip: ranking compares these 8 clips, and on several GPUs (NPROC_PER_NODE=4) the
# clips of all of them. docs/adapters.md
set -euo pipefail
here=$(dirname "$0")
labels=${1:?labels.csv} clips=${2:?folder of the clips}
python "$here/rows.py" "$labels" "$clips" rows.jsonl

FPS_MAX_FRAMES=6 VIDEO_MAX_PIXELS=200704 swift rlhf \
    --rlhf_type grpo \
    --model Qwen/Qwen2.5-VL-3B-Instruct \
    --dataset rows.jsonl \
    --external_plugins "$(python -m vqathinker.rewards.adapters ms_swift | head -n 1)" \
    --reward_funcs vqa_format vqa_regression vqa_rank \
    --tuner_type lora \
    --lora_rank 16 \
    --lora_alpha 32 \
    --torch_dtype bfloat16 \
    --per_device_train_batch_size 8 \
    --gradient_accumulation_steps 8 \
    --num_generations 8 \
    --max_completion_length 512 \
    --learning_rate 1e-5 \
    --beta 0.04 \
    --num_train_epochs 3 \
    --use_vllm true \
    --vllm_mode colocate \
    --vllm_gpu_memory_utilization 0.4 \
    --logging_steps 1 \
    --log_completions true \
    --output_dir runs/ms_swift \
    "${@:3}"
