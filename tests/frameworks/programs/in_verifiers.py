"""verifiers 0.4 with our function plugged by the configuration of a task: what each trace was paid."""

import asyncio
import json
import sys

import verifiers.v1 as vf

given = json.loads(sys.argv[1])


class Data(vf.TaskData):
    """A clip's columns."""

    mos: float | None = None
    video_id: str | None = None


class Clip(vf.Task[Data]):
    """A clip to be judged."""


def scored(text, mos):
    config = vf.TaskConfig(rewards={"vqa": {"fn": "rewards.adapters.verifiers:score"}})
    task = Clip(Data(prompt="How good is this video?", mos=mos, video_id="a"), config)
    trace = vf.Trace.model_construct(root_reply=text)  # what ran the agent is not needed
    asyncio.run(task.score(trace))
    return {"reward": trace.reward, **{name: reward.score for name, reward in trace.rewards.items()}}


paid = [scored(*row) for row in zip(given["answers"], given["mos"], strict=True)]
try:
    ended = str(scored(given["answers"][0], None))
except Exception as error:
    ended = f"{type(error).__name__}: {error}"
print("FOUND", json.dumps({"paid": paid, "ended": ended}))
