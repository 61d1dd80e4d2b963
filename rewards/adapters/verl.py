"""verl 0.9 pays one answer at a time, verl 0.6 (`compute_scores`) the batch as a whole.

    reward.custom_reward_function.path=pkg://rewards.adapters.verl
    reward.custom_reward_function.name=compute_score
"""
