#!/usr/bin/env bash
# GRPO in verl 0.9 with the rewards of this project: a vision-language model on the GPUs of one machine.
#
#   pip install 'verl[vllm]' qwen_vl_utils torchvision && pip install .      # this project: the rewards need numpy only
#   bash examples/other_trainers/verl.sh train.csv test.csv clips/ [further options of verl]
#
# verl pays one answer at a time: what is paid are the format and the regression reward. Ranking compares clips; the lines that
# add it are in docs/adapters.md (verl_trainer).
set -euo pipefail
here=$(dirname "$0")
train=${1:?train.csv} test=${2:?test.csv} clips=${3:?folder of the clips}
python "$here/rows.py" "$train" "$clips" train.parquet
python "$here/rows.py" "$test" "$clips" test.parquet

python -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo \
    data.train_files=train.parquet \
    data.val_files=test.parquet \
    data.train_batch_size=32 \
    data.max_prompt_length=4096 \
    data.max_response_length=512 \
    reward.custom_reward_function.path=pkg://rewards.adapters.verl \
    actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-3B-Instruct \
    actor_rollout_ref.model.enable_gradient_checkpointing=true \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.ppo_mini_batch_size=32 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
    actor_rollout_ref.actor.use_kl_loss=true \
    actor_rollout_ref.actor.kl_loss_coef=0.04 \
    actor_rollout_ref.rollout.name=vllm \
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.gpu_memory_utilization=0.5 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4 \
    actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4 \
    trainer.n_gpus_per_node=8 \
    trainer.nnodes=1 \
    trainer.logger='["console"]' \
    trainer.project_name=vqa \
    trainer.experiment_name=verl \
    trainer.total_epochs=3 \
    "${@:4}"
