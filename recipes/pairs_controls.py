"""What pairs and pixels are worth on the embedded default: rungs as copies, the task of comparing, the low-level
stream.

    python recipes/pairs_controls.py                                # every arm, 3 seeds; takes hours
    python recipes/pairs_controls.py --arms score,rungs --seeds 0

Every arm starts from a warm start of its seed and trains for as many steps on as many answers as the others. A result
stands in runs/pairs_controls/ARM/SEED/result.json and is kept, so that a second call goes on where the first stopped,
until data, base, configs or arguments change. The table is printed and written to runs/pairs_controls/controls.json.
"""
