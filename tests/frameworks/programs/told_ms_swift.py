"""A plug-in of ms-swift: our rewards, paid for given answers in place of those of a policy with random weights."""

import json
import os

from swift.rewards import orms

ANSWERS = json.loads(os.environ["TOLD_ANSWERS"])  # clip -> its answers


def told(name):
    def make(args=None, **settings):
        reward = orms[f"vqa_{name}"](args=args)

        def pay(completions, video_id, **columns):
            seen = [video_id[:place].count(clip) for place, clip in enumerate(video_id)]
            texts = [ANSWERS[clip][number] for clip, number in zip(video_id, seen, strict=True)]
            return reward(texts, video_id=video_id, **columns)

        pay.__name__ = f"told_{name}"
        return pay

    return make


orms.update({f"told_{name}": told(name) for name in ("regression", "rank")})
